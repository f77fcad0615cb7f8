import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { EngineError } from '../errors.js';
import { connectError, failureOf, isTransient, statementError } from './connect-errors.js';
import { describeConnection, type PgConnection } from './connection.js';
import { startupOptions } from './settings.js';

const CONNECT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 2000;
/** Waits before the second and the third try. */
const BACKOFF_MS = [250, 1000];

export interface ClientOptions {
  /** Shown in pg_stat_activity; recovery finds our sessions by it. */
  applicationName: string;
  signal?: AbortSignal;
  /** 0, the default, means no limit. */
  statementTimeoutMs?: number;
  /** More settings for the start of the session. */
  settings?: Readonly<Record<string, string>>;
}

/**
 * Runs `fn` with one session, whose settings are pinned (see settings.ts), and closes it after. Tries three times where nobody
 * listens yet. When `signal` is aborted the connection is cut.
 *
 * @throws EngineError SOURCE_UNREACHABLE, AUTHENTICATION_FAILED, DATABASE_NOT_FOUND, PRIVILEGE_MISSING, POOLER_UNSUITABLE, CANCELED …;
 *   other errors of `fn` as they are.
 */
export async function withClient<T>(
  connection: PgConnection,
  options: ClientOptions,
  fn: (client: Client) => Promise<T>,
): Promise<T> {
  const { signal } = options;
  const session = await connect(connection, options);
  const abort = (): void => session.cut();
  signal?.addEventListener('abort', abort, { once: true });
  try {
    if (signal?.aborted) throw canceled(connection);
    await liftNewerTimeouts(session.client);
    return await fn(session.client);
  } catch (error) {
    if (signal?.aborted) throw canceled(connection, error);
    throw statementError(error, connection, 'A statement');
  } finally {
    signal?.removeEventListener('abort', abort);
    await session.close();
  }
}

interface Session {
  client: Client;
  /** Breaks the connection at once: what waits for an answer fails. */
  cut(): void;
  close(): Promise<void>;
}

function canceled(connection: PgConnection, cause?: unknown): EngineError {
  return new EngineError(
    'CANCELED',
    `The work on ${describeConnection(connection)} was canceled.`,
    'Start it again if it is still wanted.',
    { cause },
  );
}

async function connect(connection: PgConnection, options: ClientOptions): Promise<Session> {
  for (let attempt = 0; ; attempt++) {
    if (options.signal?.aborted) throw canceled(connection);
    try {
      return await connectOnce(connection, options);
    } catch (error) {
      const wait = BACKOFF_MS[attempt];
      if (wait === undefined || !isTransient(error)) throw connectError(error, connection);
      await delay(wait, undefined, options.signal ? { signal: options.signal } : {}).catch(() => undefined);
    }
  }
}

async function connectOnce(connection: PgConnection, options: ClientOptions): Promise<Session> {
  try {
    return await open(connection, options, connection.tls.mode !== 'disable');
  } catch (error) {
    const withoutTls = connection.tls.mode === 'prefer' && /does not support SSL/.test(failureOf(error).message);
    if (!withoutTls) throw error;
    return open(connection, options, false);
  }
}

async function open(connection: PgConnection, options: ClientOptions, tls: boolean): Promise<Session> {
  // Our own socket: the driver's end() during a handshake would never settle its connect().
  const socket = new Socket();
  const client = new Client({
    stream: () => socket,
    host: connection.host,
    port: connection.port,
    database: connection.database,
    user: connection.user,
    // A function, so that an absent password is never looked up in the environment or in ~/.pgpass.
    password: () => connection.password ?? '',
    ssl: tls && !connection.host.startsWith('/') ? tlsOptions(connection) : false,
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    options: startupOptions({
      statement_timeout: String(options.statementTimeoutMs ?? 0),
      // The database may say otherwise; a session that makes the copy of a read-only one has to write, and reading needs no such guard.
      default_transaction_read_only: 'off',
      ...options.settings,
    }),
  });
  // Without a listener a connection that breaks between two statements would end the process.
  client.on('error', () => undefined);
  const session: Session = {
    client,
    cut: () => void socket.destroy(new Error('the connection was cut')),
    close: async () => {
      const patience = new AbortController();
      await Promise.race([
        client.end().catch(() => undefined),
        delay(CLOSE_TIMEOUT_MS, undefined, { signal: patience.signal }).catch(() => undefined),
      ]);
      patience.abort();
      socket.destroy();
    },
  };
  options.signal?.addEventListener('abort', session.cut, { once: true });
  try {
    await client.connect();
    return session;
  } catch (error) {
    socket.destroy();
    if (options.signal?.aborted) throw canceled(connection, error);
    throw error;
  } finally {
    options.signal?.removeEventListener('abort', session.cut);
  }
}

function tlsOptions({ host, tls }: PgConnection): object {
  const verifyChain = tls.mode === 'verify-ca' || tls.mode === 'verify-full' || (tls.mode === 'require' && tls.ca !== undefined);
  return {
    host,
    rejectUnauthorized: verifyChain,
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.mode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
  };
}

/** Time-outs that older servers do not know, and so cannot stand in the start-up options. */
async function liftNewerTimeouts(client: Client): Promise<void> {
  await client.query(
    `select pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings
      where name in ('idle_session_timeout', 'transaction_timeout') and setting <> '0'`,
  );
}
