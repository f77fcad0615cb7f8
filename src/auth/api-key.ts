import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { type Permission, type Role, ROLE_PERMISSIONS } from './permissions.js';

/** Whose rights bound a key's. */
export interface KeyOwner {
  owner_user_id: string | null;
  /** Their role in the key's organization; null when they are no member. */
  owner_role: Role | null;
}

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

/**
 * What a key may do now: what it was given, less what the person on whose behalf it acts has lost since.
 * @returns undefined when they are no member of its organization any more, for then it may do nothing at all
 */
export function rightsOf(key: KeyOwner & { permissions: string[] }): readonly Permission[] | undefined {
  const given = key.permissions as Permission[];
  if (key.owner_user_id === null) return given;
  if (key.owner_role === null) return undefined;
  const held: readonly Permission[] = ROLE_PERMISSIONS[key.owner_role];
  return given.filter((permission) => held.includes(permission));
}

/** Compares two hashes in constant time. */
export function sameHash(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
