import { describe, expect, it } from '@jest/globals';
import { connectionOf, parseTableName } from './source-values.js';

describe('names of tables to leave out', () => {
  it.each([
    ['users', { schema: 'public', name: 'users' }],
    ['audit.log', { schema: 'audit', name: 'log' }],
    ['"a.b"."c""d"', { schema: 'a.b', name: 'c"d' }],
    ['Ünï."x y"', { schema: 'Ünï', name: 'x y' }],
  ])('are read exactly: %s', (text, parsed) => expect(parseTableName(text)).toEqual(parsed));

  it.each(['', 'a.b.c', '"open', 'a."'])('are refused when they are none: %s', (text) =>
    expect(() => parseTableName(text)).toThrow(/excludeTables/),
  );
});

describe('a connection in a request', () => {
  it('is either a URL or fields, never both', () => {
    expect(() => connectionOf({ url: 'postgresql://u@h/d', host: 'x' }, undefined, false)).toThrow(/url stands instead of host/);
  });

  it('names what is missing', () => {
    expect(() => connectionOf({ host: 'h' }, undefined, false)).toThrow(/database is needed.*user is needed/);
  });

  it('changes only what was given, and keeps the stored password', () => {
    const stored = connectionOf({ url: 'postgresql://u:secret@h:5433/d' }, undefined, false);
    expect(connectionOf({ host: 'other' }, stored, false)).toMatchObject({
      host: 'other',
      port: 5433,
      database: 'd',
      user: 'u',
      password: 'secret',
    });
  });

  it('never repeats a password in its refusal', () => {
    expect(() => connectionOf({ url: 'postgresql://u:canary@h/d?service=x' }, undefined, false)).toThrow(
      expect.not.stringContaining('canary'),
    );
  });
});
