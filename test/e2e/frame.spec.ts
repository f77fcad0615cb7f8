import { describe, expect, it } from '@jest/globals';
import { connect } from 'node:net';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { sql } from 'kysely';
import { IdentityCache } from '../../src/auth/identity-cache.js';
import type { SourceDto } from '../../src/sources/source.dto.js';
import { type Answer, send, type TestServer, useServer } from '../support/server.js';

const server = useServer({ BODY_LIMIT_BYTES: '4096', CORS_ORIGINS: 'https://console.example.org' });
const SOURCE = { name: 'shop', host: '127.0.0.1', port: 1, database: 'shop', user: 'reader', password: 'pw' };
const SOME_BACKUP = 'backup_2025-12-22_14-30-00_k7m2qd';

/** An error answer in the contract's form, and nothing more in it. */
function expectError(answer: Answer, status: number, code: string): void {
  expect({ status: answer.status, ...answer.body }).toMatchObject({ status, success: false, code });
  expect(Object.keys(answer.body).filter((name) => name !== 'fields')).toEqual(['success', 'error', 'code', 'requestId']);
  expect(answer.body.error).toMatch(/^[A-Z].*[.!?]$/s);
  expect(answer.body.requestId).toBe(answer.headers['x-request-id']);
}

/** Sends bytes as they are and gives what comes back, for what no HTTP client would send. */
function exchange(url: string, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => socket.write(text));
    let received = '';
    socket.on('data', (chunk) => (received += chunk.toString('latin1')));
    socket.on('end', () => resolve(received));
    socket.on('error', reject);
  });
}

describe('the envelope', () => {
  it('wraps a success into success and data', async () => {
    const answer = await server.current.api('GET', '/api/keys');
    expect(answer.status).toBe(200);
    expect(Object.keys(answer.body)).toEqual(['success', 'data']);
    expect(answer.body.success).toBe(true);
    expect(answer.headers['content-type']).toBe('application/json; charset=utf-8');
  });

  it('tells of a page where it stands', async () => {
    const answer = await server.current.api('GET', '/api/backups/list?page=3&limit=7');
    expect(answer.body).toEqual({ success: true, data: [], meta: { page: 3, limit: 7, total: 0 } });
  });
});

describe('the request id', () => {
  it.each(['abc-123', 'a.b:c_d', 'x'.repeat(64)])('that is harmless comes back: %s', async (id) => {
    const answer = await server.current.request('GET', '/api/nowhere', { headers: { 'x-request-id': id } });
    expect(answer.headers['x-request-id']).toBe(id);
    expect(answer.body.requestId).toBe(id);
  });

  it.each(['', ' ', 'a b', '<script>', 'ä', 'a"b', `${'x'.repeat(65)}`, '{"a":1}', '../../etc'])(
    'that is not harmless is replaced: %j',
    async (id) => {
      const answer = await server.current.request('GET', '/api/nowhere', { headers: { 'x-request-id': id } });
      expect(answer.headers['x-request-id']).toMatch(/^req_[\w-]{12}$/);
      expect(answer.body.requestId).toBe(answer.headers['x-request-id']);
    },
  );

  it('is another one each time', async () => {
    const ids = await Promise.all(
      Array.from({ length: 20 }, async () => (await server.current.api('GET', '/api/status/live')).headers['x-request-id']),
    );
    expect(new Set(ids).size).toBe(20);
  });
});

describe('a caller without a right', () => {
  it.each<[string, string | null, Record<string, string>]>([
    ['without a key', null, {}],
    ['with an empty key', '', {}],
    ['with a wrong key', 'bsk_wrong-key-0123456789abcdef0123456789', {}],
    ['with something that is no key', 'hello', {}],
    ['with a token that nobody issued', null, { authorization: 'Bearer eyJhbGciOiJub25lIn0.e30.' }],
    ['with an empty token', null, { authorization: '' }],
    ['with a basic password', null, { authorization: 'Basic dXNlcjpwYXNz' }],
  ])('is told so %s', async (_, key, headers) => {
    const answer = await server.current.request('GET', '/api/backups/list', { key, headers });
    expectError(answer, 401, 'UNAUTHORIZED');
    expect(answer.headers['www-authenticate']).toBeDefined();
  });

  it('is not answered with anything of the key that was sent', async () => {
    const answer = await server.current.api('GET', '/api/keys', undefined, 'bsk_canary-0123456789abcdef0123456789');
    expect(answer.bytes.toString()).not.toContain('canary');
  });

  it('is refused before the body is looked at', async () => {
    expectError(await server.current.api('POST', '/api/sources', { nonsense: 1 }, null), 401, 'UNAUTHORIZED');
  });

  it.each([
    ['revoked', { revoked_at: sql<Date>`now()` }],
    ['expired', { expires_at: sql<Date>`now() - interval '1 second'` }],
  ])('has a key that was %s', async (_, change) => {
    const key = await server.current.createKey(['backup:read']);
    expect((await server.current.api('GET', '/api/backups/list', undefined, key)).status).toBe(200);
    const { db } = server.current.foundation.catalog;
    await db.updateTable('api_keys').set(change).where('name', '=', key.split('_').slice(1, 3).join('_')).execute();
    // What is changed behind the server's back it sees when its memory of the key ends.
    server.current.running.app.get(IdentityCache, { strict: false }).forget();
    expectError(await server.current.api('GET', '/api/backups/list', undefined, key), 401, 'UNAUTHORIZED');
  });

  it('is told which permission is missing, and it is written down', async () => {
    const key = await server.current.createKey(['backup:read']);
    expect((await server.current.api('GET', '/api/backups/list', undefined, key)).status).toBe(200);
    const answer = await server.current.api('POST', '/api/sources', SOURCE, key);
    expectError(answer, 403, 'FORBIDDEN');
    expect(answer.body.error).toContain('source:manage');
    const entry = await server.current.foundation.catalog.db
      .selectFrom('audit_entries')
      .selectAll()
      .where('request_id', '=', answer.body.requestId)
      .executeTakeFirstOrThrow();
    expect(entry).toMatchObject({ action: 'access.denied', result: 'denied', resource_id: 'POST /api/sources' });
  });

  it.each<[string, string, string]>([
    ['POST', '/api/backups/create', 'backup:create'],
    ['GET', `/api/backups/${SOME_BACKUP}/download`, 'backup:download'],
    ['POST', `/api/backups/${SOME_BACKUP}/restore`, 'backup:restore'],
    ['POST', `/api/backups/${SOME_BACKUP}/verify`, 'backup:verify'],
    ['POST', `/api/backups/${SOME_BACKUP}/cancel`, 'backup:create'],
    ['POST', `/api/backups/${SOME_BACKUP}/pin`, 'backup:delete'],
    ['DELETE', `/api/backups/${SOME_BACKUP}`, 'backup:delete'],
    ['POST', `/api/backups/${SOME_BACKUP}/undelete`, 'backup:delete'],
    ['GET', '/api/keys', 'key:manage'],
    ['GET', '/api/status/metrics', 'system:status'],
    ['POST', '/api/sources/x/test', 'source:manage'],
  ])('%s %s needs %s', async (method, path, permission) => {
    const key = await server.current.createKey(['notification:read']);
    const answer = await server.current.api(method, path, method === 'POST' ? {} : undefined, key);
    expectError(answer, 403, 'FORBIDDEN');
    expect(answer.body.error).toContain(permission);
  });
});

describe('a request that is not valid', () => {
  it('names every field with its reason', async () => {
    const answer = await server.current.api('POST', '/api/sources', { port: 0, tls: { mode: 'maybe' }, evil: 1 });
    expectError(answer, 400, 'VALIDATION_ERROR');
    expect(Object.keys(answer.body.fields ?? {}).sort()).toEqual(['evil', 'name', 'port', 'tls.mode']);
    expect(answer.body.fields?.['evil']).toBe('is not a field of this request');
  });

  it.each<[string, unknown]>([
    ['/api/backups/create', { typo: 'full' }],
    ['/api/backups/create', { type: 'everything' }],
    ['/api/backups/create', { tags: 'a' }],
    ['/api/backups/create', { tags: Array(21).fill('a') }],
    ['/api/backups/create', { label: 'x'.repeat(201) }],
    ['/api/backups/create', { label: 'a\0b' }],
    ['/api/backups/create', { label: '\ud800' }],
    ['/api/backups/create', { constructor: 1 }],
    ['/api/backups/create', JSON.parse('{"__proto__":{"pinned":true}}')],
    ['/api/backups/create', { compress: 'yes' }],
    ['/api/backups/create', { dbOnly: true, type: 'config' }],
    ['/api/backups/create?wait=241', {}],
    ['/api/backups/create?wait=soon', {}],
    ['/api/backups/create?wiat=1', {}],
    [`/api/backups/${SOME_BACKUP}/restore`, {}],
    [`/api/backups/${SOME_BACKUP}/restore`, { target: null }],
    [`/api/backups/${SOME_BACKUP}/restore`, { target: { mode: 'teleport' } }],
    [`/api/backups/${SOME_BACKUP}/restore`, { target: { mode: 'new-database' } }],
    [`/api/backups/${SOME_BACKUP}/restore`, { target: { mode: 'new-database', database: 'x', evil: 1 } }],
    [`/api/backups/${SOME_BACKUP}/verify`, { level: 9 }],
    [`/api/backups/${SOME_BACKUP}/verify`, { level: '1' }],
  ])('is refused: POST %s %j', async (path, body) => {
    const answer = await server.current.api('POST', path, body);
    expectError(answer, 400, 'VALIDATION_ERROR');
    expect(Object.keys(answer.body.fields ?? {}).length).toBeGreaterThan(0);
  });

  it.each([
    'limit=0',
    'limit=101',
    'limit=1.5',
    'limit=all',
    'limit=0x10',
    'limit=1e1',
    'limit=%201',
    'limit=',
    'page=0',
    'page=-1',
    'page=1&page=2',
    'status=done',
    'type=partial',
    'sort=name',
    'from=yesterday',
    'from=2025-13-01',
    'from=2025-W01-1',
    'from=20250101',
    'from=2025-01-01T10:00',
    'to=2025-366',
    'trash=maybe',
    'source=',
    'unknown=1',
    '__proto__=1',
    'constructor=1',
  ])('is refused: GET /api/backups/list?%s', async (query) => {
    expectError(await server.current.api('GET', `/api/backups/list?${query}`), 400, 'VALIDATION_ERROR');
  });

  it.each(['{', '{"a":}', '"text"', 'null', '1', '{"a":1}x', '\u0000'])('has a body that is no JSON object: %j', async (raw) => {
    const answer = await server.current.request('POST', '/api/sources', { raw });
    expectError(answer, 400, 'VALIDATION_ERROR');
  });

  it('has a body that is a list', async () => {
    expectError(await server.current.request('POST', '/api/sources', { raw: '[]' }), 400, 'VALIDATION_ERROR');
    expectError(await server.current.request('POST', '/api/backups/create', { raw: '[{}]' }), 400, 'VALIDATION_ERROR');
  });

  it.each([`{"tags":${'['.repeat(2000)}${']'.repeat(2000)}}`, `{"tags":${'{"a":'.repeat(500)}1${'}'.repeat(500)}}`])(
    'has a body that is nested without end',
    async (raw) => {
      expectError(await server.current.request('POST', '/api/backups/create', { raw }), 400, 'VALIDATION_ERROR');
    },
  );

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'application/xml'])(
    'has a body of another kind, which is not passed over in silence: %s',
    async (type) => {
      const options = { raw: '{"level":1}', headers: { 'content-type': type } };
      // Were it passed over, the answer would be that there is no such backup.
      const answer = await server.current.request('POST', `/api/backups/${SOME_BACKUP}/verify`, options);
      expectError(answer, 400, 'VALIDATION_ERROR');
    },
  );

  it.each<Record<string, string>>([
    { 'content-encoding': 'compress' },
    { 'content-encoding': 'gzip' },
    { 'content-type': 'application/json; charset=latin1' },
  ])('has a body that can not be read: %j', async (headers) => {
    expectError(await server.current.request('POST', '/api/sources', { raw: '{}', headers }), 400, 'VALIDATION_ERROR');
  });

  it('has a body larger than the limit', async () => {
    expectError(await server.current.api('POST', '/api/sources', { name: 'x'.repeat(5000) }), 413, 'PAYLOAD_TOO_LARGE');
  });

  it.each([null, 1, {}, [], true, ''])('is refused where a text should be and %j is, or takes it as absent', async (value) => {
    const fields = ['url', 'host', 'port', 'database', 'user', 'password', 'tls', 'configPaths', 'excludeTables', 'kind'];
    for (const field of fields) {
      const answer = await server.current.api('POST', '/api/sources', {
        ...SOURCE,
        name: `odd ${field} ${String(value)}`,
        [field]: value,
      });
      expect([field, [200, 400].includes(answer.status) ? 'well' : answer.status]).toEqual([field, 'well']);
      if (answer.status === 200) await server.current.api('DELETE', `/api/sources/${(answer.body.data as SourceDto).id}`);
    }
  });

  it.each<[string, string, unknown]>([
    ['GET', '/api/sources/a%00b', undefined],
    ['GET', '/api/restores?backup=%00', undefined],
    ['GET', '/api/backups/list?source=%00', undefined],
    ['POST', '/api/backups/create', { source: 'a\0' }],
    ['POST', '/api/sources', { ...SOURCE, name: 'nul', user: 'a\0' }],
    ['POST', '/api/sources', { ...SOURCE, name: 'nul', password: 'a\0' }],
    ['POST', '/api/sources', { ...SOURCE, name: 'nul', excludeSchemas: ['a\0'] }],
    ['POST', '/api/sources', { ...SOURCE, name: 'nul', excludeSchemas: ['\ud800'] }],
    ['POST', '/api/sources', { ...SOURCE, name: 'nul', configPaths: ['/etc\0'] }],
  ])('holds a character that can not be stored: %s %s %j', async (method, path, body) => {
    expectError(await server.current.api(method, path, body), 400, 'VALIDATION_ERROR');
  });
});

describe('an identifier', () => {
  const HOSTILE = [
    '..%2f',
    '..%2f..%2f..%2fetc%2fpasswd',
    '%2e%2e',
    '%00',
    `${SOME_BACKUP}%00`,
    `${SOME_BACKUP}%2f..`,
    `${SOME_BACKUP}x`,
    SOME_BACKUP.slice(0, -1),
    SOME_BACKUP.toUpperCase(),
    SOME_BACKUP.replace('k7m2qd', 'K7M2QD'),
    `${SOME_BACKUP}%0a`,
    '%20',
    "'%20OR%201=1--",
    'x'.repeat(3000),
    '__proto__',
    'restore_2025-12-22_14-30-00_k7m2qd',
    `backup_2025-12-22T14-30-00_k7m2qd`,
    '%F0%9F%92%A9',
  ];
  const ROUTES: [string, (id: string) => string][] = [
    ['GET', (id) => `/api/backups/${id}/details`],
    ['GET', (id) => `/api/backups/${id}/download`],
    ['GET', (id) => `/api/backups/${id}/progress`],
    ['POST', (id) => `/api/backups/${id}/cancel`],
    ['POST', (id) => `/api/backups/${id}/pin`],
    ['DELETE', (id) => `/api/backups/${id}`],
    ['POST', (id) => `/api/backups/${id}/verify`],
  ];

  it.each(HOSTILE)('that is none is refused before anything is touched: %s', async (id) => {
    for (const [method, path] of ROUTES) {
      const answer = await server.current.api(method, path(id), method === 'POST' ? {} : undefined);
      expectError(answer, 400, 'VALIDATION_ERROR');
      expect(answer.body.fields).toHaveProperty('id');
    }
  });

  it.each(['%', '%zz', '%c0%ae', '%ff'])('that is not well encoded is refused: %s', async (id) => {
    expectError(await server.current.api('GET', `/api/backups/${id}/details`), 400, 'VALIDATION_ERROR');
  });

  it.each(['restores', 'verifications'])('of %s is held to its own form', async (kind) => {
    for (const id of ['..%2f', SOME_BACKUP, 'x', '%00'])
      expectError(await server.current.api('GET', `/api/${kind}/${id}`), 400, 'VALIDATION_ERROR');
  });

  it('that is well formed and belongs to nothing is not found', async () => {
    for (const [method, path] of ROUTES)
      expectError(await server.current.api(method, path(SOME_BACKUP), method === 'POST' ? {} : undefined), 404, 'NOT_FOUND');
  });

  it('never hides a static segment', async () => {
    expect((await server.current.api('GET', '/api/backups/stats')).body.data).toHaveProperty('successRate');
    expect((await server.current.api('GET', '/api/backups/list')).body.data).toEqual([]);
  });
});

describe('what is not there', () => {
  it.each([
    ['GET', '/api/nowhere'],
    ['GET', '/'],
    ['PUT', '/api/backups/list'],
    ['GET', '/api'],
    ['POST', '/api/status/live'],
  ])('is 404 in the same form, with a key or without: %s %s', async (method, path) => {
    for (const key of [undefined, null]) {
      const answer = await server.current.api(method, `${path}?a=1`, undefined, key);
      expectError(answer, 404, 'NOT_FOUND');
      expect(answer.body.error).toBe(`There is no route ${method} ${path}; /api/docs lists them.`);
    }
  });

  it("is another organization's source, in every route", async () => {
    const other = await server.current.createOrganization('other');
    const { id } = (await server.current.api<SourceDto>('POST', '/api/sources', { ...SOURCE, name: 'theirs' }, other.key)).body
      .data;
    expect((await server.current.api('GET', `/api/sources/${id}`, undefined, other.key)).status).toBe(200);
    for (const [method, path, body] of [
      ['GET', `/api/sources/${id}`, undefined],
      ['GET', '/api/sources/theirs', undefined],
      ['PUT', `/api/sources/${id}`, { user: 'me' }],
      ['DELETE', `/api/sources/${id}`, undefined],
      ['POST', `/api/sources/${id}/test`, {}],
      ['POST', '/api/backups/create', { source: id }],
      ['GET', `/api/backups/list?source=${id}`, undefined],
    ] as const)
      expectError(await server.current.api(method, path, body), 404, 'NOT_FOUND');
    expect((await server.current.api<SourceDto>('GET', `/api/sources/${id}`, undefined, other.key)).body.data.user).toBe(
      'reader',
    );
  });

  it('is an organization that the key does not belong to, by x-organization', async () => {
    const { id, key } = await server.current.createOrganization('third');
    const ask = (organization: string, as?: string) =>
      server.current.request('GET', '/api/sources', {
        headers: { 'x-organization': organization },
        ...(as === undefined ? {} : { key: as }),
      });
    expect((await ask(id, key)).status).toBe(200);
    expect((await ask('', key)).status).toBe(200);
    expectError(await ask('org_00000000000000000000', key), 404, 'NOT_FOUND');
    expectError(await ask(server.current.foundation.installation.defaultOrganizationId, key), 404, 'NOT_FOUND');
    expect((await ask(server.current.foundation.installation.defaultOrganizationId)).status).toBe(200);
  });
});

describe('two of the same name', () => {
  it('are a conflict, and the second leaves nothing', async () => {
    const first = await server.current.api<SourceDto>('POST', '/api/sources', { ...SOURCE, name: 'twice' });
    expectError(await server.current.api('POST', '/api/sources', { ...SOURCE, name: 'twice' }), 409, 'CONFLICT');
    await server.current.api('DELETE', `/api/sources/${first.body.data.id}`);
    const again = await server.current.api<SourceDto>('POST', '/api/sources', { ...SOURCE, name: 'twice' });
    expect(again.status).toBe(200);
    await server.current.api('DELETE', `/api/sources/${again.body.data.id}`);
  });
});

describe('a fault of the server', () => {
  it('is told as nothing but a request id', async () => {
    const { db } = server.current.foundation.catalog;
    await sql`ALTER TABLE sources RENAME TO sources_away`.execute(db);
    let answer: Answer;
    try {
      answer = await server.current.api('GET', '/api/sources/anything');
    } finally {
      await sql`ALTER TABLE sources_away RENAME TO sources`.execute(db);
    }
    expectError(answer, 500, 'INTERNAL_ERROR');
    expect(answer.bytes.toString()).not.toMatch(/sources|relation|stack|postgres|select/i);
  });
});

describe('the headers', () => {
  it('protect browsers, and lock nobody out who came by http', async () => {
    const { headers } = await server.current.api('GET', '/api/status/live', undefined, null);
    expect(headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'x-frame-options': 'SAMEORIGIN' });
    expect(headers['content-security-policy']).toContain("default-src 'self'");
    expect(headers['content-security-policy']).not.toContain('upgrade-insecure-requests');
    expect(headers).not.toHaveProperty('strict-transport-security');
    expect(headers).not.toHaveProperty('x-powered-by');
  });

  it('keep probes out of every cache', async () => {
    for (const path of ['/api/status/live', '/api/status/ready', '/api/status/health'])
      expect((await server.current.api('GET', path, undefined, null)).headers['cache-control']).toBe('no-store');
  });

  it('keep what one caller was answered from all others', async () => {
    for (const path of ['/api/backups/list', '/api/sources', '/api/nowhere'])
      expect((await server.current.api('GET', path)).headers['cache-control']).toBe('private, no-cache');
  });

  it('let the set origin in, and no other', async () => {
    const ask = (origin: string, method = 'GET') =>
      server.current.request(method, '/api/status/live', {
        key: null,
        headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'x-api-key' },
      });
    const allowed = await ask('https://console.example.org', 'OPTIONS');
    expect(allowed.status).toBe(204);
    expect(allowed.headers['access-control-allow-origin']).toBe('https://console.example.org');
    expect(allowed.headers['access-control-allow-headers']).toContain('x-api-key');
    expect((await ask('https://console.example.org')).headers['access-control-expose-headers']).toContain('x-request-id');
    for (const origin of [
      'https://evil.example',
      'null',
      'https://console.example.org.evil.example',
      'http://console.example.org',
    ])
      expect((await ask(origin)).headers).not.toHaveProperty('access-control-allow-origin');
  });
});

describe('compression', () => {
  const ask = (encoding: string) =>
    server.current.request('GET', '/api/docs-json', { key: null, headers: { 'accept-encoding': encoding } });

  it.each([
    ['gzip', gunzipSync],
    ['br', brotliDecompressSync],
  ] as const)('makes long answers shorter by %s', async (encoding, decompress) => {
    const answer = await ask(encoding);
    expect(answer.headers['content-encoding']).toBe(encoding);
    expect(JSON.parse(decompress(answer.bytes).toString())).toMatchObject({ openapi: '3.1.0' });
    expect(answer.headers['vary']).toContain('Accept-Encoding');
  });

  it('leaves answers alone for who did not ask for it', async () => {
    const answer = await ask('identity');
    expect(answer.headers).not.toHaveProperty('content-encoding');
    expect(answer.body).toMatchObject({ openapi: '3.1.0' });
  });
});

describe('what is no HTTP', () => {
  it('is refused without harm', async () => {
    expect(await exchange(server.current.url, 'nonsense\r\n\r\n')).toMatch(/^HTTP\/1\.1 400/);
    expect((await server.current.api('GET', '/api/status/live', undefined, null)).status).toBe(200);
  });

  it('is a request that sends two lengths', async () => {
    const text =
      'POST /api/backups/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/keys HTTP/1.1\r\nHost: x\r\n\r\n';
    const received = await exchange(server.current.url, text);
    expect(received).toMatch(/^HTTP\/1\.1 400/);
    expect(received.match(/HTTP\/1\.1/g)).toHaveLength(1);
  });
});

describe('the health', () => {
  it('is a summary for everybody, and has parts for those who may see them', async () => {
    const summary = await server.current.api<{ status: string }>('GET', '/api/status/health', undefined, null);
    expect(summary.status).toBe(200);
    expect(Object.keys(summary.body.data).sort()).toEqual(['checkedAt', 'status', 'uptimeMs', 'version']);
    const whole = await server.current.api<{ parts: object }>('GET', '/api/status/health');
    expect(Object.keys(whole.body.data.parts)).toEqual(
      expect.arrayContaining(['catalog', 'queue', 'destinations', 'tools', 'disk', 'sources']),
    );
    const few = await server.current.createKey(['backup:read']);
    expect((await server.current.api('GET', '/api/status/health', undefined, few)).body.data).not.toHaveProperty('parts');
  });

  it('is told to Prometheus as text', async () => {
    const answer = await server.current.api('GET', '/api/status/metrics');
    expect(answer.headers['content-type']).toContain('text/plain');
    expect(answer.bytes.toString()).toMatch(/^backstay_info\{version="[\d.]+"\} 1$/m);
  });
});

describe('a flood of requests at once', () => {
  it('is answered request by request, each with its own id and its own body', async () => {
    const current: TestServer = server.current;
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, i) =>
        send<object[]>(current.url, 'GET', `/api/backups/list?limit=${1 + (i % 100)}`, {
          headers: { 'x-request-id': `flood-${i}` },
        }),
      ),
    );
    answers.forEach((answer, i) => {
      expect(answer.headers['x-request-id']).toBe(`flood-${i}`);
      expect(answer.body.meta?.limit).toBe(1 + (i % 100));
    });
  });
});
