import { publicKeyOf } from './artifact/keys.js';

/** The keys that a text holds: a recovery kit, an age identity file, PEM files, or several of them one after the other. */
export interface KeysInText {
  /** age secrets, in their order. */
  identities: string[];
  /** Ed25519 public keys (SPKI PEM), those of private keys in the text included. */
  verifyingKeys: string[];
}

/** Reads every key that a text holds; what else stands in it is passed over. @throws EngineError KEY_INVALID for a broken signing key */
export function keysInText(text: string): KeysInText {
  const published = blocksIn(text, 'PUBLIC KEY');
  return {
    identities: identitiesIn(text),
    verifyingKeys: [...new Set([...published, ...signingKeysIn(text).map(publicKeyOf)])],
  };
}

/** The age secrets of a text, at the beginning of a line. */
export function identitiesIn(text: string): string[] {
  // Blanks of its own line alone: over line ends, a text of nothing else would be searched again from each of them.
  return [...new Set(text.match(/^[ \t]*AGE-SECRET-KEY-1[0-9A-Z]+/gm)?.map((line) => line.trim()) ?? [])];
}

/** The private signing keys (PKCS #8 PEM) of a text. */
export function signingKeysIn(text: string): string[] {
  return blocksIn(text, 'PRIVATE KEY');
}

/** PEM blocks, also where each line is a comment, as in the kit. */
function blocksIn(text: string, label: string): string[] {
  const plain = text.replace(/^[ \t]*#[ \t]?/gm, '').replaceAll('\r', '');
  const block = new RegExp(`-----BEGIN ${label}-----\n[A-Za-z0-9+/=\n]+?-----END ${label}-----`, 'g');
  return [...new Set(plain.match(block)?.map((pem) => `${pem}\n`) ?? [])];
}
