import type { Request } from 'express';

const LONGEST = 16_384;

/** The token of `Authorization: Bearer`; undefined where there is none, or a key was sent, which then decides alone. */
export function bearerToken({ headers }: Request): string | undefined {
  const key = headers['x-api-key'];
  if (typeof key === 'string' && key.trim() !== '') return undefined;
  const [, token] = /^Bearer +([\w.~+/=-]+) *$/i.exec(headers.authorization ?? '') ?? [];
  return token !== undefined && token.length <= LONGEST ? token : undefined;
}
