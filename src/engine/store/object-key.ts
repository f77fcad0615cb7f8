import { EngineError } from '../errors.js';

/** Names that a write in progress goes under. No key may use them, so that a sweep can't hit an object. */
export const TEMPORARY_PREFIX = '.tmp-';

const SEGMENT = /^[A-Za-z0-9._-]{1,200}$/;
const MAX_KEY_LENGTH = 1024;

/** Whether one part of a key, between two slashes, is one that every driver can store as it stands. */
export function isSegment(segment: string): boolean {
  return SEGMENT.test(segment) && segment !== '.' && segment !== '..' && !segment.startsWith(TEMPORARY_PREFIX);
}

/** Whether `key` is a '/'-separated relative path of segments. */
export function isKey(key: string): boolean {
  return typeof key === 'string' && key.length <= MAX_KEY_LENGTH && key.split('/').every(isSegment);
}

/**
 * The one place where keys are checked. Keys come from the catalog and from manifests, so a hostile one must stop here,
 * before any driver turns it into a path or a URL.
 * @throws EngineError STORE_FAILED
 */
export function assertKey(key: string): void {
  if (isKey(key)) return;
  throw new EngineError(
    'STORE_FAILED',
    `The object key ${JSON.stringify(String(key).slice(0, 120))} is not allowed.`,
    'Keys are relative paths of letters, digits, dots, hyphens and underscores, without "." or ".." as a part.',
  );
}

/**
 * Checks a folder name as `assertKey` does and strips one trailing slash; the empty string stands for the whole store.
 * @throws EngineError STORE_FAILED
 */
export function normalizePrefix(prefix: string): string {
  const bare = prefix.endsWith('/') ? prefix.slice(0, -1) : prefix;
  if (prefix !== '') assertKey(bare);
  return bare;
}
