import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { newId } from '../../src/common/identifiers.js';
import { stopBeforePostgres, usePostgres } from '../support/postgres.js';
import { PASSWORD } from '../support/route-world.js';
import { good } from '../support/runs.js';
import { send, TestServer, urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

interface Tokens {
  token: string;
}
interface Entry {
  action: string;
  address: string;
}

const postgres = usePostgres();
/** Three servers on one catalog, which trust so many proxies. */
const servers: TestServer[] = [];

beforeAll(async () => {
  await postgres.current.createDatabase('catalog');
  const shared = {
    DATABASE_URL: urlOf(postgres.current.connection('catalog')),
    SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
    ROLE: 'api',
  };
  stopBeforePostgres(stop);
  for (const hops of [0, 1, 2]) servers.push(await TestServer.start({ ...shared, TRUST_PROXY: String(hops) }));
});
afterAll(stop);

async function stop(): Promise<void> {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
}

const one = () => servers[0]!;
const other = () => servers[1]!;

async function member(): Promise<string> {
  const email = `${newId('m').replace('_', '-')}@example.org`;
  const path = `/api/organizations/${one().foundation.installation.defaultOrganizationId}/members`;
  await good(one().api('POST', path, { email, role: 'viewer', password: PASSWORD }));
  return email;
}

function login(server: TestServer, email: string, password = PASSWORD, headers: Record<string, string> = {}) {
  return server.request<Tokens>('POST', '/api/auth/login', { key: null, headers, body: { email, password } });
}

describe('what was ended at one process, while another has it in use', () => {
  const me = async (server: TestServer, headers: Record<string, string>) =>
    (await server.request('GET', '/api/auth/me', { key: null, headers })).status;

  it('is refused there at once: a revoked key', async () => {
    const body = { name: newId('key'), permissions: ['backup:read'] };
    const { id, key } = await good(one().api<{ id: string; key: string }>('POST', '/api/auth/api-keys', body));
    for (const server of servers) expect(await me(server, { 'x-api-key': key })).toBe(200);
    await good(other().api('DELETE', `/api/auth/api-keys/${id}`));
    expect(await me(other(), { 'x-api-key': key })).toBe(401);
    for (const server of servers) await until(async () => (await me(server, { 'x-api-key': key })) === 401, 1_000);
  });

  it('is refused there at once: a session that was ended', async () => {
    const { token } = await good(login(one(), await member()));
    const headers = { authorization: `Bearer ${token}` };
    for (const server of servers) expect(await me(server, headers)).toBe(200);
    await good(other().request('POST', '/api/auth/logout', { key: null, headers }));
    for (const server of servers) await until(async () => (await me(server, headers)) === 401, 1_000);
  });
});

describe('a client who writes X-Forwarded-For', () => {
  /** What the audit trail says of where a failed sign-in came from. */
  async function addressOf(server: TestServer, forwardedFor: string): Promise<string | undefined> {
    const email = `${newId('spoof').replace('_', '-')}@example.org`;
    expect((await login(server, email, 'wrong', { 'x-forwarded-for': forwardedFor })).status).toBe(401);
    const entries = await good(one().api<Entry[]>('GET', '/api/audit?action=login.failed&limit=1'));
    return entries[0]?.address;
  }

  it.each([
    [0, '198.51.100.1', '127.0.0.1'],
    [0, '198.51.100.1, 203.0.113.9', '127.0.0.1'],
    [1, '203.0.113.9', '203.0.113.9'],
    [1, '198.51.100.1, 203.0.113.9', '203.0.113.9'],
    [2, '198.51.100.1, 203.0.113.9, 10.0.0.1', '203.0.113.9'],
    [2, '127.0.0.1, 203.0.113.9, 10.0.0.1', '203.0.113.9'],
  ])('behind %i trusted proxies with "%s" is known as %s', async (hops, header, address) => {
    expect(await addressOf(servers[hops]!, header)).toBe(address);
  });

  it('is known by the connection when what stands there is no address', async () => {
    for (const text of ['<script>', '203.0.113.9%0d%0aforged', '203.0.113.9:80', 'unknown'])
      expect(await addressOf(servers[1]!, `198.51.100.1, ${text}`)).toBe('127.0.0.1');
  });
});

describe('somebody who looks for accounts', () => {
  it('learns nothing from how long a refusal takes', async () => {
    const known = [await member(), await member(), await member()];
    const unknown = known.map((email) => `no-${email}`);
    const quickest = { known: Number.POSITIVE_INFINITY, unknown: Number.POSITIVE_INFINITY };
    const time = async (kind: keyof typeof quickest, email: string) => {
      const from = performance.now();
      expect((await login(one(), email, 'not this one')).status).toBe(401);
      quickest[kind] = Math.min(quickest[kind], performance.now() - from);
    };
    await time('known', await member());
    // Four of the five free tries for each, turn about, so that both see the same load.
    for (let round = 0; round < 4; round += 1)
      for (let i = 0; i < known.length; i += 1) {
        await time('known', known[i]!);
        await time('unknown', unknown[i]!);
      }
    const ratio = quickest.known / quickest.unknown;
    expect(ratio).toBeGreaterThan(0.6);
    expect(ratio).toBeLessThan(1.7);
  });
});

/** What terminals, viewers and libraries take for the end of a line, or go back to its beginning for. */
const BREAKS = ['\r\n', '\n', '\r', '\u2028', '\u2029', '\u0085', '\u001b[2K\r'];

describe.each(['json', 'pretty'])('a log in the form %s', (format) => {
  it('has no line that somebody else has written, whatever is sent with line breaks in it', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'backstay-log-'));
    const server = await ServerProcess.start(dataDir, { LOG_LEVEL: 'trace', LOG_FORMAT: format });
    try {
      const text = ['x', ...BREAKS].join('FORGED entry');
      const encoded = encodeURIComponent(text);
      for (const [method, path, body] of [
        ['GET', `/api/${encoded}`, undefined],
        ['GET', `/api/backups/${encoded}/details`, undefined],
        ['GET', `/api/backups/list?${encoded}=1&source=${encoded}`, undefined],
        ['POST', '/api/auth/login', { email: `${text}@example.org`, password: text }],
        ['POST', '/api/sources', { name: text, url: `postgresql://a:b@${encoded}/x` }],
        ['POST', '/api/sources', { name: 'x', host: text, database: text, user: text, password: text }],
        ['POST', '/api/auth/api-keys', { name: text, permissions: [text] }],
        ['POST', '/api/backups/create', { label: text, tags: [text], source: text }],
        ['POST', '/api/webhooks/backup-complete', { backupId: text, status: text }],
      ] as const)
        await send(server.url, method, path, body === undefined ? {} : { body });
      const authorization = `Bearer ${Buffer.from(text).toString('base64url')}`;
      await send(server.url, 'GET', '/api/auth/me', { key: null, headers: { authorization, 'x-request-id': 'a FORGED' } });
      const headers = { 'user-agent': 'x\tFORGED', 'x-organization': 'x\tFORGED entry' };
      await send(server.url, 'GET', '/api/auth/me', { headers });
    } finally {
      await server.end('SIGTERM');
      await rm(dataDir, { recursive: true, force: true });
    }
    const lines = server.output.split(/[\r\n\u2028\u2029\u0085]/);
    expect(lines.length).toBeGreaterThan(15);
    expect(lines.filter((line) => line.trimStart().startsWith('FORGED'))).toEqual([]);
    if (format === 'json') expect(lines.filter((line) => line.startsWith('{')).filter((line) => !isJson(line))).toEqual([]);
  });
});

function isJson(line: string): boolean {
  try {
    JSON.parse(line);
    return true;
  } catch {
    return false;
  }
}
