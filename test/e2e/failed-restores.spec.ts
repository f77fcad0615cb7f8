import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { findClientPrograms } from '../../src/engine/postgres/client-programs.js';
import { differencesOf, portray } from '../support/compare-databases.js';
import { holdLock } from '../support/held-lock.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, ended, good, type Run, show } from '../support/runs.js';
import { ServerProcess } from '../support/server-process.js';
import { urlOf } from '../support/server.js';
import { until } from '../support/until.js';

/** The database as it was backed up, and as it is now: changed since, so that nothing of a restore can hide. */
const SOURCE = 'shop';
const CHANGES = `UPDATE shop.customers SET name = 'since the backup'; CREATE TABLE newer AS SELECT 7 AS i;
  DROP TABLE shop.edge_values CASCADE; COMMENT ON SCHEMA shop IS 'changed'`;
const MODES = ['new-database', 'url', 'swap', 'in-place', 'side-schema'] as const;
type Mode = (typeof MODES)[number];

const postgres = usePostgres();
const exec = (database: string, sql: string) => postgres.current.exec(database, sql);
let folder: string;
let server: ServerProcess;
let reader: { user: string; password: string };
/** Backups of the same database, by sources whose roles may do all or only read. */
const backups: Record<'owner' | 'reader', string> = { owner: '', reader: '' };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'failed-restores-'));
  await postgres.current.createSampleDatabase(SOURCE);
  await postgres.current.createDatabase('empty');
  const owner = urlOf(postgres.current.connection(SOURCE));
  server = await ServerProcess.start(folder);
  for (const name of ['owner', 'reader'] as const) {
    await good(server.api('POST', '/api/sources', { name, url: owner }));
    const backup = await backUp(server, { source: name });
    expect(backup).toMatchObject({ status: 'completed', error: null });
    backups[name] = backup.id;
  }
  // A source whose credentials were exchanged for those of a role that may only read.
  reader = await postgres.current.createUser('reader', 'IN ROLE pg_read_all_data');
  await good(server.api('PUT', '/api/sources/reader', { user: reader.user, password: reader.password }));
  await exec(SOURCE, CHANGES);
});
afterAll(async () => {
  await server?.end();
  await rm(folder, { recursive: true, force: true });
});

/** Everything that a restore could have touched: databases, roles, and all that is in the source and the empty database. */
async function everything() {
  const [programs] = await findClientPrograms({ binDirs: [] });
  if (!programs) throw new Error('these tests need pg_dump');
  const names = async (sql: string) => (await postgres.current.query<{ name: string }>('postgres', sql)).map(({ name }) => name);
  return {
    databases: await names('SELECT datname AS name FROM pg_database ORDER BY 1'),
    roles: await names('SELECT rolname AS name FROM pg_roles ORDER BY 1'),
    source: await portray(postgres.current.connection(SOURCE), programs),
    empty: await portray(postgres.current.connection('empty'), programs),
  };
}
type Everything = Awaited<ReturnType<typeof everything>>;

function expectSame(before: Everything, after: Everything): void {
  expect({ databases: after.databases, roles: after.roles }).toEqual({ databases: before.databases, roles: before.roles });
  expect(differencesOf(before.source, after.source)).toEqual([]);
  expect(differencesOf(before.empty, after.empty)).toEqual([]);
}

function targetOf(mode: Mode, as?: { user: string; password: string }): object {
  if (mode === 'new-database') return { mode, database: 'new one' };
  if (mode === 'url') return { mode, url: urlOf(postgres.current.connection('empty', as)) };
  if (mode === 'in-place') return { mode, confirm: as ? 'reader' : 'owner' };
  return { mode };
}
/** A side schema takes a part; every other mode has it all. */
const partOf = (mode: Mode) => (mode === 'side-schema' ? { tables: ['shop.orders', 'shop.customers'] } : {});

const ask = (backup: string, mode: Mode, as?: typeof reader, body: object = {}) =>
  server.api<Run>('POST', `/api/backups/${backup}/restore`, { target: targetOf(mode, as), ...partOf(mode), ...body });

/** Sessions of a run; of any with an empty id. */
const sessionsOf = (id: string) =>
  postgres.current.query<{ datname: string; waits: boolean }>(
    'postgres',
    `SELECT datname, wait_event_type IS NOT DISTINCT FROM 'Lock' AS waits FROM pg_stat_activity WHERE application_name LIKE $1`,
    [`backstay:${id}%`],
  );

const WANTED: Record<Mode, RegExp> = {
  'new-database': /may not create databases.*CREATEDB/,
  url: /lacks CREATE ON DATABASE/,
  swap: /does not own the database "shop"/,
  'in-place': /does not own .*only an owner may replace/,
  'side-schema': /may not make a schema/,
};

describe('a restore by a role without the right to do it', () => {
  it.each(MODES)('of mode %s is refused with what is missing, and leaves everything as it was', async (mode) => {
    const before = await everything();
    const { status, body } = await ask(backups.reader, mode, reader);
    expect({ status, ...body }).toMatchObject({ status: 422, code: 'PRECONDITION_FAILED' });
    expect(body.error).toMatch(WANTED[mode]);
    expectSame(before, await everything());
  });

  it('is refused where it would have to create roles that are missing', async () => {
    await exec('postgres', 'CREATE ROLE comes_and_goes');
    await exec(SOURCE, 'GRANT SELECT ON newer TO comes_and_goes');
    const backup = await backUp(server, { source: 'owner' });
    await exec(SOURCE, 'DROP OWNED BY comes_and_goes; DROP ROLE comes_and_goes');
    const plain = await postgres.current.createUser('plain');
    await exec('empty', 'GRANT ALL ON SCHEMA public TO plain; GRANT ALL ON DATABASE empty TO plain');
    const before = await everything();
    const { status, body } = await ask(backup.id, 'url', plain, { createRoles: true });
    expect({ status, ...body }).toMatchObject({
      status: 422,
      error: expect.stringMatching(/may not create "comes_and_goes".*CREATEROLE/),
    });
    expectSame(before, await everything());
    await exec('empty', 'DROP OWNED BY plain');
  });
});

describe('a restore whose target is in use', () => {
  it('in place gives up on a lock that another session keeps, and leaves everything as it was', async () => {
    const before = await everything();
    await good(server.api('PUT', '/api/sources/owner', { lockTimeoutMs: 200 }));
    const release = await holdLock(postgres.current.connection(SOURCE), 'shop.orders', 'ROW EXCLUSIVE');
    try {
      const run = await good(ask(backups.owner, 'in-place'));
      expect(await ended(server, run.id)).toMatchObject({ status: 'failed', error: { message: expect.stringMatching(/lock/i) } });
    } finally {
      await release();
      await good(server.api('PUT', '/api/sources/owner', { lockTimeoutMs: 60_000 }));
    }
    expectSame(before, await everything());
  });
});

/** Catalogs of PostgreSQL that a restore writes to in a part of its work, and waits for while another holds them. */
const PARTS = { structure: 'pg_proc', rows: 'pg_largeobject', keys: 'pg_trigger', statistics: 'pg_statistic' };
type Part = keyof typeof PARTS;

/** Does `work` while the restore waits in this part of its own. @returns the restore's id */
async function inTheMiddle(mode: Mode, work: (id: string) => Promise<unknown>, part: Part = 'structure'): Promise<string> {
  // The chosen tables have no function with them.
  const catalog = mode === 'side-schema' && part === 'structure' ? 'pg_constraint' : PARTS[part];
  const hold = (database: string) => holdLock(postgres.current.connection(database), catalog, 'SHARE');
  // A database that is there is held before, one that the restore makes as soon as it is there.
  let release =
    mode === 'url' ? await hold('empty') : mode === 'in-place' || mode === 'side-schema' ? await hold(SOURCE) : undefined;
  try {
    const { id } = await good(ask(backups.owner, mode));
    await until(async () => {
      // A restore in place waits in its safety backup, where that reads what is held.
      const sessions = await sessionsOf('');
      const made = sessions.find(({ datname }) => datname.startsWith('backstay'));
      if (made) release ??= await hold(made.datname);
      return release !== undefined && sessions.some(({ waits }) => waits);
    }, 60_000);
    await work(id);
    return id;
  } finally {
    await release?.();
  }
}

describe('a restore that is cut off in its middle', () => {
  it.each(MODES)('of mode %s leaves everything as it was when its sessions are ended', async (mode) => {
    const before = await everything();
    const id = await inTheMiddle(mode, (run) =>
      postgres.current.query(
        'postgres',
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE $1',
        [`backstay:${run}%`],
      ),
    );
    expect(await ended(server, id)).toMatchObject({ status: 'failed', error: { code: expect.any(String) } });
    await until(async () => (await sessionsOf(id)).length === 0);
    expectSame(before, await everything());
  });

  it.each<[Mode, Part]>([
    ['new-database', 'structure'],
    ['new-database', 'rows'],
    ['new-database', 'keys'],
    ['new-database', 'statistics'],
    ['url', 'rows'],
    ['swap', 'keys'],
    ['in-place', 'structure'],
    ['in-place', 'rows'],
    ['in-place', 'keys'],
    ['side-schema', 'structure'],
  ])('of mode %s is canceled while it makes the %s, and leaves everything as it was', async (mode, part) => {
    const before = await everything();
    const id = await inTheMiddle(
      mode,
      async (run) => {
        await good(server.api('POST', `/api/restores/${run}/cancel`));
        await until(async () => (await sessionsOf('')).length === 0);
      },
      part,
    );
    expect(await ended(server, id)).toMatchObject({ status: 'canceled' });
    expectSame(before, await everything());
  });

  it.each(MODES)(
    'of mode %s leaves the source as it was when the server is killed, and comes to its end at the next start',
    async (mode) => {
      const before = await everything();
      const id = await inTheMiddle(mode, async () => {
        await server.end();
      });
      // What the killed server's programs had asked for is done or rolled back once their sessions have ended.
      await until(async () => (await sessionsOf(id)).length === 0);
      const [programs] = await findClientPrograms({ binDirs: [] });
      const living = await portray(postgres.current.connection(SOURCE), programs!);
      if (mode !== 'side-schema') expect(differencesOf(before.source, living)).toEqual([]);
      server = await ServerProcess.start(folder);
      const run = await ended(server, id, 120_000);
      expect(run).toMatchObject({ status: 'completed', countsEqual: true });
      await undo(mode, id);
      expectSame(before, await everything());
    },
  );
});

/** Takes a completed restore back. */
async function undo(mode: Mode, id: string): Promise<void> {
  const { target } = (await show(server, id)) as Run & { target: { schema?: string } };
  if (mode === 'new-database') await exec('postgres', 'DROP DATABASE "new one"');
  if (mode === 'url') await exec('postgres', 'DROP DATABASE empty').then(() => postgres.current.createDatabase('empty'));
  if (mode === 'side-schema') await exec(SOURCE, `DROP SCHEMA "${target.schema}" CASCADE`);
  if (mode === 'swap') {
    const { previousDatabase } = await good(server.api<{ previousDatabase: string }>('POST', `/api/restores/${id}/revert`));
    await exec('postgres', `DROP DATABASE "${previousDatabase}"`);
  }
  if (mode === 'in-place') await exec(SOURCE, CHANGES.replace('CREATE TABLE newer AS SELECT 7 AS i;', ''));
}
