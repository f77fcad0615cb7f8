import { types } from 'node:util';
import { EngineError, type EngineErrorCode } from '../errors.js';
import { describeConnection, type PgConnection } from './connection.js';
import { ProgramFailed } from './run-program.js';

export type PgProgram = 'pg_dump' | 'pg_dumpall' | 'pg_restore';

interface Known {
  pattern: RegExp;
  code: EngineErrorCode;
  message: (found: RegExpExecArray, context: Context) => string;
  hint: string;
}

interface Context {
  program: PgProgram;
  place: string;
}

const KNOWN: readonly Known[] = [
  {
    pattern: /server version: ([^;]+); pg_dump(?:all)? version: (\S+)/,
    code: 'TOOL_TOO_OLD',
    message: ([, server, client], { program, place }) => `${program} ${client} is older than the server at ${place} (${server}).`,
    hint: "Install client programs of the server's major or newer, or name their folder in PG_BIN_DIRS.",
  },
  {
    pattern: /unsupported version \(([\d.]+)\) in file header/,
    code: 'TOOL_TOO_OLD',
    message: ([, version], { program }) => `${program} is too old for this archive (format ${version}).`,
    hint: 'Use the pg_restore of the major that made the archive, or a newer one.',
  },
  {
    pattern: /password authentication failed for user "([^"]*)"|fe_sendauth: no password supplied|no pg_hba\.conf entry[^\n]*/,
    code: 'AUTHENTICATION_FAILED',
    message: ([text], { place }) => `The server at ${place} refused the login: ${text}.`,
    hint: 'Check the user name and the password of the connection, and pg_hba.conf.',
  },
  {
    pattern: /FATAL:\s+database "[^\n]*" does not exist/,
    code: 'DATABASE_NOT_FOUND',
    message: (_, { place }) => `There is no database at ${place}.`,
    hint: 'Check the name of the database.',
  },
  {
    // pg_dump makes --lock-wait-timeout a statement timeout of its LOCK TABLE.
    pattern: /canceling statement due to lock timeout|could not obtain lock on|statement timeout[^]*Query was: LOCK TABLE/,
    code: 'LOCK_TIMEOUT',
    message: (_, { program, place }) => `${program} could not lock a table at ${place} in time, since another session holds it.`,
    hint: 'Find the session in pg_stat_activity, try again later, or raise lockTimeoutMs of the source.',
  },
  {
    pattern: /out of shared memory|max_locks_per_transaction/,
    code: 'LOCKS_EXHAUSTED',
    message: (_, { program, place }) => `The lock table of the server at ${place} is full: ${program} locks every table at once.`,
    hint: 'Raise max_locks_per_transaction at the server (tables and sequences divided by max_connections, with room to spare) and restart it.',
  },
  {
    pattern: /query would be affected by row-level security policy for (?:table|relation) ("[^\n]*")/,
    code: 'PRIVILEGE_MISSING',
    message: ([, table], { place }) => `Row-level security hides rows of table ${table} at ${place} from this user.`,
    hint: 'Use the owner of the table, a superuser, or ALTER ROLE … BYPASSRLS: a backup of some of the rows would be false.',
  },
  {
    pattern:
      /permission denied for ((?:table|relation|schema|sequence|large object|view|function|foreign server|database|tablespace|role|type|language)[^\n]*)/,
    code: 'PRIVILEGE_MISSING',
    message: ([, object], { program, place }) => `The user of ${program} at ${place} has no right on ${object}.`,
    hint: 'GRANT the right to the user (pg_read_all_data covers every table), or use the owner.',
  },
  {
    pattern: /must be (?:owner of|superuser|member of role|able to SET ROLE)[^\n]*/,
    code: 'PRIVILEGE_MISSING',
    message: ([text], { program, place }) => `${program} at ${place} may not do that: ${text}.`,
    hint: 'Use a user with that right.',
  },
  {
    pattern: /role ("[^\n]*") does not exist/,
    code: 'RESTORE_FAILED',
    message: ([, role], { place }) =>
      `The server at ${place} has no role ${role}, which owns or may use something in the backup.`,
    hint: 'Create the role there first (globals.sql has it), or restore without owners and rights.',
  },
  {
    pattern: /No space left on device|could not extend file|disk full|Disk quota exceeded/i,
    code: 'DISK_FULL',
    message: (_, { program }) => `${program} found no space left on a disk.`,
    hint: 'Free space on the disk of the server, or of this machine.',
  },
  {
    pattern:
      /canceling statement due to statement timeout|idle-in-transaction timeout|idle transaction timeout|transaction timeout/,
    code: 'RUN_TIMEOUT',
    message: ([text], { program, place }) => `The server at ${place} ended ${program}: ${text}.`,
    hint: 'Raise the time-out for this user at the server.',
  },
  {
    pattern: /unsupported startup parameter/,
    code: 'POOLER_UNSUITABLE',
    message: (_, { place }) => `The connection pooler at ${place} refuses the settings that a backup needs.`,
    hint: 'Connect to the database directly or through a session pooler on port 5432.',
  },
  {
    pattern:
      /could not connect to server[^\n]*|connection to server [^\n]*failed[^\n]*|could not translate host name[^\n]*|server closed the connection unexpectedly|terminating connection due to[^\n]*|the database system is (?:shutting down|starting up)|SSL (?:error|connection)[^\n]*|server does not support SSL[^\n]*/,
    code: 'SOURCE_UNREACHABLE',
    message: ([text], { program, place }) => `${program} lost or did not get its connection to ${place}: ${text}.`,
    hint: 'Check host, port, TLS mode and firewall, and the log of the server.',
  },
];

const FALLBACK: Record<PgProgram, EngineErrorCode> = {
  pg_dump: 'DUMP_FAILED',
  pg_dumpall: 'DUMP_FAILED',
  pg_restore: 'RESTORE_FAILED',
};

/**
 * Says what a failed PostgreSQL program failed of, by what it wrote to stderr. Errors that are already EngineErrors come back as
 * they are. What stderr quotes is redacted and bounded.
 */
export function programError(program: PgProgram, failed: unknown, context: { connection: PgConnection }): EngineError {
  if (failed instanceof EngineError) return failed;
  const cause = { cause: failed };
  if (!(failed instanceof ProgramFailed)) {
    const message = types.isNativeError(failed) ? failed.message : 'unknown failure';
    return new EngineError(FALLBACK[program], redact(`${program} failed: ${message}.`), 'Look at the log of this server.', cause);
  }
  if (failed.stopped)
    return new EngineError('CANCELED', `${program} was canceled.`, 'Start it again if it is still wanted.', cause);
  const where: Context = { program, place: describeConnection(context.connection) };
  for (const { pattern, code, message, hint } of KNOWN) {
    const found = pattern.exec(failed.stderr);
    if (found !== null) return new EngineError(code, redact(clip(message(found, where), 600), context.connection), hint, cause);
  }
  if (failed.signal !== null) {
    const hint =
      failed.signal === 'SIGKILL' ? 'The system may have run out of memory: look at its log.' : 'Look at the log of the system.';
    return new EngineError(FALLBACK[program], `${program} was ended by ${failed.signal}.`, hint, cause);
  }
  const said = clip(firstError(failed.stderr), 600) || `it gave no reason (exit code ${failed.exitCode})`;
  return new EngineError(
    FALLBACK[program],
    redact(`${program} at ${where.place} failed: ${said.replace(/(?<![.…])$/, '.')}`, context.connection),
    'Look at the log of the database server for this time.',
    cause,
  );
}

function firstError(stderr: string): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  const first = lines.findIndex((line) => /\berror:|ERROR:|FATAL:/.test(line));
  return lines.slice(Math.max(first, 0)).join('\n').trim();
}

function clip(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length)}…`;
}

/** Takes passwords out of a text: those of URLs, of `password=` and `PASSWORD '…'`, and the one of this connection. */
export function redact(text: string, connection?: PgConnection): string {
  let clean = text
    .replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s/@]*@/gi, '$1***@')
    .replace(/(\bpass(?:word|wd|phrase)?\s*=\s*)(?:'(?:[^'\\]|\\.|'')*'?|\S+)/gi, '$1***')
    .replace(/(\bpassword\s+)'(?:[^']|'')*'?/gi, "$1'***'");
  const password = connection?.password;
  if (password !== undefined && password.length >= 4) clean = clean.split(password).join('***');
  return clean;
}
