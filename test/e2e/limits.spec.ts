import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { type Answer, TestServer, urlOf } from '../support/server.js';
import { TestPostgres } from '../support/postgres.js';

const DEFAULT = 4;
const STRICT = 2;
const LENIENT = 6;

let postgres: TestPostgres;
let stopped = false;
const servers: TestServer[] = [];
let direct: TestServer;

/** A server on the shared catalog, with small limits. */
async function start(trustProxy: number): Promise<TestServer> {
  const server = await TestServer.start({
    DATABASE_URL: urlOf(postgres.connection('catalog')),
    SECRET_KEY: SECRET,
    ROLE: 'api',
    TRUST_PROXY: String(trustProxy),
    RATE_LIMIT_DEFAULT: String(DEFAULT),
    RATE_LIMIT_STRICT: String(STRICT),
    RATE_LIMIT_LENIENT: String(LENIENT),
  });
  servers.push(server);
  return server;
}

const SECRET = randomBytes(32).toString('base64');

beforeAll(async () => {
  postgres = await TestPostgres.start();
  await postgres.createDatabase('catalog');
  direct = await start(0);
});

afterAll(async () => {
  await Promise.all(servers.map((server) => server.stop().catch(() => undefined)));
  if (!stopped) await postgres.stop();
});

async function statuses(count: number, ask: () => Promise<Answer>): Promise<number[]> {
  const found: number[] = [];
  for (let i = 0; i < count; i += 1) found.push((await ask()).status);
  return found;
}

const times = (count: number, status: number) => Array<number>(count).fill(status);

describe('the rate limit', () => {
  it.each([
    ['default', DEFAULT, '/api/sources'],
    ['strict', STRICT, '/api/keys'],
    ['lenient', LENIENT, '/api/backups/list'],
  ])('of the tier %s lets %d requests a minute through to %s', async (_, limit, path) => {
    const key = await direct.createKey();
    for (let i = 1; i <= limit; i += 1) {
      const { status, headers } = await direct.api('GET', path, undefined, key);
      expect(status).toBe(200);
      expect(headers).toMatchObject({ 'x-ratelimit-limit': String(limit), 'x-ratelimit-remaining': String(limit - i) });
    }
    const over = await direct.api('GET', path, undefined, key);
    expect(over.status).toBe(429);
    expect(over.body).toMatchObject({ success: false, code: 'RATE_LIMITED', requestId: over.headers['x-request-id'] });
    expect(over.headers).toMatchObject({ 'x-ratelimit-limit': String(limit), 'x-ratelimit-remaining': '0' });
    for (const name of ['retry-after', 'x-ratelimit-reset']) {
      expect(Number(over.headers[name])).toBeGreaterThan(0);
      expect(Number(over.headers[name])).toBeLessThanOrEqual(60);
    }
  });

  it('counts each route by itself', async () => {
    const key = await direct.createKey();
    expect(await statuses(STRICT + 1, () => direct.api('GET', '/api/keys', undefined, key))).toEqual([
      ...times(STRICT, 200),
      429,
    ]);
    expect((await direct.api('GET', '/api/sources', undefined, key)).status).toBe(200);
  });

  it('counts a route with an id as one route', async () => {
    const key = await direct.createKey();
    const found: number[] = [];
    for (let i = 0; i <= DEFAULT; i += 1) found.push((await direct.api('GET', `/api/sources/s${i}`, undefined, key)).status);
    expect(found).toEqual([...times(DEFAULT, 404), 429]);
  });

  it('counts each key by itself, although they come from one address', async () => {
    const [one, two] = [await direct.createKey(), await direct.createKey()];
    expect(await statuses(STRICT + 1, () => direct.api('GET', '/api/keys', undefined, one))).toEqual([
      ...times(STRICT, 200),
      429,
    ]);
    expect(await statuses(STRICT + 1, () => direct.api('GET', '/api/keys', undefined, two))).toEqual([
      ...times(STRICT, 200),
      429,
    ]);
  });

  it('counts refused requests too', async () => {
    const key = await direct.createKey(['backup:read']);
    expect(await statuses(STRICT + 1, () => direct.api('GET', '/api/keys', undefined, key))).toEqual([
      ...times(STRICT, 403),
      429,
    ]);
  });

  it('counts wrong keys by the address they come from, so that nobody can try many', async () => {
    const guess = () => direct.api('GET', '/api/keys', undefined, `bsk_${randomBytes(24).toString('hex')}`);
    expect(await statuses(STRICT + 2, guess)).toEqual([...times(STRICT, 401), 429, 429]);
    expect((await direct.api('GET', '/api/keys', undefined, null)).status).toBe(429);
    expect((await direct.api('GET', '/api/keys', undefined, await direct.createKey())).status).toBe(200);
  });

  it('leaves probes and metrics alone', async () => {
    for (const path of ['/api/status/live', '/api/status/ready', '/api/status/metrics'])
      expect(await statuses(LENIENT + 5, () => direct.api('GET', path))).toEqual(times(LENIENT + 5, 200));
  });

  it('lets exactly the allowed number through when all come at once', async () => {
    const key = await direct.createKey();
    const answers = await Promise.all(Array.from({ length: 20 }, () => direct.api('GET', '/api/sources', undefined, key)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(DEFAULT);
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(20 - DEFAULT);
  });
});

describe("a client's address", () => {
  /** Asks a strict route without a key, as a client who writes what he likes into the header. */
  const ask = (server: TestServer, forwardedFor: string) =>
    server.request('POST', `/api/keys/confirm-saved`, { key: null, headers: { 'x-forwarded-for': forwardedFor } });

  it("is the socket's when no proxy is trusted, whatever the client says", async () => {
    let spoofed = 0;
    expect(await statuses(STRICT + 1, () => ask(direct, `198.51.100.${++spoofed}`))).toEqual([...times(STRICT, 401), 429]);
  });

  it('is what the one trusted proxy says, and not what stands before it', async () => {
    const server = await start(1);
    let spoofed = 0;
    const client = (address: string) => () => ask(server, `198.51.100.${++spoofed}, ${address}`);
    expect(await statuses(STRICT + 1, client('203.0.113.1'))).toEqual([...times(STRICT, 401), 429]);
    expect(await statuses(STRICT + 1, client('203.0.113.2'))).toEqual([...times(STRICT, 401), 429]);
  });

  it('is what the outer of two trusted proxies says', async () => {
    const server = await start(2);
    let spoofed = 0;
    const client = (address: string) => () => ask(server, `198.51.100.${++spoofed}, ${address}, 10.0.0.${spoofed}`);
    expect(await statuses(STRICT + 1, client('203.0.113.1'))).toEqual([...times(STRICT, 401), 429]);
    expect(await statuses(STRICT + 1, client('203.0.113.2'))).toEqual([...times(STRICT, 401), 429]);
  });
});

describe('a server whose catalog is gone', () => {
  it('says that it is alive and not ready, and answers 503 until then', async () => {
    expect((await direct.api('GET', '/api/status/ready', undefined, null)).status).toBe(200);
    await postgres.stop();
    stopped = true;
    // The first requests find broken connections, later ones none at all.
    for (let i = 0; i < 3; i += 1) {
      const ready = await direct.api('GET', '/api/status/ready', undefined, null);
      expect({ status: ready.status, ...ready.body }).toMatchObject({ status: 503, success: false, code: 'UNAVAILABLE' });
      // A page that nobody has asked for: one that is kept is answered for as long as the caller is known without the catalog, a few seconds.
      const list = await direct.api('GET', `/api/backups/list?limit=${90 + i}`);
      expect({ status: list.status, ...list.body }).toMatchObject({ status: 503, success: false, code: 'UNAVAILABLE' });
      expect(list.body.error).not.toMatch(/ECONN|127\.0\.0\.1|terminat/);
    }
    expect((await direct.api('GET', '/api/status/live', undefined, null)).status).toBe(200);
    const health = await direct.api<{ status: string }>('GET', '/api/status/health', undefined, null);
    expect(health.status).toBe(503);
    expect(health.body).toMatchObject({ success: true, data: { status: 'unhealthy' } });
  });
});
