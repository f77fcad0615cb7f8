import { StartError } from '../common/start-error.js';
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';

const VERSION = 'v1';
const IV_BYTES = 12;
const TAG_BYTES = 16;

/**
 * Encrypts stored credentials with AES-256-GCM. A sealed text names its key, so that keys can be rotated, and is bound to what it
 * belongs to, so that it can't be moved to another row.
 */
export class SecretBox {
  private readonly keyId: string;

  /** @param key 32 bytes */
  constructor(private readonly key: Buffer) {
    if (key.length !== 32) throw new Error('A secret key has 32 bytes');
    this.keyId = createHash('sha256').update('backstay key id').update(key).digest('hex').slice(0, 8);
  }

  /** @param boundTo what the secret belongs to, such as `source:<id>:password` */
  seal(secret: string, boundTo: string): string {
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.key, iv).setAAD(Buffer.from(boundTo));
    const sealed = Buffer.concat([iv, cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return `${VERSION}.${this.keyId}.${sealed.toString('base64url')}`;
  }

  /** @throws when it was sealed by another key, belongs to something else, or was changed */
  open(sealed: string, boundTo: string): string {
    const [version, keyId, text] = sealed.split('.');
    if (version !== VERSION || text === undefined) throw new Error('This is not a sealed secret of ours');
    if (keyId !== this.keyId) {
      throw new StartError(
        `A stored credential was sealed by the key ${keyId}, but SECRET_KEY is ${this.keyId}: start with the SECRET_KEY it was stored under, or enter the credential anew`,
      );
    }
    const bytes = Buffer.from(text, 'base64url');
    const decipher = createDecipheriv('aes-256-gcm', this.key, bytes.subarray(0, IV_BYTES)).setAAD(Buffer.from(boundTo));
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(bytes.subarray(IV_BYTES, -TAG_BYTES)), decipher.final()]).toString('utf8');
  }
}
