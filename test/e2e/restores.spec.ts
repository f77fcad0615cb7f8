import { beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BackupDetailsDto, BackupDto } from '../../src/backups/backup.dto.js';
import type { RestoreDto } from '../../src/restores/restore.dto.js';
import type { SourceDto, SourceTestDto } from '../../src/sources/source.dto.js';
import type { VerificationDto } from '../../src/verifications/verification.dto.js';
import { holdLock } from '../support/held-lock.js';
import { usePostgres } from '../support/postgres.js';
import { storedFiles } from '../support/runs.js';
import { type Answer, open, urlOf, useServer } from '../support/server.js';
import { until } from '../support/until.js';

const postgres = usePostgres();
const url = (database: string) => urlOf(postgres.current.connection(database));
// The catalog lies on the same PostgreSQL server as the source, as in many small installations.
const server = useServer(() => ({ DATABASE_URL: url('postgres'), SECRET_KEY: randomBytes(32).toString('base64') }));

const api = <T>(method: string, path: string, body?: unknown) => server.current.api<T>(method, path, body);
const restore = (target: object, query = '', id = shop.id) =>
  api<RestoreDto>('POST', `/api/backups/${id}/restore${query}`, { target });
const verify = (body: object, id = shop.id) => api<VerificationDto>('POST', `/api/backups/${id}/verify?wait=60`, body);
const details = async (id = shop.id) => (await api<BackupDetailsDto>('GET', `/api/backups/${id}/details`)).body.data;
const count = async (database: string) =>
  Number((await postgres.current.query<{ n: string }>(database, 'SELECT count(*) AS n FROM shop.customers'))[0]?.n);
const databases = async () =>
  (await postgres.current.query<{ datname: string }>('postgres', 'SELECT datname FROM pg_database ORDER BY 1')).map(
    (row) => row.datname,
  );

let shop: BackupDto;

function expectRefusal(answer: Answer, status: number, code: string, words: RegExp): void {
  expect({ status: answer.status, ...answer.body }).toMatchObject({ status, success: false, code });
  expect(answer.body.error).toMatch(words);
}

beforeAll(async () => {
  await postgres.current.createSampleDatabase('shop');
  const { body } = await api<SourceDto>('POST', '/api/sources', { name: 'shop', url: url('shop') });
  expect(body.success).toBe(true);
  shop = (await api<BackupDto>('POST', '/api/backups/create?wait=100', {})).body.data;
  expect(shop).toMatchObject({ status: 'completed' });
});

describe('a restore into a new database', () => {
  it('brings back every row, and says so', async () => {
    const answer = await restore({ mode: 'new-database', database: 'Copy of "shop"' }, '?wait=100');
    expect(answer.body.data).toMatchObject({
      id: expect.stringMatching(/^restore_\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}_[a-z0-9]{6}$/),
      backupId: shop.id,
      status: 'completed',
      target: { mode: 'new-database', host: '127.0.0.1', port: postgres.current.cluster.port, database: 'Copy of "shop"' },
      components: ['database'],
      countsEqual: true,
      differences: [],
      error: null,
      durationMs: expect.any(Number),
    });
    expect(await count('Copy of "shop"')).toBe(await count('shop'));
    expect((await api<RestoreDto>('GET', `/api/restores/${answer.body.data.id}`)).body.data).toEqual(answer.body.data);
  });

  it('is refused at once where a database has that name', async () => {
    expectRefusal(
      await restore({ mode: 'new-database', database: 'shop' }),
      422,
      'PRECONDITION_FAILED',
      /"shop" already.*another name/,
    );
  });

  it.each([
    ['template1', /1 to 63 bytes/],
    ['postgres', /1 to 63 bytes/],
    ['', /target\.database/],
    ['x'.repeat(64), /target\.database/],
    ['ä'.repeat(40), /1 to 63 bytes/],
    ['a\0b', /NUL/],
  ])('is refused at once where the name can not be one: %j', async (database, words) => {
    const answer = await restore({ mode: 'new-database', database });
    expectRefusal(answer, 400, 'VALIDATION_ERROR', words);
    expect(answer.body.fields).toHaveProperty(['target.database']);
  });

  it.each(['--version', '; DROP DATABASE shop', "a'b", 'host=evil', '../x', '%s'])(
    'takes a name that looks like something else for a name: %j',
    async (database) => {
      const done = (await restore({ mode: 'new-database', database }, '?wait=60', await small())).body.data;
      expect(done).toMatchObject({ status: 'completed', countsEqual: true });
      expect(await databases()).toContain(database);
    },
  );

  let smallBackup: Promise<string> | undefined;
  function small(): Promise<string> {
    smallBackup ??= (async () => {
      await postgres.current.createDatabase('small');
      await postgres.current.exec('small', 'CREATE TABLE t AS SELECT generate_series(1, 10) AS n');
      const { id } = (await api<SourceDto>('POST', '/api/sources', { name: 'small', url: url('small') })).body.data;
      return (await api<BackupDto>('POST', '/api/backups/create?wait=60', { source: id, type: 'database' })).body.data.id;
    })();
    return smallBackup;
  }

  it('that is canceled leaves no database behind, neither its own nor a half one', async () => {
    const before = await databases();
    // CREATE DATABASE has to write into this catalog table, and waits.
    const release = await holdLock(postgres.current.connection('postgres'), 'pg_database', 'SHARE');
    let id = '';
    try {
      id = (await restore({ mode: 'new-database', database: 'never' })).body.data.id;
      await until(async () => (await waiting()) > 0);
      expectRefusal(await api('DELETE', `/api/backups/${shop.id}`), 409, 'CONFLICT', /restore or verification/);
      expect((await api('POST', `/api/restores/${id}/cancel`)).status).toBe(200);
    } finally {
      await release();
    }
    await until(async () => (await api<RestoreDto>('GET', `/api/restores/${id}`)).body.data.status === 'canceled');
    await until(async () => (await databases()).join() === before.join());
    expectRefusal(await api('POST', `/api/restores/${id}/cancel`), 409, 'CONFLICT', /nothing to cancel/);
  });
});

/** Sessions that wait for a lock. */
async function waiting(): Promise<number> {
  const [row] = await postgres.current.query<{ n: string }>(
    'postgres',
    `SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'`,
  );
  return Number(row?.n);
}

describe('a restore into an empty database', () => {
  it('fills it, and tells its progress', async () => {
    await postgres.current.createDatabase('elsewhere');
    const { id } = (await restore({ mode: 'url', url: url('elsewhere') })).body.data;
    const response = await open(server.current.url, 'GET', `/api/restores/${id}/progress`);
    let text = '';
    for await (const chunk of response) text += String(chunk);
    expect(text.match(/^event: end$/gm)).toHaveLength(1);
    const end = JSON.parse(text.slice(text.indexOf('data: ', text.indexOf('event: end')) + 6)) as RestoreDto;
    expect(end).toMatchObject({ id, status: 'completed', countsEqual: true, target: { mode: 'url', database: 'elsewhere' } });
    expect(await count('elsewhere')).toBe(await count('shop'));
  });

  it('is refused at once where it is not empty, with what is in the way', async () => {
    expectRefusal(
      await restore({ mode: 'url', url: url('elsewhere') }),
      422,
      'PRECONDITION_FAILED',
      /not empty: it holds the table /,
    );
  });

  it("is refused where it is the catalog's own, under whatever name", async () => {
    const own = url('postgres');
    for (const target of [own, own.replace('127.0.0.1', 'localhost')])
      expectRefusal(await restore({ mode: 'url', url: target }), 422, 'PRECONDITION_FAILED', /catalog/);
  });

  it('is refused where it can not be reached', async () => {
    expectRefusal(await restore({ mode: 'url', url: url('gone') }), 422, 'PRECONDITION_FAILED', /gone/);
    const wrong = new URL(url('elsewhere'));
    wrong.password = 'wrong';
    expectRefusal(await restore({ mode: 'url', url: wrong.href }), 422, 'PRECONDITION_FAILED', /password/i);
  });

  it.each([
    [{ mode: 'url' }, /target\.url/],
    [{ mode: 'url', url: 'mysql://u@h/d' }, /postgres:\/\//],
    [{ mode: 'url', url: 'postgresql://u@h/d?service=evil' }, /service/],
    [{ mode: 'url', url: 'postgresql://u@/tmp/d' }, /host|unix/i],
    [{ mode: 'url', url: 'postgresql://u@h/d', database: 'x' }, /target\.database belongs to mode new-database/],
    [{ mode: 'new-database', database: 'x', url: 'postgresql://u@h/d' }, /belongs to mode url/],
  ])('is refused where the target makes no sense: %j', async (target, words) => {
    expectRefusal(await restore(target), 400, 'VALIDATION_ERROR', words);
  });

  it('that is canceled in the middle leaves it as empty as it was', async () => {
    await postgres.current.createDatabase('halfway');
    // The first function of the archive can't be made while this is held.
    const release = await holdLock(postgres.current.connection('halfway'), 'pg_proc', 'SHARE');
    let id = '';
    try {
      id = (await restore({ mode: 'url', url: url('halfway') })).body.data.id;
      await until(async () => (await waiting()) > 0);
      expect((await api('POST', `/api/restores/${id}/cancel`)).status).toBe(200);
      await until(async () => (await api<RestoreDto>('GET', `/api/restores/${id}`)).body.data.status === 'canceled');
    } finally {
      await release();
    }
    await until(async () => (await waiting()) === 0);
    const tables = await postgres.current.query('halfway', `SELECT 1 FROM pg_namespace WHERE nspname = 'shop'`);
    expect(tables).toEqual([]);
    const again = await restore({ mode: 'url', url: url('halfway') }, '?wait=100');
    expect(again.body.data).toMatchObject({ status: 'completed', countsEqual: true });
  });

  it('takes no backup that has no database in it', async () => {
    const config = (await api<BackupDto>('POST', '/api/backups/create?wait=60', { source: 'shop', type: 'config' })).body.data;
    expectRefusal(
      await restore({ mode: 'new-database', database: 'x' }, '', config.id),
      422,
      'PRECONDITION_FAILED',
      /no component database/,
    );
  });
});

describe('the list of restores', () => {
  it('shows them page by page, of one state or one backup', async () => {
    const list = async (query: string) => (await api<RestoreDto[]>('GET', `/api/restores?${query}`)).body;
    const all = await list('limit=100');
    expect(all.meta?.total).toBe(all.data.length);
    expect(all.data.map(({ createdAt }) => createdAt)).toEqual(
      all.data
        .map(({ createdAt }) => createdAt)
        .sort()
        .toReversed(),
    );
    expect((await list('status=canceled')).data.map(({ target }) => target.database).sort()).toEqual(['halfway', 'never']);
    expect((await list(`backup=${shop.id}&limit=1`)).data).toHaveLength(1);
    expect((await list('backup=backup_2025-12-22_14-30-00_k7m2qd')).data).toEqual([]);
  });

  it('tells no secret of the targets', async () => {
    const { bytes } = await api('GET', '/api/restores?limit=100');
    expect(bytes.toString()).not.toContain(postgres.current.connection().password);
  });
});

describe('a verification', () => {
  it.each(process.getuid?.() === 0 ? [0, 1, 2, 3, 4] : [0, 1, 2])('proves level %d, and the backup says so', async (level) => {
    const answer = (await verify({ level })).body.data;
    expect(answer).toMatchObject({
      id: expect.stringMatching(/^verification_/),
      backupId: shop.id,
      status: 'completed',
      requestedLevel: level,
      provenLevel: level,
      error: null,
    });
    expect(answer.checks.length).toBeGreaterThan(level);
    expect(answer.checks.every((check) => check.ok && check.level <= level && check.detail !== '')).toBe(true);
    expect((await details()).proofLevel).toBe(level);
    expect((await api<VerificationDto>('GET', `/api/verifications/${answer.id}`)).body.data).toEqual(answer);
    const [listed] = (await api<BackupDto[]>('GET', '/api/backups/list?source=shop&type=full')).body.data;
    expect(listed?.proofLevel).toBe(level);
  });

  it('of a lower level takes nothing away that was proven', async () => {
    const { proofLevel } = await details();
    expect((await verify({ level: 1 })).body.data.provenLevel).toBe(1);
    expect((await details()).proofLevel).toBe(proofLevel);
  });

  it('finds one changed bit, after which nothing of the backup is handed out as sound, and a mended one is good again', async () => {
    const name = (await storedFiles(server.current.dataDir)).find(
      (file) => file.includes(shop.id) && file.endsWith('database.dump.zst.age'),
    );
    const file = join(server.current.dataDir, 'backups', name ?? '');
    const sound = await readFile(file);
    const damaged = Buffer.from(sound);
    damaged.writeUInt8(damaged.readUInt8(damaged.length >> 1) ^ 1, damaged.length >> 1);
    await writeFile(file, damaged);
    try {
      const found = (await verify({})).body.data;
      expect(found).toMatchObject({ status: 'failed', provenLevel: 0, error: { code: 'ARTIFACT_CORRUPT' } });
      expect(found.checks.filter(({ ok }) => !ok)).toHaveLength(1);
      expect(await details()).toMatchObject({ broken: true, brokenCause: expect.stringContaining('database.dump.zst.age') });
      const download = await api('GET', `/api/backups/${shop.id}/download?form=decrypted`);
      expectRefusal(download, 422, 'PRECONDITION_FAILED', /database\.dump\.zst\.age/);
      const before = await databases();
      expectRefusal(
        await restore({ mode: 'new-database', database: 'damaged' }, '?wait=60'),
        422,
        'PRECONDITION_FAILED',
        /database\.dump/,
      );
      expect(await databases()).toEqual(before);
    } finally {
      await writeFile(file, sound);
    }
    expect((await verify({ level: 2 })).body.data).toMatchObject({ status: 'completed', provenLevel: 2 });
    expect(await details()).toMatchObject({ broken: false, brokenCause: null, proofLevel: 2 });
  });
});

describe('a source', () => {
  const create = (body: object) => api<SourceDto>('POST', '/api/sources', body);

  it('is shown with everything but its secret', async () => {
    const { host, port, user, password } = postgres.current.connection();
    const answer = await create({
      name: 'whole',
      host,
      port,
      user,
      password,
      database: 'shop',
      excludeTables: ['shop.products'],
    });
    expect(answer.body.data).toEqual({
      id: expect.stringMatching(/^src_[0-9a-f]{20}$/),
      name: 'whole',
      kind: 'postgres',
      host,
      port,
      database: 'shop',
      user,
      hasPassword: true,
      hasServiceRoleKey: false,
      supabaseUrl: null,
      tls: { mode: 'prefer' },
      configPaths: [],
      excludeSchemas: [],
      excludeTables: ['shop.products'],
      excludeBuckets: [],
      recipients: [],
      assertions: [],
      lockTimeoutMs: 60_000,
      statementTimeoutMs: 0,
      maxRunMs: 43_200_000,
      spool: false,
      alerts: { rowsDroppedPercent: 40, sizeDroppedPercent: 50, tableLost: true },
      targets: { rpoMinutes: null, rtoMinutes: null },
      serverVersion: null,
      createdAt: expect.any(String),
      updatedAt: expect.any(String),
    });
    expect(answer.bytes.toString()).not.toContain(password);
  });

  it('says whether a backup can be made of it', async () => {
    // A kept answer from before the test is not what is shown after it.
    await api('PUT', '/api/sources/whole', { lockTimeoutMs: 61_000 });
    expect((await api<SourceDto>('GET', '/api/sources/whole')).body.data.serverVersion).toBeNull();
    await api('POST', '/api/sources/whole/test', {});
    expect((await api<SourceDto>('GET', '/api/sources/whole')).body.data.serverVersion).toMatch(/^\d+/);
    await api('PUT', '/api/sources/whole', { lockTimeoutMs: 60_000 });
    const tested = (await api<SourceTestDto>('POST', '/api/sources/shop/test', {})).body.data;
    expect(tested).toMatchObject({
      ok: true,
      problems: [],
      missingPrivileges: [],
      pooler: null,
      clientProgram: expect.stringMatching(/^pg_dump /),
    });
    expect(tested.tableCount).toBe((await details()).tableCount);
    expect((await api<SourceDto>('GET', '/api/sources/shop')).body.data.serverVersion).toBe(tested.serverVersion);
  });

  it('says what its role may not read, before a backup fails on it', async () => {
    const { user, password } = await postgres.current.createUser('reader');
    const { host, port } = postgres.current.connection();
    await create({ name: 'may not', host, port, user, password, database: 'shop' });
    const tested = (await api<SourceTestDto>('POST', '/api/sources/may not/test'.replace(' ', '%20'), {})).body.data;
    expect(tested).toMatchObject({ ok: false });
    expect(tested.missingPrivileges.length).toBeGreaterThan(0);
    expect(tested.problems.join(' ')).toMatch(/may not read.*Grant it/s);
  });

  it('changes in what is given, and keeps the password that is not', async () => {
    const before = (await api<SourceDto>('GET', '/api/sources/whole')).body.data;
    const after = (await api<SourceDto>('PUT', `/api/sources/${before.id}`, { name: 'renamed', excludeTables: [] })).body.data;
    expect(after).toMatchObject({ ...before, name: 'renamed', excludeTables: [], updatedAt: expect.any(String) });
    expect((await api('POST', `/api/sources/${before.id}/test`, {})).status).toBe(200);
    expect((await api('PUT', `/api/sources/${before.id}`, { password: 'wrong' })).status).toBe(200);
    expectRefusal(await api('POST', `/api/sources/${before.id}/test`, {}), 422, 'PRECONDITION_FAILED', /password/i);
  });

  it.each<[object, RegExp]>([
    [{}, /host.*database.*user/],
    [{ url: 'postgresql://u:canary@h/d', host: 'h' }, /url stands instead of host/],
    [{ url: 'postgresql://u:canary@h/d?options=-c' }, /options/],
    [{ url: 'postgresql://u:canary@h1,h2/d' }, /several hosts/],
    [{ url: 'postgresql://u:can@ary@h/d' }, /%40/],
    [{ host: '-h', database: 'd', user: 'u' }, /host/],
    [{ host: '/var/run/postgresql', database: 'd', user: 'u' }, /ALLOW_UNIX_SOCKETS/],
    [{ host: 'h', database: 'd', user: 'u', tls: { mode: 'verify-full', ca: 'no PEM' } }, /PEM/],
    [{ host: 'h', database: 'd', user: 'u', excludeTables: ['a.b.c'] }, /schema\.table/],
    [{ name: '../x', host: 'h', database: 'd', user: 'u' }, /name/],
  ])('is refused when it makes no sense: %j', async (body, words) => {
    const answer = await create({ name: 'odd', ...body });
    expectRefusal(answer, 400, 'VALIDATION_ERROR', words);
    expect(answer.bytes.toString()).not.toMatch(/canary|can@ary/);
  });

  it("is never the catalog's own database, under whatever name", async () => {
    expectRefusal(await create({ name: 'own', url: url('postgres') }), 400, 'VALIDATION_ERROR', /catalog/);
    const { id } = (await create({ name: 'own', url: url('postgres').replace('127.0.0.1', 'localhost') })).body.data;
    expectRefusal(await api('POST', `/api/sources/${id}/test`, {}), 422, 'PRECONDITION_FAILED', /catalog/);
    const backup = (await api<BackupDto>('POST', '/api/backups/create?wait=60', { source: id })).body.data;
    expect(backup).toMatchObject({ status: 'failed', error: { code: 'TARGET_REFUSED' } });
  });

  it('that is deleted takes its credentials with it, and its backups stay', async () => {
    const { id } = (await create({ name: 'short', url: url('small') })).body.data;
    const backup = (await api<BackupDto>('POST', '/api/backups/create?wait=60', { source: id, type: 'database' })).body.data;
    expect((await api('DELETE', `/api/sources/${id}`)).status).toBe(200);
    expect((await api('GET', `/api/sources/${id}`)).status).toBe(404);
    expect((await details(backup.id)).status).toBe('completed');
    const row = await server.current.foundation.catalog.db
      .selectFrom('sources')
      .selectAll()
      .where('id', '=', id)
      .executeTakeFirst();
    expect(row?.sealed_password ?? null).toBeNull();
    await postgres.current.createDatabase('refuge');
    const restored = (await restore({ mode: 'url', url: url('refuge') }, '?wait=60', backup.id)).body.data;
    expect(restored).toMatchObject({ status: 'completed', countsEqual: true });
  });
});
