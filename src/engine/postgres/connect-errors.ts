import { types } from 'node:util';
import { EngineError } from '../errors.js';
import { describeConnection, type PgConnection } from './connection.js';

interface Failure {
  code: string | undefined;
  message: string;
}

/** Reads an error of the driver or the socket; an AggregateError (several addresses of one name) speaks by its first part. */
export function failureOf(error: unknown): Failure {
  const several =
    types.isNativeError(error) && 'errors' in error && Array.isArray(error.errors) ? (error.errors as unknown[]) : [];
  const first = several[0] ?? error;
  if (!types.isNativeError(first)) return { code: undefined, message: 'unknown failure' };
  const code = 'code' in first && typeof first.code === 'string' ? first.code : undefined;
  return { code, message: first.message.slice(0, 500) };
}

/** True where a second try soon after may succeed: nobody listens yet, or the server is starting up. */
export function isTransient(error: unknown): boolean {
  const { code } = failureOf(error);
  return code === 'ECONNREFUSED' || code === '57P03';
}

/** Turns a failure to connect into the error that the user is told of. Names the server and the database, never the password. */
export function connectError(error: unknown, connection: PgConnection): EngineError {
  if (error instanceof EngineError) return error;
  const { code, message } = failureOf(error);
  const place = describeConnection(connection);
  const cause = { cause: error };
  if (code === '28P01' || code === '28000' || /SASL|no password|password must be/i.test(message)) {
    if (/pg_hba\.conf/.test(message)) {
      return new EngineError(
        'AUTHENTICATION_FAILED',
        `The server at ${place} lets user "${connection.user}" not in from here: ${message}.`,
        'Allow this address, user and TLS mode in pg_hba.conf, or change the TLS mode of the connection.',
        cause,
      );
    }
    return new EngineError(
      'AUTHENTICATION_FAILED',
      `The server at ${place} refused the user "${connection.user}" or the password.`,
      'Check the user name and the password of the connection.',
      cause,
    );
  }
  if (code === '3D000') {
    return new EngineError('DATABASE_NOT_FOUND', `There is no database at ${place}.`, 'Check the name of the database.', cause);
  }
  if (code === '42501') {
    return new EngineError(
      'PRIVILEGE_MISSING',
      `User "${connection.user}" may not connect to ${place}.`,
      'GRANT CONNECT ON DATABASE to that user.',
      cause,
    );
  }
  if (/unsupported startup parameter/i.test(message)) {
    return new EngineError(
      'POOLER_UNSUITABLE',
      `The connection pooler at ${place} refuses the settings that a backup needs.`,
      'Connect to the database directly, or add "options" to ignore_startup_parameters of a session pooler.',
      cause,
    );
  }
  const [what, hint] = unreachable(code, message);
  return new EngineError('SOURCE_UNREACHABLE', `Cannot connect to ${place}: ${what}.`, hint, cause);
}

function unreachable(code: string | undefined, message: string): [what: string, hint: string] {
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return ['the host name is not known', 'Check the host name and the DNS of this machine.'];
  if (code === 'ECONNREFUSED') return ['nothing listens there', 'Check host and port, and that the server runs.'];
  if (code === '53300') return ['the server has no connection left', 'Raise max_connections or end idle sessions.'];
  if (code === '57P03') return [message, 'Wait until the server accepts connections.'];
  if (code === 'ETIMEDOUT' || code === 'EHOSTUNREACH' || code === 'ENETUNREACH' || /timeout/i.test(message)) {
    return ['no answer in time', 'Check host, port, firewall and route.'];
  }
  if (/does not support SSL/.test(message)) {
    return ['the server offers no TLS', 'Turn TLS on at the server, or set the TLS mode to "disable" or "prefer".'];
  }
  if (code?.startsWith('ERR_TLS') || /certificate|self-signed|altname/i.test(message)) {
    return [`its certificate is not accepted (${message})`, 'Upload the CA that signed it, or check the host name in it.'];
  }
  return [message, 'Check host, port and TLS mode, and the log of the server.'];
}

/**
 * Turns a failure of a statement into an EngineError where it has a known meaning; any other error comes back as it is.
 *
 * @param doing what was being done, as the start of a sentence, such as "Reading the catalog".
 */
export function statementError(error: unknown, connection: PgConnection, doing: string): unknown {
  if (error instanceof EngineError) return error;
  const { code, message } = failureOf(error);
  const where = `${doing} at ${describeConnection(connection)} failed: ${message}.`;
  const cause = { cause: error };
  switch (code) {
    case '42501':
      return new EngineError('PRIVILEGE_MISSING', where, `GRANT the missing right to "${connection.user}".`, cause);
    case '55P03':
      return new EngineError(
        'LOCK_TIMEOUT',
        where,
        'Another session holds the lock: try again later, or raise lockTimeoutMs of the source.',
        cause,
      );
    case '53200':
      return new EngineError('LOCKS_EXHAUSTED', where, 'Raise max_locks_per_transaction at the server and restart it.', cause);
    case '53100':
      return new EngineError('DISK_FULL', where, 'Free space on the disk of the server.', cause);
    case '57014':
      return new EngineError('RUN_TIMEOUT', where, 'Raise the statement timeout.', cause);
    case '22021':
      // Values may be any bytes, they pass as they are; names have to be read.
      return new EngineError(
        'DUMP_FAILED',
        where,
        'The database has the encoding SQL_ASCII, and a name in it is not UTF-8: rename that schema, table or sequence.',
        cause,
      );
    case '57P01':
    case '57P02':
    case '57P03':
    case 'ECONNRESET':
    case 'EPIPE':
      return new EngineError('SOURCE_UNREACHABLE', where, 'The server ended the connection: check its log and try again.', cause);
    default:
      if (/Connection terminated|not queryable/.test(message)) {
        return new EngineError(
          'SOURCE_UNREACHABLE',
          where,
          'The server ended the connection: check its log and try again.',
          cause,
        );
      }
      return error;
  }
}
