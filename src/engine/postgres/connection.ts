import { X509Certificate } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { EngineError } from '../errors.js';

export const TLS_MODES = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type TlsMode = (typeof TLS_MODES)[number];

/** Where a database is and who enters it. Everything here has been checked, and no part is expanded by libpq. */
export interface PgConnection {
  /** A host name, an address without brackets, or the folder of a unix socket. */
  host: string;
  port: number;
  database: string;
  user: string;
  password?: string;
  /** As libpq understands the modes: with a CA, `require` verifies the chain too. */
  tls: { mode: TlsMode; ca?: string /* PEM */ };
}

/** The fields form of a connection, as a user gives it. */
export interface ConnectionFields {
  host: string;
  port?: number;
  database: string;
  user: string;
  password?: string;
  tls?: { mode?: string; ca?: string };
}

export interface ConnectionRules {
  /** Whether `host` may be the folder of a unix socket. */
  allowUnixSockets: boolean;
}

/** Keywords of a URL that change nothing that matters here: the server sets them itself. */
const IGNORED_KEYWORDS = new Set(['connect_timeout', 'application_name']);
const FIELD_KEYWORDS = new Set(['host', 'hostaddr', 'port', 'dbname', 'user', 'password']);

function invalid(message: string, hint: string): EngineError {
  return new EngineError('CONNECTION_INVALID', message, hint);
}

/** Undoes percent-encoding; the value itself is never repeated, since it may be a password that was cut in the wrong place. */
function decode(value: string, part: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    throw invalid(`The ${part} of the connection URL is not well percent-encoded.`, 'Write "%" itself as "%25".');
  }
}

/**
 * Reads a `postgres://` or `postgresql://` URL: user, password, one host, port, database, and of the keywords only `sslmode`.
 *
 * @throws EngineError CONNECTION_INVALID naming the part or the keyword, never the value.
 */
export function parsePostgresUrl(url: string, rules: ConnectionRules): PgConnection {
  const scheme = /^postgres(?:ql)?:\/\//i.exec(url)?.[0];
  if (scheme === undefined) {
    throw invalid(
      'The connection URL does not start with postgres:// or postgresql://.',
      'Give postgres://user:password@host:5432/database.',
    );
  }
  const rest = url.slice(scheme.length);
  // As libpq does: credentials end at the first "@" before any "/", so both sides cut a URL at the same places.
  const credentials = /^([^@/]*)@/.exec(rest);
  const [, address = '', path = '', query = ''] =
    /^([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(rest.slice(credentials?.[0].length ?? 0)) ?? [];
  const [, user = '', password] = /^([^:]*)(?::(.*))?$/s.exec(credentials?.[1] ?? '') ?? [];
  if (address.includes('@') || path.includes('@')) {
    throw invalid(
      'The user name or the password in the connection URL holds a raw "@" or "/".',
      'Write "@" as "%40" and "/" as "%2F" in the URL.',
    );
  }
  const { host, port } = splitAddress(address);
  const mode = readKeywords(query);
  return validateConnection(
    {
      host,
      database: decode(path, 'database name'),
      user: decode(user, 'user name'),
      ...(port === undefined ? {} : { port }),
      ...(password === undefined ? {} : { password: decode(password, 'password') }),
      ...(mode === undefined ? {} : { tls: { mode } }),
    },
    rules,
  );
}

function splitAddress(address: string): { host: string; port?: number } {
  const found = /^(?:\[([^\]]*)\]|([^:]*))(?::(.*))?$/s.exec(address);
  if (found === null)
    throw invalid('The host in the connection URL cannot be read.', 'Write IPv6 addresses in brackets: [::1]:5432.');
  if (address.includes(',')) throw hostList();
  const host = decode(found[1] ?? found[2] ?? '', 'host');
  const port = found[3];
  if (port === undefined || port === '') return { host };
  return { host, port: /^\d{1,5}$/.test(port) ? Number(port) : Number.NaN };
}

function hostList(): EngineError {
  return invalid('The connection names several hosts.', 'Give one host: a backup reads from one server.');
}

function readKeywords(query: string): string | undefined {
  let mode: string | undefined;
  for (const pair of query.split('&').filter((part) => part !== '')) {
    const [rawKeyword = '', rawValue = ''] = pair.split('=', 2);
    const keyword = decode(rawKeyword, 'keyword list');
    if (keyword === 'sslmode') {
      if (mode !== undefined) throw invalid('The keyword "sslmode" stands there twice.', 'Give it once.');
      mode = decode(rawValue, 'keyword sslmode');
    } else if (!IGNORED_KEYWORDS.has(keyword)) throw refusedKeyword(keyword);
  }
  return mode;
}

function refusedKeyword(keyword: string): EngineError {
  // A stranger's text goes into the sentence only where it looks like a keyword.
  const name = /^[A-Za-z_][\w.-]{0,40}$/.test(keyword) ? `"${keyword}"` : 'with an unreadable name';
  if (keyword === 'sslrootcert') {
    return invalid(
      'The keyword "sslrootcert" names a file on the server, which is not allowed.',
      'Give the CA certificate itself, as PEM text in tls.ca.',
    );
  }
  if (keyword === 'pgbouncer') {
    return invalid(
      'The keyword "pgbouncer" tells of a transaction pooler, which keeps no session.',
      'Use the direct connection or the session pooler on port 5432.',
    );
  }
  if (FIELD_KEYWORDS.has(keyword)) {
    return invalid(
      `The keyword ${name} would override a part of the connection URL.`,
      'Give it once, in its own place: postgres://user:password@host:port/database.',
    );
  }
  return invalid(`The connection keyword ${name} is not allowed.`, 'Remove it; of the keywords only sslmode has an effect.');
}

/**
 * Checks a connection given as fields; the rules are those of the URL form. The port is 5432 and TLS `prefer` unless given.
 *
 * @throws EngineError CONNECTION_INVALID naming the field.
 */
export function validateConnection(fields: ConnectionFields, rules: ConnectionRules): PgConnection {
  const host = checkHost(fields.host, rules);
  const port = fields.port ?? 5432;
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw invalid(
      'The port of the connection is not a number from 1 to 65535.',
      'Give the port of the server, such as 5432; special characters in a password must be percent-encoded.',
    );
  }
  const database = checkName(fields.database, 'database name');
  const user = checkName(fields.user, 'user name');
  const connection: PgConnection = { host, port, database, user, tls: checkTls(fields.tls) };
  if (fields.password !== undefined && fields.password !== '') {
    if (fields.password.includes('\0')) throw invalid('The password holds a NUL character.', 'Give the password without it.');
    connection.password = fields.password;
  }
  return connection;
}

function checkHost(host: string, rules: ConnectionRules): string {
  if (host.includes(',')) throw hostList();
  // libpq takes an empty host for its default socket folder, and "@" for an abstract socket.
  if (host === '' || host.startsWith('/') || host.startsWith('@')) {
    if (!rules.allowUnixSockets) {
      throw invalid(
        'The connection goes through a unix socket, which is not allowed here.',
        'Give a host name or address, or set ALLOW_UNIX_SOCKETS=true.',
      );
    }
    if (!host.startsWith('/'))
      throw invalid('The connection names no host.', 'Give a host, or the absolute path of the socket folder.');
    if (hasControl(host)) throw invalid('The host holds a control character.', 'Remove it.');
    return host;
  }
  const wellFormed = host.includes(':') ? isIPv6(host) : host.length <= 255 && /^[\p{L}\p{N}_][\p{L}\p{N}._-]*$/u.test(host);
  if (!wellFormed) {
    throw invalid(
      'The host is neither a name nor an address.',
      'Give one host name, IPv4 or IPv6 address; nothing else may stand there.',
    );
  }
  return host;
}

function checkName(value: string, what: string): string {
  if (value === '')
    throw invalid(`The connection gives no ${what}.`, `Give the ${what}: postgres://user:password@host:5432/database.`);
  if (value.startsWith('-')) throw invalid(`The ${what} starts with "-".`, 'Programs would read it as an option: give another.');
  if (hasControl(value)) throw invalid(`The ${what} holds a control character.`, 'Remove it.');
  if (Buffer.byteLength(value) > 255) throw invalid(`The ${what} is longer than 255 bytes.`, 'Give its right name.');
  return value;
}

function hasControl(value: string): boolean {
  return /[\x00-\x1f\x7f]/.test(value);
}

function checkTls(tls: ConnectionFields['tls']): PgConnection['tls'] {
  const mode = TLS_MODES.find((known) => known === (tls?.mode ?? 'prefer'));
  if (mode === undefined) throw invalid('The TLS mode (sslmode) is not known.', `Give one of ${TLS_MODES.join(', ')}.`);
  const ca = tls?.ca?.trim();
  if (ca === undefined || ca === '') return { mode };
  if (ca.includes('PRIVATE KEY'))
    throw invalid('The CA certificate holds a private key.', 'Give the certificate alone, as PEM text.');
  try {
    void new X509Certificate(ca);
  } catch {
    throw invalid('The CA certificate cannot be read.', 'Give it as PEM text, from BEGIN CERTIFICATE to END CERTIFICATE.');
  }
  return { mode, ca: `${ca}\n` };
}

/** `host:port/database`, as messages name a connection: without user and password. */
export function describeConnection(connection: Pick<PgConnection, 'host' | 'port' | 'database'>): string {
  const host = connection.host.includes(':') ? `[${connection.host}]` : connection.host;
  return `${host}:${connection.port}/${connection.database}`;
}
