import { describe, expect, it } from '@jest/globals';
import { EngineError } from '../errors.js';
import { programError, redact } from './program-error.js';
import { ProgramFailed } from './run-program.js';

const connection = {
  host: 'db.example.com',
  port: 5432,
  database: 'shop',
  user: 'backup',
  password: 'canary-password',
  tls: { mode: 'prefer' as const },
};

function mapped(stderr: string, program: 'pg_dump' | 'pg_restore' = 'pg_dump'): EngineError {
  return programError(program, new ProgramFailed(program, 1, null, stderr, false), { connection });
}

describe('programError', () => {
  it.each([
    [
      'pg_dump: error: connection to server at "h" (1.2.3.4), port 1 failed: Connection refused\n\tIs the server running?',
      'SOURCE_UNREACHABLE',
      'refused',
    ],
    [
      'pg_dump: error: could not translate host name "x" to address: Name or service not known',
      'SOURCE_UNREACHABLE',
      'translate',
    ],
    [
      'pg_dump: error: connection to server failed: FATAL:  password authentication failed for user "u"',
      'AUTHENTICATION_FAILED',
      '"u"',
    ],
    ['pg_dump: error: connection to server failed: FATAL:  database "x" does not exist', 'DATABASE_NOT_FOUND', 'shop'],
    [
      'pg_dump: error: query failed: ERROR:  permission denied for table secrets\npg_dump: detail: Query was: LOCK',
      'PRIVILEGE_MISSING',
      'table secrets',
    ],
    ['pg_dump: error: query failed: ERROR:  permission denied for schema "o d"', 'PRIVILEGE_MISSING', 'schema "o d"'],
    ['pg_dump: error: query failed: ERROR:  permission denied for large object 16423', 'PRIVILEGE_MISSING', '16423'],
    [
      'pg_dump: error: query failed: ERROR:  query would be affected by row-level security policy for table "t"',
      'PRIVILEGE_MISSING',
      '"t"',
    ],
    ['pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout', 'LOCK_TIMEOUT', 'lock'],
    [
      'pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout\npg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE',
      'LOCK_TIMEOUT',
      'lock',
    ],
    ['pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout', 'RUN_TIMEOUT', 'statement timeout'],
    [
      'ERROR:  out of shared memory\nHINT:  You might need to increase max_locks_per_transaction.',
      'LOCKS_EXHAUSTED',
      'lock table',
    ],
    [
      'pg_dump: error: aborting because of server version mismatch\npg_dump: detail: server version: 17.2; pg_dump version: 15.20 (Debian)',
      'TOOL_TOO_OLD',
      '17.2',
    ],
    ['pg_dump: error: could not write to output file: No space left on device', 'DISK_FULL', 'no space'],
    ['pg_dump: error: something new', 'DUMP_FAILED', 'something new'],
    ['', 'DUMP_FAILED', 'exit code 1'],
  ])('reads %j', (stderr, code, part) => {
    const error = mapped(stderr);
    expect(error.code).toBe(code);
    expect(error.message).toContain(part);
    expect(error.hint).not.toBe('');
  });

  it('tells a missing role and a newer archive of pg_restore', () => {
    expect(
      mapped('pg_restore: error: could not execute query: ERROR:  role "shop owner" does not exist', 'pg_restore').message,
    ).toContain('"shop owner"');
    expect(mapped('pg_restore: error: unsupported version (1.16) in file header', 'pg_restore').code).toBe('TOOL_TOO_OLD');
  });

  it('tells what we canceled from what failed', () => {
    const failed = new ProgramFailed('pg_dump', null, 'SIGTERM', 'pg_dump: error: terminated', true);
    expect(programError('pg_dump', failed, { connection }).code).toBe('CANCELED');
  });

  it('passes errors of the engine on', () => {
    const error = new EngineError('CANCELED', 'm', 'h');
    expect(programError('pg_dump', error, { connection })).toBe(error);
  });

  it('never repeats a password that stderr holds', () => {
    const error = mapped(
      "pg_dump: error: query was: CREATE USER MAPPING OPTIONS (password 'canary-one') password=canary-two postgres://u:canary-three@h/d canary-password",
    );
    expect(error.message).not.toContain('canary');
  });
});

describe('redact', () => {
  it.each([
    ['host=h password=canary dbname=d', 'host=h password=*** dbname=d'],
    ["password='ca nary' dbname=d", 'password=*** dbname=d'],
    ["ALTER ROLE x PASSWORD 'can''ary' LOGIN", "ALTER ROLE x PASSWORD '***' LOGIN"],
    ['see https://user:canary@host/path', 'see https://***@host/path'],
    ['nothing to hide', 'nothing to hide'],
  ])('of %j', (text, expected) => {
    expect(redact(text)).toBe(expected);
  });
});
