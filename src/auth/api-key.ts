import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

const FORM = /^bsk_[\x21-\x7e]{4,508}$/;

/** A new key: `bsk_`, its id, and 256 random bits. Shown once, never stored. */
export function newApiKey(id: string): string {
  return `bsk_${id}_${randomBytes(32).toString('base64url')}`;
}

/** SHA-256 of a key. Keys have 256 random bits, so no slow hash is needed. */
export function hashApiKey(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/** True when the text could be a key at all; spares a look-up for anything else. */
export function looksLikeApiKey(text: string): boolean {
  return FORM.test(text);
}

/** Compares two hashes in constant time. */
export function sameHash(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
