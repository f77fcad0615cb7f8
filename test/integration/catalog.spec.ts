import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { CompiledQuery, createQueryId, type KyselyPlugin, type RootOperationNode, sql } from 'kysely';
import type { BackupDetailsDto, BackupDto, ListBackupsDto } from '../../src/backups/backup.dto.js';
import { BackupsRepository } from '../../src/backups/backups.repository.js';
import { Catalog } from '../../src/catalog/catalog.js';
import { migrateCatalog } from '../../src/catalog/migrations.js';
import type { SourceDto } from '../../src/sources/source.dto.js';
import { usePostgres } from '../support/postgres.js';
import { open, TestServer, urlOf } from '../support/server.js';
import { until } from '../support/until.js';

const postgres = usePostgres();
const folders: string[] = [];
const opened: { close(): Promise<void> }[] = [];

afterEach(async () => {
  for (const catalog of opened.splice(0)) await catalog.close();
});

afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'backstay-catalog-'));
  folders.push(folder);
  return folder;
}

type CatalogSettings = Parameters<typeof Catalog.open>[0];

async function openCatalog(settings: CatalogSettings): Promise<Catalog> {
  const catalog = await Catalog.open(settings);
  opened.push(catalog);
  return catalog;
}

const shared = async (): Promise<CatalogSettings> => ({
  dataDir: await newFolder(),
  databaseUrl: urlOf(postgres.current.connection(await postgres.current.createDatabase())),
  databasePoolSize: 10,
});
/** Making an embedded catalog takes seconds, so there is one for all tests, which each open it again. */
let embeddedFolder: Promise<string> | undefined;
const embedded = async (): Promise<CatalogSettings> => ({
  dataDir: await (embeddedFolder ??= newFolder()),
  databaseUrl: undefined,
  databasePoolSize: 2,
});

const insertOrganization = (id: string) => sql`INSERT INTO organizations (id, name) VALUES (${id}, ${id})`;

describe.each([
  ['embedded', embedded],
  ['shared', shared],
])('the %s catalog', (_, settings) => {
  it('keeps what parallel transactions do apart, also when every other one is rolled back', async () => {
    const catalog = await openCatalog(await settings());
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) =>
        catalog.transaction(async (trx) => {
          const seen = async () =>
            (await trx.selectFrom('organizations').select('id').where('id', 'like', `of ${i}/%`).execute()).length;
          await insertOrganization(`of ${i}/1`).execute(trx);
          expect(await seen()).toBe(1);
          await insertOrganization(`of ${i}/2`).execute(trx);
          expect(await seen()).toBe(2);
          if (i % 2 === 1) throw new Error('rolled back');
        }),
      ),
    );
    expect(results.map(({ status }) => status)).toEqual(
      Array.from({ length: 20 }, (_, i) => (i % 2 === 1 ? 'rejected' : 'fulfilled')),
    );
    for (const result of results) if (result.status === 'rejected') expect((result.reason as Error).message).toBe('rolled back');
    const kept = await catalog.db.selectFrom('organizations').select('id').execute();
    const even = Array.from({ length: 10 }, (_, i) => [`of ${i * 2}/1`, `of ${i * 2}/2`]).flat();
    expect(kept.map(({ id }) => id).sort()).toEqual(even.sort());
  });

  it('goes on after a transaction that failed in SQL', async () => {
    const catalog = await openCatalog(await settings());
    await expect(catalog.transaction((trx) => sql`SELECT 1 / 0`.execute(trx))).rejects.toThrow(/division by zero/);
    await expect(sql`SELECT nothing`.execute(catalog.db)).rejects.toThrow(/nothing/);
    await catalog.ping();
  });

  it('is brought to this version once, and found so later', async () => {
    const chosen = await settings();
    const first = await Catalog.open(chosen);
    expect(await migrateCatalog(first.db)).toEqual([]);
    const applied = await first.db.selectFrom('migrations').selectAll().orderBy('name').execute();
    expect(applied.length).toBeGreaterThan(0);
    await first.close();
    const again = await openCatalog(chosen);
    expect(await again.db.selectFrom('migrations').selectAll().orderBy('name').execute()).toEqual(applied);
  });
});

describe('several servers that start at once on a new shared catalog', () => {
  it('bring it to this version once', async () => {
    const chosen = await shared();
    const catalogs = await Promise.all(Array.from({ length: 5 }, () => openCatalog(chosen)));
    const [count] = await Promise.all(
      catalogs.map(async ({ db }) => (await db.selectFrom('migrations').select('name').execute()).length),
    );
    expect(count).toBeGreaterThan(0);
  });

  it('found one installation with one owner, one organization and one pair of keys', async () => {
    const env = {
      DATABASE_URL: (await shared()).databaseUrl,
      SECRET_KEY: randomBytes(32).toString('base64'),
      SOURCE_DATABASE_URL: urlOf(postgres.current.connection('template1')),
      ROLE: 'api',
    };
    const servers = await Promise.all(Array.from({ length: 3 }, () => TestServer.start(env)));
    opened.push(...servers.map((server) => ({ close: () => server.stop() })));
    expect(new Set(servers.map(({ foundation }) => foundation.installation.id)).size).toBe(1);
    expect(new Set(servers.map(({ foundation }) => foundation.installation.defaultOrganizationId)).size).toBe(1);
    expect(new Set(servers.map(({ foundation }) => foundation.keys.recipient)).size).toBe(1);
    for (const server of servers)
      expect((await server.api<SourceDto[]>('GET', '/api/sources')).body.data.map(({ name }) => name)).toEqual(['default']);
    // Keys that are made at the same time push none of the others out: backups may be encrypted to any of them by now.
    const rotated = await Promise.all(
      [...servers, ...servers].map((server) => server.api<{ recipients: string[] }>('POST', '/api/keys', { scope: 'server' })),
    );
    expect(rotated.map(({ status }) => status)).toEqual(Array.from({ length: 6 }, () => 200));
    await servers[0]!.foundation.keys.refresh();
    expect(new Set(servers[0]!.foundation.keys.ownRecipients).size).toBe(7);
    for (const { body } of rotated)
      expect(servers[0]!.foundation.keys.ownRecipients).toEqual(expect.arrayContaining(body.data.recipients));
  });
});

describe("an embedded catalog's folder", () => {
  it('serves one process: another is told who has it and what to do', async () => {
    const chosen = await embedded();
    const first = await Catalog.open(chosen);
    try {
      await expect(Catalog.open(chosen)).rejects.toThrow(
        new RegExp(`Another Backstay \\(process ${process.pid}\\) uses .*another DATA_DIR, or set DATABASE_URL`),
      );
      await first.ping();
    } finally {
      await first.close();
    }
    await openCatalog(chosen);
  });

  it('is taken over from a process that is dead, also when its number is in use again', async () => {
    const chosen = await embedded();
    await (await Catalog.open(chosen)).close();
    for (const holder of [
      { pid: 2 ** 22 + 1, startTime: 1 },
      { pid: process.pid, startTime: 1 },
    ]) {
      await writeFile(join(chosen.dataDir, 'catalog/server.lock'), JSON.stringify({ host: hostname(), ...holder }));
      await (await Catalog.open(chosen)).close();
    }
  });
});

// The last one to use the embedded catalog.
describe.each([
  ['embedded', embedded],
  ['shared', shared],
])('the %s catalog of a newer version', (_, settings) => {
  it('is refused, each time, and lets go of everything', async () => {
    const chosen = await settings();
    const catalog = await Catalog.open(chosen);
    await catalog.db.insertInto('migrations').values({ name: '9999-from-the-future' }).execute();
    await catalog.close();
    await expect(Catalog.open(chosen)).rejects.toThrow(/newer version of Backstay \(it has 9999-from-the-future\)/);
    // Refused again, so the first refusal has let go of everything.
    await expect(Catalog.open(chosen)).rejects.toThrow(/newer version/);
  });
});

describe('a catalog of 100,000 backups', () => {
  let catalog: Catalog;
  const captured: RootOperationNode[] = [];
  const capture: KyselyPlugin = {
    transformQuery: ({ node }) => {
      captured.push(node);
      return node;
    },
    transformResult: async ({ result }) => result,
  };

  beforeAll(async () => {
    catalog = await Catalog.open(await shared());
    await sql`INSERT INTO organizations (id, name) SELECT 'org_' || i, 'org ' || i FROM generate_series(1, 3) i`.execute(
      catalog.db,
    );
    await sql`INSERT INTO sources (id, organization_id, name, kind, host, port, database, username, tls, options)
      SELECT 'src_' || i, 'org_' || (1 + i % 3), 'source ' || i, 'postgres', 'h', 5432, 'd', 'u', '{}', '{}' FROM generate_series(1, 30) i`.execute(
      catalog.db,
    );
    await sql`INSERT INTO backups (id, organization_id, status, source_id, type, origin, components, compress, tags, prefix,
        created_at, started_at, finished_at, stored_bytes, deleted_at)
      SELECT 'backup_' || i, 'org_' || (1 + i % 3), CASE i % 50 WHEN 0 THEN 'failed' ELSE 'completed' END, 'src_' || (1 + i % 30), 'full', 'schedule',
        '{database}', true, '{}', 'p', now() - i * interval '1 minute', now() - i * interval '1 minute', now() - i * interval '1 minute' + (i % 977) * interval '1 second',
        i * 7919 % 1000003, CASE i % 100 WHEN 99 THEN now() END
      FROM generate_series(1, 100000) i`.execute(catalog.db);
    await sql`ANALYZE`.execute(catalog.db);
  });

  afterAll(() => catalog?.close());

  /** The plan's nodes, from the outer to the inner ones. */
  async function planOf(filter: Partial<ListBackupsDto>, sourceId?: string): Promise<{ type: string; rows: number }[]> {
    captured.length = 0;
    const repository = new BackupsRepository(
      Object.create(catalog, { db: { value: catalog.db.withPlugin(capture) } }) as Catalog,
    );
    await repository.list('org_2', { page: 1, limit: 20, ...filter }, sourceId);
    const [node] = captured;
    if (!node) throw new Error('the list asked the catalog nothing');
    const query = catalog.db.getExecutor().compileQuery(node, createQueryId());
    const { rows } = await catalog.db.executeQuery<{ 'QUERY PLAN': { Plan: PlanNode }[] }>(
      CompiledQuery.raw(`EXPLAIN (ANALYZE, FORMAT JSON) ${query.sql}`, [...query.parameters]),
    );
    return flatten(rows[0]?.['QUERY PLAN'][0]?.Plan);
  }

  interface PlanNode {
    'Node Type': string;
    'Actual Rows': number;
    'Rows Removed by Filter'?: number;
    Plans?: PlanNode[];
  }

  function flatten(node: PlanNode | undefined): { type: string; rows: number }[] {
    if (!node) return [];
    const rows = node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0);
    return [{ type: node['Node Type'], rows }, ...(node.Plans ?? []).flatMap(flatten)];
  }

  it.each<[string, Partial<ListBackupsDto>, string | undefined]>([
    ['the first', {}, undefined],
    ['the tenth', { page: 10 }, undefined],
    ['the oldest', { sort: 'createdAt' }, undefined],
    ['those that failed', { status: 'failed' }, undefined],
    ["one source's", {}, 'src_1'],
    ['the largest', { sort: '-sizeBytes' }, undefined],
    ['the shortest', { sort: 'durationMs' }, undefined],
    ['those of a day', { from: new Date(Date.now() - 30 * 86_400_000).toISOString() }, undefined],
    ['the thrown away', { trash: true }, undefined],
  ])('gives a page of %s from an index, without sorting or reading what is not shown', async (_, filter, sourceId) => {
    const plan = await planOf(filter, sourceId);
    expect(plan.map(({ type }) => type)).toEqual(['Limit', expect.stringMatching(/^Index (Only )?Scan$/)]);
    expect(Math.max(...plan.map(({ rows }) => rows))).toBeLessThanOrEqual(20 * (filter.page ?? 1));
  });
});

describe('two servers on one catalog, one that answers and one that works', () => {
  let api: TestServer;
  let worker: TestServer;
  const call = <T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    api.request<T>(method, path, { headers, ...(body === undefined ? {} : { body }) });

  beforeAll(async () => {
    const database = await postgres.current.createDatabase('source_of_two');
    await postgres.current.exec(database, 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS n');
    const env = {
      DATA_DIR: await newFolder(),
      DATABASE_URL: (await shared()).databaseUrl,
      SECRET_KEY: randomBytes(32).toString('base64'),
    };
    api = await TestServer.start({ ...env, ROLE: 'api', SOURCE_DATABASE_URL: urlOf(postgres.current.connection(database)) });
    worker = await TestServer.start({ ...env, ROLE: 'worker' });
  });

  afterAll(async () => {
    await api?.running.stop();
    await worker?.running.stop();
  });

  it('share the work: what one is asked for the other does, and no kept list is stale', async () => {
    const { id } = (await call<BackupDto>('POST', '/api/backups/create', {})).body.data;
    const listed = async () => (await call<BackupDto[]>('GET', '/api/backups/list')).body.data.find((backup) => backup.id === id);
    expect(await listed()).toMatchObject({ id });
    await until(async () => (await listed())?.status === 'completed');
    const answer = await call<BackupDetailsDto>('GET', `/api/backups/${id}/details`);
    expect(answer.body.data).toMatchObject({ status: 'completed', rowCount: 1000 });
    // What the worker has encrypted to the shared key, the other one can read.
    const download = await call('GET', `/api/backups/${id}/download?form=decrypted`);
    expect(download.bytes.subarray(0, 5).toString()).toBe('PGDMP');
  });

  it('keep to their parts: the one that works has probes and figures, and answers nothing else', async () => {
    for (const path of ['/api/status/live', '/api/status/ready', '/api/status/health', '/api/status/metrics'])
      expect((await worker.api('GET', path)).status).toBe(200);
    for (const path of ['/api/backups/list', '/api/sources', '/api/docs', '/api/nowhere']) {
      const answer = await worker.api('GET', path);
      expect({ status: answer.status, ...answer.body }).toMatchObject({ status: 503, code: 'UNAVAILABLE' });
    }
  });

  it('tell progress and take a cancel across the two', async () => {
    const { id } = (await call<BackupDto>('POST', '/api/backups/create', { label: 'followed' })).body.data;
    const response = await open(api.url, 'GET', `/api/backups/${id}/progress`);
    let text = '';
    for await (const chunk of response) text += String(chunk);
    expect(text).toMatch(/event: end\ndata: .*"status":"completed"/);
  });

  it('make one backup of ten requests with one Idempotency-Key', async () => {
    const answers = await Promise.all(
      Array.from({ length: 10 }, () =>
        call<BackupDto>('POST', '/api/backups/create', { label: 'ten' }, { 'idempotency-key': 'ten-at-once' }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(200));
    expect(new Set(answers.map((answer) => answer.body.data.id)).size).toBe(1);
  });
});
