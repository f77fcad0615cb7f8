import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { sql } from 'kysely';
import { Catalog, type Db } from '../../src/catalog/catalog.js';
import { loadSettings } from '../../src/config/settings.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, good, storedFiles } from '../support/runs.js';
import { serverEnvironment, urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

/** `npm run torture` sets it: so many kills instead of the few usual ones. */
const ROUNDS = Number(process.env['REMOVAL_KILLS'] ?? 3);
const COPIES = 40;
const KEPT = 3;
/** The removal of the copies takes about as long after the backup's end. */
const MOMENTS_MS = 800;

jest.setTimeout(180_000 + ROUNDS * 60_000);

const postgres = usePostgres();
let dataDir: string;
let catalog: Catalog;
let db: Db;
let server: ServerProcess | undefined;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'backstay-removal-'));
  for (const name of ['shop', 'catalog']) await postgres.current.createDatabase(name);
  await postgres.current.exec('shop', 'CREATE TABLE t AS SELECT generate_series(1, 100) AS n');
  env = {
    DATABASE_URL: urlOf(postgres.current.connection('catalog')),
    SECRET_KEY: Buffer.alloc(32, 1).toString('base64'),
    SOURCE_DATABASE_URL: urlOf(postgres.current.connection('shop')),
    TRASH_DAYS: '0',
  };
  catalog = await Catalog.open(loadSettings(serverEnvironment(dataDir, env)));
  ({ db } = catalog);
});
afterEach(async () => {
  await server?.end();
  server = undefined;
});
afterAll(async () => {
  await catalog?.close();
  await rm(dataDir, { recursive: true, force: true });
});

/** Copies of a backup that are a day older each, in the catalog and at the destination: what retention takes for backups. */
async function multiply(id: string, round: number): Promise<void> {
  const copies = Array.from(
    { length: COPIES },
    (_, i) => `backup_2025-01-01_00-00-00_${(round * COPIES + i).toString(36).padStart(6, '0')}`,
  );
  const { prefix } = await db.selectFrom('backups').select('prefix').where('id', '=', id).executeTakeFirstOrThrow();
  for (const [i, copy] of copies.entries()) {
    await cp(join(dataDir, 'backups', prefix), join(dataDir, 'backups', prefix.replace(id, copy)), { recursive: true });
    await db.transaction().execute(async (trx) => {
      await sql`INSERT INTO backups SELECT (jsonb_populate_record(b, jsonb_build_object('id', ${copy}::text,
          'prefix', replace(b.prefix, b.id, ${copy}), 'created_at', b.created_at - make_interval(days => ${i + 1})))).*
        FROM backups b WHERE id = ${id}`.execute(trx);
      await sql`INSERT INTO artifacts SELECT (jsonb_populate_record(a, jsonb_build_object('backup_id', ${copy}::text))).*
        FROM artifacts a WHERE backup_id = ${id}`.execute(trx);
    });
  }
}

async function files(): Promise<Map<string, string[]>> {
  const byBackup = new Map<string, string[]>();
  for (const file of await storedFiles(dataDir)) {
    const [, , , backup = '', name = ''] = file.split('/');
    byBackup.set(backup, [...(byBackup.get(backup) ?? []), name]);
  }
  return byBackup;
}

/** What stands in the catalog as a backup that can be used, without being one: its objects are not all there. */
async function falselyListed(): Promise<string[]> {
  const rows = await sql<{
    id: string;
    names: string[];
  }>`SELECT id, ARRAY(SELECT name FROM artifacts WHERE backup_id = b.id) AS names
    FROM backups b WHERE status = 'completed' AND purge_started_at IS NULL`.execute(db);
  const there = await files();
  return rows.rows
    .filter(({ id, names }) => [...names, 'manifest.json', 'manifest.json.sig'].some((name) => !there.get(id)?.includes(name)))
    .map(({ id }) => id);
}

describe('a server that is killed while it removes backups', () => {
  it('leaves each either whole or marked, finishes what it began, and loses none that the policy keeps', async () => {
    let cutOff = 0;
    server = await ServerProcess.start(dataDir, env);
    await backUp(server, { type: 'database' });
    await good(server.api('POST', '/api/retention-policies', { name: 'last', keepLast: KEPT, sources: ['default'] }));
    for (let round = 0; round < ROUNDS; round += 1) {
      const [newest] = await db
        .selectFrom('backups')
        .select('id')
        .where('status', '=', 'completed')
        .orderBy('created_at', 'desc')
        .execute();
      await multiply(newest!.id, round);
      await backUp(server, { type: 'database' });
      await delay(Math.random() * MOMENTS_MS);
      await server.end('SIGKILL');
      const rows = await db.selectFrom('backups').select(['id', 'deleted_at']).orderBy('created_at', 'desc').execute();
      const inTrash = rows.filter((row) => row.deleted_at !== null).length;
      if (inTrash > 0) cutOff += 1;
      expect(await falselyListed()).toEqual([]);
      const kept = rows.filter((row) => row.deleted_at === null).slice(0, KEPT);
      expect(kept.map((row) => row.id)).toEqual(rows.slice(0, KEPT).map((row) => row.id));
      server = await ServerProcess.start(dataDir, env);
      // What was marked is finished at the start; what only lies in the trash, by the next round.
      await until(
        async () =>
          (await db.selectFrom('backups').select('id').where('purge_started_at', 'is not', null).execute()).length === 0,
      );
      expect(await falselyListed()).toEqual([]);
      const there = await files();
      for (const { id: keptId } of kept) expect(there.get(keptId)).toContain('manifest.json');
    }
    await backUp(server, { type: 'database' });
    await until(async () => (await db.selectFrom('backups').select('id').execute()).length === KEPT);
    const rows = await db.selectFrom('backups').select('id').execute();
    await until(async () => (await files()).size === KEPT);
    expect([...(await files()).keys()].sort()).toEqual(rows.map((row) => row.id).sort());
    process.stdout.write(`${cutOff} of ${ROUNDS} kills came in the middle of a removal\n`);
  });
});
