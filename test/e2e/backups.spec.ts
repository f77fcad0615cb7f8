import { beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { BackupDetailsDto, BackupDto, BackupStatsDto, CreateBackupDto } from '../../src/backups/backup.dto.js';
import type { SourceDto } from '../../src/sources/source.dto.js';
import { holdLock } from '../support/held-lock.js';
import { usePostgres } from '../support/postgres.js';
import { type Answer, open, urlOf, useServer } from '../support/server.js';
import { until } from '../support/until.js';

const run = promisify(execFile);
const ID = /^backup_\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}_[a-z0-9]{6}$/;
const SHA256 = /^[0-9a-f]{64}$/;
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/;

const postgres = usePostgres();
const server = useServer();

/** The sample's source, the small one, and the one whose table gets locked. */
const sources: Record<'shop' | 'small' | 'locked', SourceDto> = {} as never;
/** A completed backup of the sample. */
let shop: BackupDto;

const api = <T>(method: string, path: string, body?: unknown) => server.current.api<T>(method, path, body);
const create = (body: CreateBackupDto, query = '', headers: Record<string, string> = {}) =>
  server.current.request<BackupDto>('POST', `/api/backups/create${query}`, { body, headers });
const details = async (id: string) => (await api<BackupDetailsDto>('GET', `/api/backups/${id}/details`)).body.data;

async function addSource(name: string, database: string): Promise<SourceDto> {
  const answer = await api<SourceDto>('POST', '/api/sources', { name, url: urlOf(postgres.current.connection(database)) });
  expect(answer.body).toMatchObject({ success: true });
  return answer.body.data;
}

function expectRefusal(answer: Answer, status: number, code: string, words: RegExp = /./): void {
  expect({ status: answer.status, ...answer.body }).toMatchObject({ status, success: false, code });
  expect(answer.body.error).toMatch(words);
}

describe('a backup without a source to take', () => {
  it('says how to make one', async () => {
    expectRefusal(await create({}), 400, 'VALIDATION_ERROR', /no source yet.*POST \/api\/sources/);
  });
});

describe('a backup of the only source', () => {
  beforeAll(async () => {
    await postgres.current.createSampleDatabase('shop');
    sources.shop = await addSource('shop', 'shop');
  });

  it('needs no name, waits for its end when asked to, and has every promised field', async () => {
    const answer = await create({ label: 'the first', tags: ['a', 'b'], pinned: true }, '?wait=100');
    expect(answer.status).toBe(200);
    shop = answer.body.data;
    expect(shop).toEqual({
      id: expect.stringMatching(ID),
      type: 'full',
      status: 'completed',
      source: { id: sources.shop.id, name: 'shop' },
      origin: 'api',
      components: ['database', 'config'],
      label: 'the first',
      tags: ['a', 'b'],
      pinned: true,
      includePasswords: false,
      createdAt: expect.stringMatching(TIME),
      startedAt: expect.stringMatching(TIME),
      finishedAt: expect.stringMatching(TIME),
      durationMs: expect.any(Number),
      sizeBytes: expect.any(Number),
      plainBytes: expect.any(Number),
      warnings: [],
      tableCount: expect.any(Number),
      rowCount: expect.any(Number),
      proofLevel: 0,
      provenAt: expect.stringMatching(TIME),
      broken: false,
      brokenCause: null,
      attempt: 1,
      error: null,
      progress: null,
      deletedAt: null,
      removedBy: null,
      schedule: null,
      scheduledFor: null,
    });
    expect(shop.id.slice(7, 26)).toBe(shop.createdAt.slice(0, 19).replace('T', '_').replaceAll(':', '-'));
    expect(shop.durationMs).toBe(Date.parse(shop.finishedAt ?? '') - Date.parse(shop.startedAt ?? ''));
  });

  it('is told in detail: artifacts, and tables with the exact rows that the database has', async () => {
    const found = await details(shop.id);
    expect(found).toMatchObject({ id: shop.id, serverVersion: expect.stringMatching(/^\d+\.\d+/) });
    for (const artifact of found.artifacts)
      expect(artifact).toEqual({
        component: expect.stringMatching(/^(database|config)$/),
        name: expect.stringMatching(/\.zst\.age$/),
        storedBytes: expect.any(Number),
        storedSha256: expect.stringMatching(SHA256),
        plainBytes: expect.any(Number),
        plainSha256: expect.stringMatching(SHA256),
        copies: [{ destination: expect.any(String), state: 'stored', lockedUntil: null, error: null }],
      });
    expect(found.artifacts.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['database.dump.zst.age', 'globals.sql.zst.age']),
    );
    expect(found.sizeBytes).toBe(found.artifacts.reduce((bytes, artifact) => bytes + artifact.storedBytes, 0));
    expect(found.tables).toHaveLength(found.tableCount);
    expect(found.rowCount).toBe(found.tables.reduce((rows, table) => rows + table.rows, 0));
    const customers = found.tables.find((table) => table.schema === 'shop' && table.name === 'customers');
    const [counted] = await postgres.current.query<{ count: string }>('shop', 'SELECT count(*) FROM shop.customers');
    expect(customers).toEqual({
      schema: 'shop',
      name: 'customers',
      rows: Number(counted?.count),
      bytes: expect.any(Number),
      sha256: expect.stringMatching(SHA256),
    });
    expect(found.runs).toEqual([
      {
        kind: 'backup',
        id: shop.id,
        attempt: 1,
        startedAt: expect.stringMatching(TIME),
        finishedAt: expect.stringMatching(TIME),
        outcome: 'completed',
        error: null,
      },
    ]);
  });

  it('tells the source which server it has, without a test', async () => {
    const { serverVersion } = await details(shop.id);
    expect(serverVersion).toMatch(/^\d+/);
    expect((await api<SourceDto>('GET', '/api/sources/shop')).body.data.serverVersion).toBe(serverVersion);
  });
});

describe('a backup of one of several sources', () => {
  beforeAll(async () => {
    for (const name of ['small', 'locked'] as const) {
      await postgres.current.createDatabase(name);
      await postgres.current.exec(name, 'CREATE TABLE t AS SELECT generate_series(1, 100) AS n');
      sources[name] = await addSource(name, name);
    }
  });

  it('has to name it', async () => {
    expectRefusal(await create({}), 400, 'VALIDATION_ERROR', /several sources/);
    expectRefusal(await create({ source: 'nobody' }), 404, 'NOT_FOUND', /nobody/);
  });

  it.each<[string, () => CreateBackupDto, Partial<BackupDto>]>([
    ['by name, of the database alone', () => ({ source: 'small', dbOnly: true }), { type: 'database', components: ['database'] }],
    [
      'by id, of the settings alone',
      () => ({ source: sources.small.id, type: 'config' }),
      { type: 'config', components: ['config'] },
    ],
    ['without compression', () => ({ source: 'small', type: 'database', compress: false }), { type: 'database' }],
  ])('may be made %s', async (_, body, expected) => {
    const answer = await create(body(), '?wait=60');
    expect(answer.body.data).toMatchObject({ ...expected, status: 'completed', source: { id: sources.small.id, name: 'small' } });
    const names = (await details(answer.body.data.id)).artifacts.map(({ name }) => name);
    expect(names.every((name) => (body().compress === false ? /^[^.]+\.\w+\.age$/ : /\.zst\.age$/).test(name))).toBe(true);
  });

  it('answers at once when it need not wait, or when the wait is over', async () => {
    const release = await holdLock(postgres.current.connection('locked'), 't');
    try {
      const first = (await create({ source: 'locked' })).body.data;
      expect(first).toMatchObject({ status: 'queued', attempt: 0, startedAt: null, proofLevel: null, tableCount: 0 });
      const second = (await create({ source: 'locked' }, '?wait=0.3')).body.data;
      expect(['queued', 'running']).toContain(second.status);
      for (const { id } of [first, second]) await api('POST', `/api/backups/${id}/cancel`);
      await until(
        async () => (await details(first.id)).status === 'canceled' && (await details(second.id)).status === 'canceled',
      );
    } finally {
      await release();
    }
  });
});

describe('an Idempotency-Key', () => {
  it('gives the same backup for the same request, in whatever order its fields come', async () => {
    const key = { 'idempotency-key': 'same' };
    const first = await create({ source: 'small', type: 'database', label: 'once' }, '', key);
    const second = await create({ label: 'once', type: 'database', source: 'small' }, '', key);
    expect(second.status).toBe(200);
    expect(second.body.data.id).toBe(first.body.data.id);
    expectRefusal(
      await create({ source: 'small', type: 'database', label: 'twice' }, '', key),
      409,
      'CONFLICT',
      /Idempotency-Key/,
    );
  });

  it('makes one backup of ten requests at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => create({ source: 'small', label: 'ten' }, '', { 'idempotency-key': 'ten-at-once' })),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(200));
    expect(new Set(answers.map((answer) => answer.body.data.id)).size).toBe(1);
    const all = await api<BackupDto[]>('GET', '/api/backups/list?source=small&limit=100');
    expect(all.body.data.filter(({ label }) => label === 'ten')).toHaveLength(1);
  });

  it.each(['a b', 'ä', 'x'.repeat(201)])('of another form is refused: %j', async (key) => {
    expectRefusal(await create({ source: 'small' }, '', { 'idempotency-key': key }), 400, 'VALIDATION_ERROR');
  });

  it("of one organization is nothing in another's", async () => {
    const other = await server.current.createOrganization('idempotent');
    await server.current.api(
      'POST',
      '/api/sources',
      { name: 'theirs', host: '127.0.0.1', port: 1, database: 'x', user: 'y' },
      other.key,
    );
    const headers = { 'idempotency-key': 'same' };
    const answer = await server.current.request<BackupDto>('POST', '/api/backups/create', { body: {}, headers, key: other.key });
    expect(answer.body.data).toMatchObject({ source: { name: 'theirs' } });
  });
});

describe('the list', () => {
  const list = async (query: string) => (await api<BackupDto[]>('GET', `/api/backups/list?${query}`)).body;

  beforeAll(async () => {
    // Whatever the tests before have queued.
    await until(async () => (await list('status=queued')).data.length + (await list('status=running')).data.length === 0);
  });

  it('leaves out what only details show', async () => {
    const [first] = (await list('source=shop')).data;
    expect(first).toEqual(shop);
  });

  it('filters by state, type and source', async () => {
    for (const backup of (await list('status=completed&type=database&source=small')).data)
      expect(backup).toMatchObject({ status: 'completed', type: 'database', source: { name: 'small' } });
    expect((await list('type=config')).data).toHaveLength(1);
    expect((await list(`source=${sources.shop.id}`)).meta?.total).toBe(1);
    expect((await list('status=failed')).data).toEqual([]);
  });

  it('takes the time from and leaves out the time to', async () => {
    const at = encodeURIComponent(shop.createdAt);
    expect((await list(`source=shop&from=${at}`)).data).toHaveLength(1);
    expect((await list(`source=shop&to=${at}`)).data).toHaveLength(0);
    expect((await list(`source=shop&from=2020-01-01&to=2099-12-31T00:00:00%2B02:00`)).data).toHaveLength(1);
    expect((await list(`source=shop&from=2099-01-01`)).data).toHaveLength(0);
  });

  it.each([
    ['createdAt', (backup: BackupDto) => Date.parse(backup.createdAt)],
    ['sizeBytes', (backup: BackupDto) => backup.sizeBytes],
    ['durationMs', (backup: BackupDto) => backup.durationMs ?? 0],
  ])('sorts by %s both ways', async (field, value) => {
    const rising = (await list(`status=completed&sort=${field}`)).data.map(value);
    const falling = (await list(`status=completed&sort=-${field}`)).data.map(value);
    expect(rising.length).toBeGreaterThan(3);
    expect(rising).toEqual([...rising].sort((a, b) => a - b));
    expect(falling).toEqual(rising.toReversed());
  });

  it('shows each backup on one page only, the newest first', async () => {
    const { meta } = await list('limit=1');
    const ids: string[] = [];
    for (let page = 1; page <= (meta?.total ?? 0); page += 1)
      ids.push(...(await list(`limit=1&page=${page}`)).data.map(({ id }) => id));
    expect(ids).toEqual((await list('limit=100')).data.map(({ id }) => id));
    expect(new Set(ids).size).toBe(meta?.total);
    expect((await list(`page=${(meta?.total ?? 0) + 1}&limit=1`)).data).toEqual([]);
  });
});

describe('the figures', () => {
  it('count what the list shows, and name the newest proven backup of each source', async () => {
    const stats = (await api<BackupStatsDto>('GET', '/api/backups/stats')).body.data;
    const all = (await api<BackupDto[]>('GET', '/api/backups/list?limit=100')).body.data;
    const completed = all.filter(({ status }) => status === 'completed');
    expect(stats).toMatchObject({
      total: all.length,
      completed: completed.length,
      canceled: all.filter(({ status }) => status === 'canceled').length,
      failed: 0,
      successRate: 1,
      pinned: 1,
      sizeBytes: completed.reduce((bytes, { sizeBytes }) => bytes + sizeBytes, 0),
      longestDurationMs: Math.max(...completed.map(({ durationMs }) => durationMs ?? 0)),
    });
    expect(stats.sources.find(({ source }) => source.name === 'shop')).toMatchObject({
      completed: 1,
      newestBackupId: shop.id,
      newestProvenBackupId: shop.id,
      newestProvenLevel: 0,
    });
    expect(stats.sources.find(({ source }) => source.name === 'locked')).toMatchObject({ completed: 0, newestBackupId: null });
  });
});

describe('a backup that is thrown away', () => {
  it('has to be unpinned first, comes back when asked to, and says no to what makes no sense', async () => {
    const { id } = (await create({ source: 'small', type: 'config', pinned: true }, '?wait=60')).body.data;
    const post = (verb: string) => api<BackupDto>('POST', `/api/backups/${id}/${verb}`);
    const remove = () => api<BackupDto>('DELETE', `/api/backups/${id}`);
    const listed = async (query = '') =>
      (await api<BackupDto[]>('GET', `/api/backups/list?limit=100${query}`)).body.data.some((backup) => backup.id === id);

    expectRefusal(await remove(), 409, 'CONFLICT', /pinned/);
    expect((await post('unpin')).body.data.pinned).toBe(false);
    expectRefusal(await post('undelete'), 409, 'CONFLICT', /trash/);
    expect((await remove()).body.data.deletedAt).toMatch(TIME);
    expect([await listed(), await listed('&trash=true')]).toEqual([false, true]);
    expectRefusal(await remove(), 409, 'CONFLICT', /trash already/);
    expect((await details(id)).deletedAt).toMatch(TIME);
    expect((await post('undelete')).body.data.deletedAt).toBeNull();
    expect([await listed(), await listed('&trash=true')]).toEqual([true, false]);
    expectRefusal(await post('cancel'), 409, 'CONFLICT', /nothing to cancel/);
    expect((await post('pin')).body.data.pinned).toBe(true);
  });
});

describe('a backup that waits for a lock', () => {
  async function objects(id: string): Promise<string[]> {
    const all = await readdir(join(server.current.dataDir, 'backups'), { recursive: true });
    return all.filter((name) => name.includes(`${id}/`));
  }

  it('is canceled in the middle of its run, or before it, and leaves nothing behind', async () => {
    const release = await holdLock(postgres.current.connection('locked'), 't');
    try {
      // Two are worked on at the same time; the third has to wait.
      const ids: string[] = [];
      for (let i = 0; i < 3; i += 1) ids.push((await create({ source: 'locked' })).body.data.id);
      const statuses = async () => Promise.all(ids.map(async (id) => (await details(id)).status));
      const listed = async () => {
        const { data } = (await api<BackupDto[]>('GET', '/api/backups/list?source=locked')).body;
        return ids.map((id) => data.find((backup) => backup.id === id)?.status).join();
      };
      await listed();
      await until(async () => (await statuses()).join() === 'running,running,queued');
      // A list that is kept while it is looked at again and again tells the same.
      await until(async () => (await listed()) === 'running,running,queued');
      const [running = '', other = '', queued = ''] = ids;
      expectRefusal(await api('DELETE', `/api/backups/${running}`), 409, 'CONFLICT', /running; cancel it first/);
      expectRefusal(await api('GET', `/api/backups/${running}/download`), 409, 'CONFLICT', /running/);
      expectRefusal(await api('POST', `/api/backups/${running}/verify`, {}), 409, 'CONFLICT', /running/);
      const target = { mode: 'new-database', database: 'never' };
      expectRefusal(await api('POST', `/api/backups/${running}/restore`, { target }), 409, 'CONFLICT', /running/);
      expectRefusal(await api('DELETE', `/api/sources/${sources.locked.id}`), 409, 'CONFLICT', /queued or running/);
      expect((await api<BackupDto>('POST', `/api/backups/${queued}/cancel`)).body.data.status).toBe('canceled');
      for (const id of [running, other]) expect((await api('POST', `/api/backups/${id}/cancel`)).status).toBe(200);
      await until(async () => (await statuses()).every((status) => status === 'canceled'));
      await until(async () => (await listed()) === 'canceled,canceled,canceled');
      for (const id of ids) expect(await objects(id)).toEqual([]);
      expect((await details(running)).runs).toMatchObject([{ outcome: 'canceled' }]);
      expect((await details(queued)).runs).toEqual([]);
    } finally {
      await release();
    }
    expect((await create({ source: 'locked' }, '?wait=60')).body.data.status).toBe('completed');
  });

  it('tells of its progress event by event, and of its end once', async () => {
    const release = await holdLock(postgres.current.connection('locked'), 't');
    let released = false;
    try {
      const { id } = (await create({ source: 'locked', type: 'database' })).body.data;
      const response = await open(server.current.url, 'GET', `/api/backups/${id}/progress`, {
        headers: { 'accept-encoding': 'gzip, br' },
      });
      expect(response.headers['content-type']).toBe('text/event-stream; charset=utf-8');
      expect(response.headers).not.toHaveProperty('content-encoding');
      expect(response.headers['cache-control']).toBe('no-store');
      let text = '';
      for await (const chunk of response) {
        text += String(chunk);
        // It is still running: what has come so far came while it ran.
        if (!released && /"status":"running"/.test(text)) {
          expect(text).not.toContain('event: end');
          await release();
          released = true;
        }
      }
      const events = text
        .split('\n\n')
        .filter((block) => block.startsWith('event: '))
        .map((block) => /^event: (\w+)\ndata: (.*)$/.exec(block))
        .map((match) => ({ event: match?.[1], data: JSON.parse(match?.[2] ?? '') as Record<string, unknown> }));
      expect(events.slice(0, -1).every(({ event, data }) => event === 'progress' && 'status' in data && 'progress' in data)).toBe(
        true,
      );
      expect(events.at(-1)).toMatchObject({ event: 'end', data: { id, status: 'completed' } });
      expect(events.length).toBeGreaterThan(2);
    } finally {
      if (!released) await release();
    }
  });
});

describe('a backup that can not be made', () => {
  it.each<[string, (url: URL) => void, string]>([
    ['a wrong password', (url) => (url.password = 'wrong'), 'AUTHENTICATION_FAILED'],
    ['a database that is not there', (url) => (url.pathname = '/gone'), 'DATABASE_NOT_FOUND'],
    ['a server that does not answer', (url) => (url.port = '1'), 'SOURCE_UNREACHABLE'],
  ])('ends as failed with its cause and how to mend it: %s', async (name, change, code) => {
    const url = new URL(urlOf(postgres.current.connection('small')));
    change(url);
    const source = (await api<SourceDto>('POST', '/api/sources', { name, url: url.href })).body.data;
    expectRefusal(await api('POST', `/api/sources/${source.id}/test`, {}), 422, 'PRECONDITION_FAILED');
    const backup = (await create({ source: source.id }, '?wait=60')).body.data;
    expect(backup).toMatchObject({ status: 'failed', proofLevel: null, sizeBytes: 0 });
    expect(backup.error).toEqual({
      code,
      message: expect.stringMatching(/^[A-Z].*\.$/),
      hint: expect.stringMatching(/^[A-Z].*\.$/),
    });
    expectRefusal(await api('GET', `/api/backups/${backup.id}/download`), 409, 'CONFLICT', /failed/);
    const [listed] = (await api<BackupDto[]>('GET', `/api/backups/list?source=${source.id}`)).body.data;
    expect(listed).toEqual(backup);
  });

  it.each(['/etc/passwd', '/', 'etc', '/tmp/../etc'])(
    'may not even be asked for with files that are not allowed, and the refusal names the setting: %s',
    async (path) => {
      const source = { name: 'with files', url: urlOf(postgres.current.connection('small')), configPaths: [path] };
      const refused = await api('POST', '/api/sources', source);
      expectRefusal(refused, 400, 'VALIDATION_ERROR', /CONFIG_ROOTS|plain absolute path/);
      expect(refused.body.fields).toHaveProperty('configPaths');
      expectRefusal(await api('PUT', '/api/sources/shop', { configPaths: [path] }), 400, 'VALIDATION_ERROR');
    },
  );
});

describe('a download', () => {
  const download = (query: string, headers: Record<string, string> = {}) =>
    server.current.request('GET', `/api/backups/${shop.id}/download${query}`, { headers });

  it('gives the artifact as it is stored, with its length, its hash and its name', async () => {
    const [artifact] = (await details(shop.id)).artifacts.filter(({ component }) => component === 'database');
    const answer = await download('?artifact=database.dump.zst.age', { 'accept-encoding': 'gzip, br' });
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-length': String(artifact?.storedBytes),
      'content-disposition': 'attachment; filename="database.dump.zst.age"',
      'accept-ranges': 'bytes',
      etag: `"${artifact?.storedSha256}"`,
      'cache-control': 'private, no-store',
    });
    expect(answer.headers).not.toHaveProperty('content-encoding');
    expect(createHash('sha256').update(answer.bytes).digest('hex')).toBe(artifact?.storedSha256);
    expect(answer.bytes.subarray(0, 21).toString()).toBe('age-encryption.org/v1');
  });

  it('gives parts of it, so that a broken download can go on', async () => {
    const whole = (await download('')).bytes;
    for (const [range, start, end] of [
      ['bytes=0-9', 0, 10],
      ['bytes=10-', 10, whole.length],
      ['bytes=-7', whole.length - 7, whole.length],
      [`bytes=5-${whole.length + 100}`, 5, whole.length],
    ] as const) {
      const part = await download('', { range });
      expect(part.status).toBe(206);
      expect(part.headers['content-range']).toBe(`bytes ${start}-${end - 1}/${whole.length}`);
      expect(part.bytes.equals(whole.subarray(start, end))).toBe(true);
    }
    const etag = String((await download('')).headers.etag);
    expect((await download('', { range: 'bytes=0-9', 'if-range': etag })).status).toBe(206);
    expect((await download('', { range: 'bytes=0-9', 'if-range': '"of another artifact"' })).bytes.equals(whole)).toBe(true);
    const outside = await download('', { range: `bytes=${whole.length}-` });
    expect(outside.status).toBe(416);
    expect(outside.headers['content-range']).toBe(`bytes */${whole.length}`);
    expect(outside.body).toMatchObject({ success: false, code: 'VALIDATION_ERROR', requestId: outside.headers['x-request-id'] });
  });

  it('gives the very bytes of pg_dump when asked to decrypt', async () => {
    const artifact = (await details(shop.id)).artifacts.find(({ name }) => name === 'database.dump.zst.age');
    const answer = await download('?form=decrypted');
    expect(answer.status).toBe(200);
    expect(answer.headers['content-disposition']).toBe('attachment; filename="database.dump"');
    expect(answer.bytes).toHaveLength(artifact?.plainBytes ?? -1);
    expect(createHash('sha256').update(answer.bytes).digest('hex')).toBe(artifact?.plainSha256);
    const file = join(server.current.dataDir, 'downloaded.dump');
    await writeFile(file, answer.bytes);
    expect((await run('pg_restore', ['-l', file])).stdout).toContain('TABLE DATA shop customers');
  });

  it('of a component with several artifacts is the first, and names them all', async () => {
    const answer = await download('?component=config');
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({
      'content-disposition': 'attachment; filename="globals.sql.zst.age"',
      'x-artifacts': 'globals.sql.zst.age, config.tar.zst.age',
    });
  });

  it('gives the roles without their passwords', async () => {
    const answer = await download('?component=config&artifact=globals.sql.zst.age&form=decrypted');
    expect(answer.bytes.toString()).toMatch(/CREATE ROLE/);
    expect(answer.bytes.toString()).not.toMatch(/SCRAM-SHA-256|md5[0-9a-f]{32}/);
  });

  it('of what the backup does not have is not found', async () => {
    expectRefusal(await download('?artifact=nothing'), 404, 'NOT_FOUND', /nothing/);
    expectRefusal(await download('?artifact=..%2Fmanifest.json'), 404, 'NOT_FOUND');
    expectRefusal(await download('?component=everything'), 400, 'VALIDATION_ERROR');
    expectRefusal(await download('?form=plain'), 400, 'VALIDATION_ERROR');
  });
});
