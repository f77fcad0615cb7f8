import { describe, expect, it } from '@jest/globals';
import { EngineError } from '../errors.js';
import { chooseClientPrograms, type ClientPrograms, hasKnownHoles, parseVersion } from './client-programs.js';

function programs(major: number, knownHoles = false): ClientPrograms {
  const binDir = `/pg/${major}/bin`;
  return { binDir, major, version: `${major}.1`, pgDump: '', pgDumpall: '', pgRestore: '', psql: null, knownHoles };
}

function codeOf(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    return error instanceof EngineError ? error.code : 'another error';
  }
  return 'no error';
}

describe('parseVersion', () => {
  it.each([
    ['pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n', { major: 15, minor: 20, version: '15.20' }],
    ['initdb (PostgreSQL) 18.1\n', { major: 18, minor: 1, version: '18.1' }],
    ['postgres (PostgreSQL) 19beta2\n', { major: 19, minor: 0, version: '19beta2' }],
    ['pg_dump (PostgreSQL) 9.6.24\n', { major: 9, minor: 6, version: '9.6' }],
  ])('reads %j', (output, expected) => {
    expect(parseVersion(output)).toEqual(expected);
  });

  it('finds none in what another program prints', () => {
    expect(parseVersion('GNU bash, version 5.2')).toBeNull();
  });
});

describe('hasKnownHoles', () => {
  it.each([
    [13, 23, true],
    [14, 24, true],
    [14, 25, false],
    [15, 19, true],
    [15, 20, false],
    [16, 15, true],
    [16, 16, false],
    [17, 11, true],
    [17, 12, false],
    [18, 6, true],
    [18, 7, false],
    [19, 0, false],
  ])('of %i.%i is %s', (major, minor, expected) => {
    expect(hasKnownHoles(major, minor)).toBe(expected);
  });
});

describe('chooseClientPrograms', () => {
  it('takes the lowest major that is not below that of the server', () => {
    expect(chooseClientPrograms([programs(18), programs(14), programs(16)], 15).major).toBe(16);
  });

  it('prefers a release without holes of the same major', () => {
    const patched = { ...programs(15), binDir: '/patched' };
    expect(chooseClientPrograms([programs(15, true), patched], 15).binDir).toBe('/patched');
  });

  it('goes to a newer major where patched programs are required', () => {
    expect(chooseClientPrograms([programs(15, true), programs(17)], 15, { requirePatched: true }).major).toBe(17);
  });

  it('says what is missing, too old or unpatched', () => {
    expect(codeOf(() => chooseClientPrograms([], 15))).toBe('TOOL_MISSING');
    expect(codeOf(() => chooseClientPrograms([programs(14)], 15))).toBe('TOOL_TOO_OLD');
    expect(codeOf(() => chooseClientPrograms([programs(15, true)], 15, { requirePatched: true }))).toBe('TOOL_UNPATCHED');
  });
});
