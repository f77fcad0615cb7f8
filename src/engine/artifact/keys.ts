import { Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { EngineError } from '../errors.js';

/** A key pair that artifacts are encrypted to: the recipient is public, the identity is the secret. */
export interface AgeKeyPair {
  /** `AGE-SECRET-KEY-1…` */
  identity: string;
  /** `age1…` */
  recipient: string;
}

/** A key pair that manifests and certificates are signed with, as PEM: PKCS #8 and SPKI, as OpenSSL reads them. */
export interface SigningKeyPair {
  privateKeyPem: string;
  publicKeyPem: string;
}

/** Makes a new age key pair (X25519). */
export async function generateAgeKeyPair(): Promise<AgeKeyPair> {
  const identity = await generateX25519Identity();
  return { identity, recipient: await recipientOf(identity) };
}

/** The public key that belongs to an age identity. @throws EngineError KEY_INVALID, without the identity in its text */
export async function recipientOf(identity: string): Promise<string> {
  try {
    return await identityToRecipient(identity);
  } catch {
    // The library's message quotes the secret, so it must not travel on, not even as a cause.
    throw new EngineError(
      'KEY_INVALID',
      'An age identity could not be read.',
      'It is one line that starts with AGE-SECRET-KEY-1; check that it was copied whole.',
    );
  }
}

/** The form of an age public key (X25519). */
export const AGE_RECIPIENT = /^age1[02-9ac-hj-np-z]{58}$/;

/**
 * Checks public keys that artifacts shall be encrypted to and removes doubles.
 * @throws EngineError KEY_INVALID
 */
export function assertRecipients(recipients: readonly string[]): string[] {
  if (recipients.length === 0) {
    throw new EngineError('KEY_INVALID', 'There is no recipient to encrypt to.', 'Name at least one age public key (age1…).');
  }
  return [...new Set(recipients.map(assertRecipient))];
}

/** Checks one age public key and returns it trimmed. @throws EngineError KEY_INVALID */
export function assertRecipient(recipient: string): string {
  const trimmed = recipient.trim();
  if (/secret/i.test(trimmed)) {
    throw new EngineError(
      'KEY_INVALID',
      'A secret key was given where a public key belongs.',
      'Give the line that starts with age1 (age-keygen -y prints it), and treat that secret key as exposed.',
    );
  }
  try {
    new Encrypter().addRecipient(trimmed);
    return trimmed;
  } catch (cause) {
    const shown = trimmed.startsWith('age1') ? JSON.stringify(trimmed.slice(0, 80)) : 'A recipient';
    throw new EngineError(
      'KEY_INVALID',
      `${shown} is not an age public key.`,
      'It is one line that starts with age1; SSH keys and plugin recipients are not supported.',
      { cause },
    );
  }
}

/** Makes a new Ed25519 key pair for signatures. */
export function generateSigningKeyPair(): SigningKeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519', {
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  return { privateKeyPem: privateKey, publicKeyPem: publicKey };
}

/** The public half (SPKI PEM) of a signing key. @throws EngineError KEY_INVALID */
export function publicKeyOf(privateKeyPem: string): string {
  return createPublicKey(readSigningKey(privateKeyPem)).export({ type: 'spki', format: 'pem' }).toString();
}

/** The name of a signing key in signatures: the first 16 bytes of the SHA-256 of its SPKI encoding, in hex. */
export function keyId(publicKeyPem: string): string {
  const spki = readVerifyingKey(publicKeyPem).export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('hex').slice(0, 32);
}

/** Reads an Ed25519 private key. @throws EngineError KEY_INVALID */
export function readSigningKey(privateKeyPem: string): KeyObject {
  return readEd25519('private', () => createPrivateKey(privateKeyPem));
}

/** Reads an Ed25519 public key. @throws EngineError KEY_INVALID */
export function readVerifyingKey(publicKeyPem: string): KeyObject {
  return readEd25519('public', () => createPublicKey(publicKeyPem));
}

function readEd25519(half: 'private' | 'public', read: () => KeyObject): KeyObject {
  let key: KeyObject | undefined;
  try {
    key = read();
  } catch {
    key = undefined;
  }
  if (key?.asymmetricKeyType === 'ed25519') return key;
  throw new EngineError(
    'KEY_INVALID',
    `The ${half} signing key is not an Ed25519 key in PEM.`,
    'Restore the key file from its copy; a new one can be made with: openssl genpkey -algorithm ed25519.',
  );
}
