import { armor, Decrypter, Encrypter } from 'age-encryption';
import { EngineError } from '../errors.js';

/** 2^16: about a tenth of a second, and 64 MiB, for each guess. */
const WORK_FACTOR = 16;

/** Protects an identity by a passphrase: an armored age file, as `age -p` makes it. */
export async function wrapIdentity(identity: string, passphrase: string): Promise<string> {
  const encrypter = new Encrypter();
  encrypter.setScryptWorkFactor(WORK_FACTOR);
  encrypter.setPassphrase(passphrase);
  return armor.encode(await encrypter.encrypt(`${identity}\n`));
}

/** Opens an identity file that a passphrase protects. @throws EngineError KEY_INVALID, without a word of either */
export async function unwrapIdentity(file: string, passphrase: string): Promise<string> {
  const decrypter = new Decrypter();
  decrypter.addPassphrase(passphrase);
  try {
    return await decrypter.decrypt(armor.decode(file.trim()), 'text');
  } catch {
    throw new EngineError('KEY_INVALID', 'The passphrase does not open the key.', 'Check the passphrase; case and spaces count.');
  }
}

/** Whether a text is an age file in armor. */
export function isArmored(text: string): boolean {
  return text.trimStart().startsWith('-----BEGIN AGE ENCRYPTED FILE-----');
}
