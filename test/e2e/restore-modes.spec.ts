import { beforeAll, describe, expect, it } from '@jest/globals';
import type { BackupDto } from '../../src/backups/backup.dto.js';
import { findClientPrograms } from '../../src/engine/postgres/client-programs.js';
import { withClient } from '../../src/engine/postgres/client.js';
import { KeptDatabases } from '../../src/restores/kept-databases.js';
import type { RestoreDto, RestorePlanDto } from '../../src/restores/restore.dto.js';
import type { SourceTestDto } from '../../src/sources/source.dto.js';
import { type DatabasePortrait, portray } from '../support/compare-databases.js';
import { usePostgres } from '../support/postgres.js';
import { type Answer, urlOf, useServer } from '../support/server.js';

const postgres = usePostgres();
const server = useServer();
const api = <T>(method: string, path: string, body?: unknown) => server.current.api<T>(method, path, body);
const query = <T extends object>(database: string, sql: string) =>
  postgres.current.query<T & Record<string, unknown>>(database, sql);
const exec = (database: string, sql: string) => postgres.current.exec(database, sql);

interface Shop {
  database: string;
  backup: BackupDto;
  before: DatabasePortrait;
}

/** A source of its own with the sample in it, backed up. */
async function shopNamed(database: string, as?: { user: string; password: string }): Promise<Shop> {
  await postgres.current.createSampleDatabase(database);
  if (as) await exec('postgres', `ALTER DATABASE "${database}" OWNER TO "${as.user}"`);
  const url = urlOf(postgres.current.connection(database, as));
  expect((await api('POST', '/api/sources', { name: database, url })).body).toMatchObject({ success: true });
  const { body } = await api<BackupDto>('POST', '/api/backups/create?wait=100', { source: database });
  expect(body.data).toMatchObject({ status: 'completed' });
  return { database, backup: body.data, before: await portrait(database) };
}

async function portrait(database: string): Promise<DatabasePortrait> {
  const [programs] = await findClientPrograms({ binDirs: [] });
  if (!programs) throw new Error('these tests need pg_dump');
  return portray(postgres.current.connection(database), programs);
}

const restore = <T = RestoreDto>(shop: Shop, body: object) =>
  api<T>('POST', `/api/backups/${shop.backup.id}/restore?wait=200`, body);
const names = async (like: string) =>
  (await query<{ datname: string }>('postgres', `SELECT datname FROM pg_database WHERE datname LIKE '${like}' ORDER BY 1`)).map(
    (row) => row['datname'] as string,
  );

function expectRefusal(answer: Answer<unknown>, status: number, words: RegExp): void {
  expect(answer).toMatchObject({ status, body: { success: false } });
  expect(answer.body.error).toMatch(words);
}

describe('a swap', () => {
  let shop: Shop;
  let swapped: RestoreDto;

  beforeAll(async () => {
    shop = await shopNamed('swapped');
    await exec(
      'postgres',
      `ALTER DATABASE swapped CONNECTION LIMIT 40; COMMENT ON DATABASE swapped IS 'the shop''s'; ALTER DATABASE swapped SET work_mem = '7MB'`,
    );
    await exec(
      'postgres',
      'CREATE ROLE guest; GRANT TEMPORARY ON DATABASE swapped TO guest; REVOKE CONNECT ON DATABASE swapped FROM PUBLIC',
    );
    await exec('swapped', 'CREATE TABLE newer (i int); DELETE FROM shop.edge_values');
  });

  it('is planned without a change', async () => {
    const { body } = await restore<RestorePlanDto>(shop, { target: { mode: 'swap' }, dryRun: true });
    expect(body.data).toMatchObject({ ok: true, problems: [], tables: shop.backup.tableCount, rows: shop.backup.rowCount });
    expect(body.data.objects['TABLE']).toBeGreaterThan(20);
    expect(body.data.usableModes).toContain('swap');
    expect(body.data.space.neededBytes).toBeGreaterThanOrEqual(body.data.dataBytes);
    // The private server is on this machine, and its postmaster.pid tells so.
    expect(body.data.space.freeBytes).toBeGreaterThan(body.data.dataBytes);
    expect(await names('swapped%')).toEqual(['swapped']);
  });

  it('replaces the database and ends the sessions that are in it, while none ever finds the name missing', async () => {
    const held = withClient(postgres.current.connection('swapped'), { applicationName: 'a busy application' }, (client) =>
      client.query('SELECT pg_sleep(100)'),
    );
    const ended = expect(held).rejects.toThrow();
    const { body } = await restore(shop, { target: { mode: 'swap', keepPreviousHours: 2 } });
    expect(body.data).toMatchObject({
      status: 'completed',
      error: null,
      countsEqual: true,
      target: { mode: 'swap', database: 'swapped' },
    });
    await ended;
    swapped = body.data;
    expect(await portrait('swapped')).toEqual(shop.before);
  });

  it('carries over what belongs to the database itself', async () => {
    const sql = `SELECT datconnlimit, shobj_description(d.oid, 'pg_database') AS comment, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) AS a) AS rights, pg_get_userbyid(datdba) AS owner, (SELECT setconfig::text FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0) AS settings
      FROM pg_database d WHERE datname IN ('swapped', '${swapped.previousDatabase}') ORDER BY datname`;
    const [now, before] = await query('postgres', sql);
    expect(now).toMatchObject({ datconnlimit: 40, comment: "the shop's" });
    expect(now).toEqual(before);
  });

  it('keeps the old database with all that was in it, and is taken back by a revert', async () => {
    expect(swapped.previousDatabase).toMatch(/^swapped_before_/);
    expect(Date.parse(swapped.previousUntil ?? '') - Date.now()).toBeLessThanOrEqual(2 * 3_600_000);
    expect(await query(swapped.previousDatabase ?? '', 'SELECT * FROM newer')).toEqual([]);
    const { body } = await api<RestoreDto>('POST', `/api/restores/${swapped.id}/revert`);
    expect(body.data).toMatchObject({
      revertedAt: expect.any(String),
      previousDatabase: expect.stringMatching(/^swapped_reverted_/),
    });
    expect(await query('swapped', 'SELECT * FROM newer')).toEqual([]);
    expectRefusal(await api('POST', `/api/restores/${swapped.id}/revert`), 409, /taken back already/);
  });

  it('lets the kept database go when its time is over, but never another of that name', async () => {
    const [kept] = await names('swapped_reverted%');
    const { db } = server.current.foundation.catalog;
    await db
      .updateTable('restores')
      .set({ previous_until: new Date(0), previous_oid: 1 })
      .where('id', '=', swapped.id)
      .execute();
    await server.current.running.app.get(KeptDatabases, { strict: false }).dropExpired();
    expect(await names('swapped_reverted%')).toEqual([kept]);

    const again = (await restore(shop, { target: { mode: 'swap', keepPreviousHours: 0 } })).body.data;
    expect(again).toMatchObject({ status: 'completed' });
    await server.current.running.app.get(KeptDatabases, { strict: false }).dropExpired();
    expect(await names('swapped_before%')).toEqual([]);
    expectRefusal(await api('POST', `/api/restores/${again.id}/revert`), 409, /has been dropped/);
  });

  it('refuses a part of a backup', async () => {
    expectRefusal(await restore(shop, { target: { mode: 'swap' }, tables: ['shop.orders'] }), 422, /whole database/);
  });
});

describe('a swap by a role that may not end the sessions of a superuser', () => {
  it('names who holds the database, and leaves everything as it was', async () => {
    const owner = await postgres.current.createUser('plain owner', 'CREATEDB');
    await postgres.current.createDatabase('held', 'OWNER "plain owner"');
    await withClient(postgres.current.connection('held', owner), { applicationName: 'test' }, (client) =>
      client
        .query('CREATE TABLE public.t AS SELECT 1 AS i')
        .catch(() => client.query('CREATE SCHEMA mine CREATE TABLE t (i int)')),
    );
    expect(
      (await api('POST', '/api/sources', { name: 'held', url: urlOf(postgres.current.connection('held', owner)) })).body,
    ).toMatchObject({ success: true });
    const backup = (await api<BackupDto>('POST', '/api/backups/create?wait=60', { source: 'held', type: 'database' })).body.data;
    expect(backup).toMatchObject({ status: 'completed' });
    await withClient(postgres.current.connection('held'), { applicationName: 'the night watch' }, async (client) => {
      await client.query('SELECT 1');
      const { body } = await api<RestoreDto>('POST', `/api/backups/${backup.id}/restore?wait=100`, { target: { mode: 'swap' } });
      expect(body.data).toMatchObject({
        status: 'failed',
        error: { code: 'TARGET_IN_USE', message: expect.stringContaining('the night watch') },
        previousDatabase: expect.anything(),
      });
    });
    expect(await names('held%')).toEqual(['held']);
    expect(await names('backstay%')).toEqual([]);
  });
});

describe('a restore in place', () => {
  let shop: Shop;

  beforeAll(async () => {
    shop = await shopNamed('placed');
  });

  it('wants the name of the source typed, and says which', async () => {
    expectRefusal(
      await restore(shop, { target: { mode: 'in-place' } }),
      400,
      /target\.confirm must be the name of the source.*"placed"/,
    );
    expectRefusal(await restore(shop, { target: { mode: 'in-place', confirm: 'shop' } }), 400, /"placed"/);
  });

  it('replaces what the backup has, keeps what it does not, and makes a safety backup first', async () => {
    await exec(
      'placed',
      `UPDATE shop.customers SET name = 'nobody'; DROP TABLE shop.edge_values CASCADE; CREATE TABLE newer AS SELECT 7 AS i`,
    );
    const { body } = await restore(shop, { target: { mode: 'in-place', confirm: 'placed' } });
    expect(body.data).toMatchObject({ status: 'completed', error: null, countsEqual: true });
    expect(await query('placed', 'SELECT i FROM newer')).toEqual([{ i: 7 }]);
    await exec('placed', 'DROP TABLE newer');
    expect(await portrait('placed')).toEqual(shop.before);
    const safety = (await api<BackupDto>('GET', `/api/backups/${body.data.safetyBackupId}/details`)).body.data;
    expect(safety).toMatchObject({ status: 'completed', origin: 'safety', source: { name: 'placed' } });
  });

  it('is refused, with its name, where something newer depends on what it would replace', async () => {
    await exec('placed', 'CREATE TABLE clings (customer bigint REFERENCES shop.customers (id))');
    const changed = await portrait('placed');
    expectRefusal(
      await restore(shop, { target: { mode: 'in-place', confirm: 'placed' } }),
      422,
      /foreign key .*clings.* depends on what would be replaced/,
    );
    expect(await portrait('placed')).toEqual(changed);
    await exec('placed', 'DROP TABLE clings');
  });

  it('rolls everything back when it fails in the middle', async () => {
    // Nobody foresees this one: the restored rows break it.
    await exec(
      'placed',
      `CREATE FUNCTION public.no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$; CREATE EVENT TRIGGER no ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION public.no()`,
    );
    const changed = await portrait('placed');
    const { body } = await restore(shop, { target: { mode: 'in-place', confirm: 'placed' } });
    expect(body.data).toMatchObject({
      status: 'failed',
      error: { code: 'RESTORE_FAILED', message: expect.stringContaining('not today') },
    });
    expect(await portrait('placed')).toEqual(changed);
    await exec('placed', 'DROP EVENT TRIGGER no; DROP FUNCTION public.no()');
  });

  it('replaces one table alone when asked to', async () => {
    await exec('placed', `UPDATE shop.customers SET name = 'nobody'; TRUNCATE shop.edge_values`);
    const { body } = await restore(shop, { target: { mode: 'in-place', confirm: 'placed' }, tables: ['shop.edge_values'] });
    expect(body.data).toMatchObject({ status: 'completed', countsEqual: true });
    const now = await portrait('placed');
    const digest = (from: DatabasePortrait, table: string) =>
      [...from.tables].find(([name]) => name.startsWith(`shop.${table} `))?.[1];
    expect(digest(now, 'edge_values')).toBe(digest(shop.before, 'edge_values'));
    expect(digest(now, 'customers')).not.toBe(digest(shop.before, 'customers'));
  });
});

describe('a part of a backup', () => {
  let shop: Shop;

  beforeAll(async () => {
    shop = await shopNamed('parted');
  });

  it('comes with its keys and sequences, and without the rest', async () => {
    const { body } = await restore(shop, { target: { mode: 'new-database', database: 'part of it' }, tables: ['shop.orders'] });
    expect(body.data).toMatchObject({ status: 'completed', countsEqual: true });
    const tables = await query(
      'part of it',
      "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'shop'::regnamespace",
    );
    expect(tables).toEqual([{ relname: 'orders' }]);
    expect(await query('part of it', "SELECT indexname FROM pg_indexes WHERE schemaname = 'shop'")).toEqual([
      { indexname: 'orders_pkey' },
    ]);
  });

  it('comes into a schema of its own beside the living tables, which stay as they are', async () => {
    const living = await portrait('parted');
    const { body } = await restore(shop, { target: { mode: 'side-schema' }, tables: ['shop.orders', 'shop.customers'] });
    expect(body.data).toMatchObject({
      status: 'completed',
      error: null,
      countsEqual: true,
      target: { schema: expect.stringMatching(/^restored_/) },
    });
    const { schema } = body.data.target;
    const [counts] = await query(
      'parted',
      `SELECT (SELECT count(*) FROM "${schema}".orders)::int AS restored, (SELECT count(*) FROM shop.orders)::int AS living`,
    );
    expect(counts?.['restored']).toBe(counts?.['living']);
    await exec('parted', `DROP SCHEMA "${schema}" CASCADE`);
    expect(await portrait('parted')).toEqual(living);
    expectRefusal(await restore(shop, { target: { mode: 'side-schema' } }), 422, /Choose some by tables/);
  });

  it('is refused with its name where the backup does not have it', async () => {
    expectRefusal(
      await restore(shop, { target: { mode: 'new-database', database: 'x' }, tables: ['shop.ordres'] }),
      422,
      /ordres/,
    );
    expectRefusal(
      await restore(shop, { target: { mode: 'new-database', database: 'x' }, schemaOnly: true, dataOnly: true }),
      400,
      /dataOnly/,
    );
  });

  it('is the structure first and the rows later, by schemaOnly and dataOnly', async () => {
    const bare = await restore(shop, {
      target: { mode: 'new-database', database: 'bare' },
      schemaOnly: true,
      tables: ['shop.customers'],
    });
    expect(bare.body.data).toMatchObject({ status: 'completed' });
    expect(await query('bare', 'SELECT count(*)::int AS n FROM shop.customers')).toEqual([{ n: 0 }]);
    const url = urlOf(postgres.current.connection('bare'));
    const filled = await restore(shop, { target: { mode: 'url', url }, dataOnly: true, tables: ['shop.customers'] });
    expect(filled.body.data).toMatchObject({ status: 'completed', countsEqual: true });
  });

  it('brings the roles along when asked to', async () => {
    await exec('postgres', 'CREATE ROLE "the boss" LOGIN CONNECTION LIMIT 3; CREATE ROLE staff; GRANT staff TO "the boss"');
    await exec('parted', 'CREATE TABLE bossed (i int); ALTER TABLE bossed OWNER TO "the boss"');
    const backup = (await api<BackupDto>('POST', '/api/backups/create?wait=60', { source: 'parted' })).body.data;
    await exec('parted', 'DROP TABLE bossed');
    await exec('postgres', 'DROP ROLE "the boss"');
    const body = { target: { mode: 'new-database', database: 'with roles' }, createRoles: true };
    const answer = await api<RestoreDto>('POST', `/api/backups/${backup.id}/restore?wait=100`, body);
    expect(answer.body.data).toMatchObject({ status: 'completed', warnings: [] });
    const owner = await query(
      'with roles',
      "SELECT tableowner, rolconnlimit, pg_has_role('the boss', 'staff', 'MEMBER') AS member FROM pg_tables JOIN pg_roles ON rolname = tableowner WHERE tablename = 'bossed'",
    );
    expect(owner).toEqual([{ tableowner: 'the boss', rolconnlimit: 3, member: true }]);
  });
});

describe('a source', () => {
  it('says on a test which restore modes its role can use, and what is in the way of the others', async () => {
    const reader = await postgres.current.createUser('only reads', 'IN ROLE pg_read_all_data');
    await postgres.current.createDatabase('looked_at');
    await exec('looked_at', 'CREATE TABLE theirs AS SELECT 1 AS i');
    const made = async (name: string, as?: { user: string; password: string }) => {
      const url = urlOf(postgres.current.connection('looked_at', as));
      return (await api<{ id: string }>('POST', '/api/sources', { name, url })).body.data.id;
    };
    const test = async (id: string) => (await api<SourceTestDto>('POST', `/api/sources/${id}/test`)).body.data;
    expect(await test(await made('by its owner'))).toMatchObject({
      ok: true,
      usableModes: ['new-database', 'url', 'swap', 'in-place', 'side-schema'],
      unusableModes: [],
    });
    expect(await test(await made('by a reader', reader))).toMatchObject({
      ok: true,
      usableModes: ['url'],
      unusableModes: [
        { mode: 'new-database', why: expect.stringMatching(/may not create databases.*CREATEDB/) },
        { mode: 'swap', why: expect.stringMatching(/does not own the database/) },
        { mode: 'in-place', why: expect.stringMatching(/does not own public\.theirs/) },
        { mode: 'side-schema', why: expect.stringMatching(/may not make a schema/) },
      ],
    });
  });
});

describe('a backup whose rows break what the schema asks for', () => {
  let shop: Pick<Shop, 'backup'>;

  beforeAll(async () => {
    await postgres.current.createDatabase('broken_rows');
    // The function inside finds its helper by the search path, which restores empty.
    await exec(
      'broken_rows',
      `CREATE FUNCTION helps(i int) RETURNS boolean LANGUAGE sql AS 'SELECT i > 0';
       CREATE FUNCTION checks(i int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN helps(i); END $$;
       CREATE TABLE checked (i int CHECK (checks(i))); INSERT INTO checked VALUES (1);
       CREATE TABLE sound AS SELECT n FROM generate_series(1, 10) n`,
    );
    await api('POST', '/api/sources', { name: 'broken rows', url: urlOf(postgres.current.connection('broken_rows')) });
    const { body } = await api<BackupDto>('POST', '/api/backups/create?wait=60', { source: 'broken rows', type: 'database' });
    shop = { backup: body.data };
  });

  it('fails its restore, and leaves nothing', async () => {
    const { body } = await restore(shop as Shop, { target: { mode: 'new-database', database: 'stopped' } });
    expect(body.data).toMatchObject({ status: 'failed', error: { code: 'RESTORE_FAILED' } });
    expect(await names('stopped%')).toEqual([]);
  });

  it('is restored as far as it goes when asked to, with every error listed and every difference counted', async () => {
    const { body } = await restore(shop as Shop, {
      target: { mode: 'new-database', database: 'went_on' },
      continueOnErrors: true,
    });
    expect(body.data).toMatchObject({
      status: 'completed',
      countsEqual: false,
      differences: [{ schema: 'public', table: 'checked', expectedRows: 1, actualRows: 0 }],
      warnings: [
        expect.stringMatching(/^COPY failed for table "checked".* function helps\(integer\) does not exist.*checked, line 1$/),
      ],
    });
    expect(await query('went_on', 'SELECT count(*)::int AS n FROM sound')).toEqual([{ n: 10 }]);
  });

  it('is never restored so in a mode that is all or nothing', async () => {
    expectRefusal(await restore(shop as Shop, { target: { mode: 'swap' }, continueOnErrors: true }), 400, /continueOnErrors/);
  });
});
