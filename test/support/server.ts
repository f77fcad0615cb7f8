import { mkdtemp, rm } from 'node:fs/promises';
import { type IncomingHttpHeaders, type IncomingMessage, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from '@jest/globals';
import { hashApiKey } from '../../src/auth/api-key.js';
import { ALL_PERMISSIONS, type Permission } from '../../src/auth/permissions.js';
import { newId } from '../../src/common/identifiers.js';
import { loadSettings } from '../../src/config/settings.js';
import type { PgConnection } from '../../src/engine/postgres/connection.js';
import { type RunningServer, startServer } from '../../src/server.js';
import { placeEmptyCatalog } from './empty-catalog.js';
import { stopBeforePostgres } from './postgres.js';

/** The owner's key of every test server, unless the test sets another. */
export const OWNER_KEY = 'bsk_owner-of-the-test-server-0123456789';

/** The contract's envelope, success and error in one, so that a test can look at either. */
interface Envelope<T> {
  success: boolean;
  data: T;
  meta?: { page: number; limit: number; total: number };
  error: string;
  code: string;
  fields?: Record<string, string>;
  requestId: string;
}

export interface Answer<T = unknown> {
  status: number;
  headers: IncomingHttpHeaders;
  /** The bytes as they came over the wire. */
  bytes: Buffer;
  /** The body read as JSON; only when it is. */
  body: Envelope<T>;
}

export interface RequestOptions {
  /** The API key; the owner's when left out, none with null. */
  key?: string | null;
  headers?: Record<string, string | string[]>;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it is, instead of `body`. */
  raw?: string | Buffer;
  signal?: AbortSignal;
}

/** A real server on a real socket, with a data folder of its own. */
export class TestServer {
  private constructor(
    readonly running: RunningServer,
    readonly dataDir: string,
  ) {}

  /** Starts a server; rate limits are off unless the test sets them. */
  static async start(env: NodeJS.ProcessEnv = {}): Promise<TestServer> {
    const dataDir = env['DATA_DIR'] ?? (await mkdtemp(join(tmpdir(), 'backstay-e2e-')));
    if (env['DATABASE_URL'] === undefined) await placeEmptyCatalog(dataDir);
    return new TestServer(await startServer(loadSettings(serverEnvironment(dataDir, env))), dataDir);
  }

  get url(): string {
    return this.running.url;
  }

  get foundation(): RunningServer['foundation'] {
    return this.running.foundation;
  }

  request<T>(method: string, path: string, options: RequestOptions = {}): Promise<Answer<T>> {
    return send<T>(this.url, method, path, options);
  }

  /** A JSON request as the owner, or as whoever holds `key`. */
  api<T>(method: string, path: string, body?: unknown, key?: string | null): Promise<Answer<T>> {
    return this.request<T>(method, path, { ...(body === undefined ? {} : { body }), ...(key === undefined ? {} : { key }) });
  }

  /** Writes a key into the catalog and gives it; of the default organization unless another is named. */
  async createKey(permissions: readonly Permission[] = ALL_PERMISSIONS, organizationId?: string): Promise<string> {
    const id = newId('key');
    const key = `bsk_${id}_0123456789abcdef`;
    await this.foundation.catalog.db
      .insertInto('api_keys')
      .values({
        id,
        organization_id: organizationId ?? this.foundation.installation.defaultOrganizationId,
        name: id,
        key_hash: hashApiKey(key),
        permissions: [...permissions],
      })
      .execute();
    return key;
  }

  /** Writes another organization into the catalog; gives its id and the key of somebody who may do everything there. */
  async createOrganization(name: string): Promise<{ id: string; key: string }> {
    const id = newId('org');
    await this.foundation.catalog.db.insertInto('organizations').values({ id, name }).execute();
    return { id, key: await this.createKey(ALL_PERMISSIONS, id) };
  }

  async stop(): Promise<void> {
    await this.running.stop();
    await rm(this.dataDir, { recursive: true, force: true });
  }
}

/** The environment of a test server, for this process or one of its own. */
export function serverEnvironment(dataDir: string, env: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return {
    PORT: '0',
    HOST: '127.0.0.1',
    LOG_LEVEL: 'silent',
    BOOTSTRAP_API_KEY: OWNER_KEY,
    RATE_LIMIT_DEFAULT: '0',
    RATE_LIMIT_STRICT: '0',
    RATE_LIMIT_LENIENT: '0',
    SHUTDOWN_GRACE_SECONDS: '1',
    CATALOG_BACKUPS: 'false',
    ...env,
    DATA_DIR: dataDir,
  };
}

/** Starts one server before the tests of a file (or describe block) and stops it after them. `env` may be a function, for what is known only then. */
export function useServer(env: NodeJS.ProcessEnv | (() => NodeJS.ProcessEnv) = {}): { readonly current: TestServer } {
  let server: TestServer | undefined;
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= server?.stop());
  beforeAll(async () => {
    server = await TestServer.start(typeof env === 'function' ? env() : env);
    stopBeforePostgres(stop);
  });
  afterAll(stop);
  return {
    get current() {
      if (server === undefined) throw new Error('the server is there only while tests run');
      return server;
    },
  };
}

/** Sends one request; the path goes over the wire exactly as given, and nothing is decompressed or followed. */
export async function send<T>(url: string, method: string, path: string, options: RequestOptions = {}): Promise<Answer<T>> {
  const response = await open(url, method, path, options);
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const bytes = Buffer.concat(chunks);
  const isJson = /application\/json/.test(response.headers['content-type'] ?? '') && !response.headers['content-encoding'];
  const body = (isJson ? JSON.parse(bytes.toString()) : undefined) as Envelope<T>;
  return { status: response.statusCode ?? 0, headers: response.headers, bytes, body };
}

/** As `send`, but gives the response as soon as its headers are there. */
export function open(url: string, method: string, path: string, options: RequestOptions = {}): Promise<IncomingMessage> {
  const { key = OWNER_KEY, headers = {}, body, raw, signal } = options;
  const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        hostname,
        port,
        method,
        path,
        agent: false,
        headers: {
          ...(key === null ? {} : { 'x-api-key': key }),
          ...(payload === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }),
          ...headers,
        },
        ...(signal ? { signal } : {}),
      },
      resolve,
    );
    request.on('error', reject);
    request.end(payload);
  });
}

/** A connection as a URL. */
export function urlOf({ host, port, database, user, password }: PgConnection): string {
  const credentials = [user, ...(password === undefined ? [] : [password])].map(encodeURIComponent).join(':');
  return `postgresql://${credentials}@${host}:${port}/${encodeURIComponent(database)}`;
}
