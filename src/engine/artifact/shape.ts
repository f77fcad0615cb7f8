/** Reads one value of untrusted JSON into a known type; `at` says where it stands, for the error. */
export type Reader<T> = (value: unknown, at: string) => T;

/** What is wrong with a document, and where. */
export class ShapeError extends Error {
  override readonly name = 'ShapeError';
}

const SHA256 = /^[0-9a-f]{64}$/;
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$/;

/** A string of at most `max` UTF-16 units. */
export const text =
  (max = 10_000): Reader<string> =>
  (value, at) =>
    typeof value === 'string' && value.length <= max ? value : fail(at, 'a text');

/** An integer from 0 to 2^53 - 1. */
export const count: Reader<number> = (value, at) =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : fail(at, 'a count');

/** A SHA-256 in lower-case hex. */
export const sha256: Reader<string> = (value, at) =>
  typeof value === 'string' && SHA256.test(value) ? value : fail(at, 'a SHA-256 in hex');

/** A time in ISO 8601, UTC. */
export const time: Reader<string> = (value, at) =>
  typeof value === 'string' && TIME.test(value) && !Number.isNaN(Date.parse(value)) ? value : fail(at, 'a time in UTC');

/** A text that `test` agrees to. */
export const textLike =
  (test: (value: string) => boolean, what: string): Reader<string> =>
  (value, at) =>
    typeof value === 'string' && test(value) ? value : fail(at, what);

export const oneOf =
  <const T extends string | number>(values: readonly T[]): Reader<T> =>
  (value, at) =>
    values.includes(value as T) ? (value as T) : fail(at, `one of ${values.join(', ')}`);

export const orNull =
  <T>(reader: Reader<T>): Reader<T | null> =>
  (value, at) =>
    value === null ? null : reader(value, at);

/** Readers of fields that documents of earlier versions do not have. */
const MAY_BE_ABSENT = new WeakSet<object>();

/** As `orNull`, for a field that documents of earlier versions do not have. */
export const absentIsNull = <T>(reader: Reader<T>): Reader<T | null> => {
  const optional = orNull(reader);
  MAY_BE_ABSENT.add(optional);
  return optional;
};

export const list =
  <T>(reader: Reader<T>): Reader<T[]> =>
  (value, at) =>
    Array.isArray(value) ? value.map((entry, index) => reader(entry, `${at}[${index}]`)) : fail(at, 'a list');

/**
 * An object with these fields, in this order in the result. Every field must be the object's own; others are left out, so
 * that a later version may add some.
 */
export const record =
  <T extends object>(fields: { [K in keyof T]: Reader<T[K]> }): Reader<T> =>
  (value, at) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return fail(at, 'an object');
    const entries = Object.entries<Reader<unknown>>(fields).map(([name, reader]) => {
      const path = at === '' ? name : `${at}.${name}`;
      if (!Object.hasOwn(value, name)) return MAY_BE_ABSENT.has(reader) ? ([name, null] as const) : fail(path, 'present');
      return [name, reader((value as Record<string, unknown>)[name], path)] as const;
    });
    return Object.fromEntries(entries) as T;
  };

function fail(at: string, what: string): never {
  throw new ShapeError(`${at || 'it'} is not ${what}`);
}

/** Bytes as JSON. @throws ShapeError when they are no UTF-8 or no JSON */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw new ShapeError('it is not JSON');
  }
}
