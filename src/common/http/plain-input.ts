import { Errors } from '../errors.js';

/** Deeper than any request of ours; what walks a body by recursion would overflow its stack. */
const MOST_LEVELS = 32;

/** Fields that the class transformer drops in silence, where every other unknown field is refused. */
const RESERVED = new Set(['__proto__', 'constructor', 'prototype']);

/**
 * Refuses what the rules of a DTO can't see: a body that is a list, fields of such names that libraries drop them, texts that
 * PostgreSQL can't store as they are, and nesting without end.
 * @throws ApiError VALIDATION_ERROR that names the field
 */
export function assertPlainInput(input: unknown, where: 'body' | 'query'): void {
  if (where === 'body' && Array.isArray(input)) throw Errors.validation({ body: 'must be a JSON object, not a list' });
  const open: { value: unknown; path: string; level: number }[] = [{ value: input, path: '', level: 0 }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { value, path, level } = next;
    if (typeof value === 'string') assertText(value, path);
    if (typeof value !== 'object' || value === null) continue;
    if (level === MOST_LEVELS) throw Errors.validation({ [topOf(path)]: `is nested more than ${MOST_LEVELS} levels deep` });
    for (const name of Object.keys(value)) {
      const inner = path === '' ? name : `${path}.${name}`;
      if (RESERVED.has(name)) throw Errors.validation({ [inner]: 'is not a field of this request' });
      open.push({ value: (value as Record<string, unknown>)[name], path: inner, level: level + 1 });
    }
  }
}

function assertText(text: string, path: string): void {
  if (text.includes('\0')) throw Errors.validation({ [path]: 'holds a NUL character, which no text can have' });
  if (!text.isWellFormed()) throw Errors.validation({ [path]: 'holds half of a character (a surrogate without its other half)' });
}

function topOf(path: string): string {
  return path.split('.', 1)[0] ?? path;
}
