import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { sql } from 'kysely';
import { withClient } from '../../src/engine/postgres/client.js';
import { RunRecovery } from '../../src/jobs/run-recovery.js';
import { holdLock } from '../support/held-lock.js';
import { usePostgres } from '../support/postgres.js';
import {
  backUp,
  createBackup,
  createRestore,
  ended,
  good,
  type Run,
  show,
  storedFiles,
  strayFiles,
  verify,
} from '../support/runs.js';
import { TestServer, urlOf } from '../support/server.js';
import { until } from '../support/until.js';

const SOURCES = ['one', 'two', 'three'];
const postgres = usePostgres();
let folder: string;
let server: TestServer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'runs-'));
  const dataDir = join(folder, 'data');
  await mkdir(dataDir);
  server = await TestServer.start({ DATA_DIR: dataDir, WORKER_CONCURRENCY: '2' });
  for (const name of SOURCES) {
    await postgres.current.createDatabase(name);
    await postgres.current.exec(
      name,
      'CREATE TABLE lines (id int PRIMARY KEY, body text); INSERT INTO lines SELECT n, md5(n::text) FROM generate_series(1, 20000) n',
    );
    await good(server.api('POST', '/api/sources', { name, url: urlOf(postgres.current.connection(name)) }));
  }
});
afterAll(async () => {
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const catalog = () => server.foundation.catalog.db;
const recover = () => server.running.app.get(RunRecovery, { strict: false }).recover(false);

async function completed(): Promise<string[]> {
  return (await good(server.api<Run[]>('GET', '/api/backups/list?status=completed&limit=100'))).map(({ id }) => id);
}

async function databases(pattern: string): Promise<string[]> {
  const rows = await postgres.current.query<{ datname: string }>(
    'postgres',
    'SELECT datname FROM pg_database WHERE datname ~ $1',
    [pattern],
  );
  return rows.map(({ datname }) => datname);
}

describe('many backups at once', () => {
  it('are all made, two at a time, and each can be read to its last byte', async () => {
    const backups = await Promise.all(
      Array.from({ length: 20 }, (_, index) => createBackup(server, { source: SOURCES[index % 3] })),
    );
    let most = 0;
    await until(async () => {
      const { rows } = await sql<{ running: number; open: number }>`SELECT count(*) FILTER (WHERE status = 'running') AS running,
        count(*) FILTER (WHERE status IN ('queued', 'running')) AS open FROM backups`.execute(catalog());
      most = Math.max(most, Number(rows[0]?.running));
      return Number(rows[0]?.open) === 0;
    }, 90_000);
    expect(most).toBe(2);
    for (const { id } of backups)
      expect(await show(server, id)).toMatchObject({ status: 'completed', attempt: 1, rowCount: 20_000 });
    for (const { id } of backups.slice(0, 3)) expect(await verify(server, id)).toMatchObject({ provenLevel: 2 });
    expect(await strayFiles(server.dataDir, await completed())).toEqual([]);
  });
});

describe('a canceled backup', () => {
  it('that waits is over at once, and never begins', async () => {
    const release = await holdLock(postgres.current.connection('one'), 'lines');
    try {
      const busy = [await createBackup(server, { source: 'one' }), await createBackup(server, { source: 'one' })];
      const waiting = await createBackup(server, { source: 'two' });
      expect(await good(server.api<Run>('POST', `/api/backups/${waiting.id}/cancel`))).toMatchObject({
        status: 'canceled',
        attempt: 0,
      });
      for (const { id } of busy) {
        await good(server.api('POST', `/api/backups/${id}/cancel`));
        expect(await ended(server, id)).toMatchObject({ status: 'canceled', error: null });
      }
      expect(await show(server, waiting.id)).toMatchObject({ status: 'canceled', attempt: 0 });
      const sessions = "SELECT 1 FROM pg_stat_activity WHERE application_name ~ '^backstay:backup_'";
      await until(async () => (await postgres.current.query('postgres', sessions)).length === 0);
    } finally {
      await release();
    }
    expect(await strayFiles(server.dataDir, await completed())).toEqual([]);
  });

  it('at any moment is either canceled with nothing left, or completed and whole', async () => {
    const begun = Date.now();
    await backUp(server, { source: 'three' });
    const took = Date.now() - begun;
    for (let step = 0; step <= 10; step += 1) {
      const { id } = await createBackup(server, { source: 'three' });
      await delay((took * step) / 10);
      const answer = await server.api('POST', `/api/backups/${id}/cancel`);
      expect([200, 409]).toContain(answer.status);
      const { status } = await ended(server, id);
      if (status === 'completed') expect(await verify(server, id)).toMatchObject({ provenLevel: 2 });
      else expect(status).toBe('canceled');
      expect(await strayFiles(server.dataDir, await completed())).toEqual([]);
    }
  });
});

describe('a backup whose worker died after the manifest was written', () => {
  /** Takes the word `completed` out of the catalog, as if the worker had died before it could write it. */
  async function forget(id: string, attempts = 1): Promise<void> {
    await sql`UPDATE backups SET status = 'running', finished_at = NULL, worker_id = 'gone', heartbeat_at = now() - interval '1 hour',
      proof_level = NULL, proven_at = NULL, attempt = ${attempts} WHERE id = ${id}`.execute(catalog());
    await sql`DELETE FROM attempts WHERE run_id = ${id}`.execute(catalog());
    for (let attempt = 1; attempt <= attempts; attempt += 1) {
      await sql`INSERT INTO attempts (run_kind, run_id, attempt, worker_id, outcome)
        VALUES ('backup', ${id}, ${attempt}, 'gone', ${attempt < attempts ? 'interrupted' : null})`.execute(catalog());
    }
  }

  it('is completed', async () => {
    const { id } = await backUp(server, { source: 'one' });
    const files = (await storedFiles(server.dataDir)).filter((file) => file.includes(id));
    await forget(id);
    await recover();
    expect(await ended(server, id)).toMatchObject({ status: 'completed', error: null, proofLevel: 0 });
    expect((await storedFiles(server.dataDir)).filter((file) => file.includes(id))).toEqual(files);
    expect(await verify(server, id)).toMatchObject({ provenLevel: 2 });
  });

  it('is completed although it was its third attempt', async () => {
    const { id } = await backUp(server, { source: 'one' });
    await forget(id, 3);
    await recover();
    expect(await ended(server, id)).toMatchObject({ status: 'completed', error: null });
  });

  it('is completed although somebody had asked to cancel it', async () => {
    const { id } = await backUp(server, { source: 'one' });
    await forget(id);
    await sql`UPDATE backups SET cancel_requested_at = now() WHERE id = ${id}`.execute(catalog());
    await recover();
    expect(await ended(server, id)).toMatchObject({ status: 'completed', error: null });
  });

  it('is made anew when the manifest is not there', async () => {
    const { id } = await backUp(server, { source: 'one' });
    const manifest = (await storedFiles(server.dataDir)).find((file) => file.endsWith(`${id}/manifest.json`));
    await rm(join(server.dataDir, 'backups', manifest!));
    await forget(id);
    await recover();
    expect(await ended(server, id)).toMatchObject({ status: 'completed', attempt: 2 });
    expect(await verify(server, id)).toMatchObject({ provenLevel: 2 });
  });

  it('is recovered although another run can not be cleared away, as its database is gone', async () => {
    const gone = await postgres.current.createDatabase('short_lived');
    await postgres.current.exec(gone, 'CREATE TABLE lines (id int)');
    await good(server.api('POST', '/api/sources', { name: 'short-lived', url: urlOf(postgres.current.connection(gone)) }));
    const stuck = await backUp(server, { source: 'short-lived' });
    const restore = await createRestore(server, stuck.id, { mode: 'new-database', database: 'never_made' });
    await ended(server, restore.id);
    await sql`UPDATE restores SET status = 'running', worker_id = 'gone', heartbeat_at = NULL WHERE id = ${restore.id}`.execute(
      catalog(),
    );
    await postgres.current.exec('postgres', 'DROP DATABASE short_lived WITH (FORCE)');
    const { id } = await backUp(server, { source: 'one' });
    await forget(id);
    await recover();
    expect(await ended(server, id)).toMatchObject({ status: 'completed' });
    expect((await ended(server, restore.id)).status).toBe('failed');
  });
});

describe('restores at once', () => {
  it('of one backup to one new name: one wins, the other finds the name taken, and nothing else is left', async () => {
    const backup = await backUp(server, { source: 'one' });
    const target = { mode: 'new-database', database: 'contested' };
    const restores = await Promise.all([createRestore(server, backup.id, target), createRestore(server, backup.id, target)]);
    const outcomes = await Promise.all(restores.map(({ id }) => ended(server, id)));
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['completed', 'failed']);
    expect(outcomes.find(({ status }) => status === 'failed')?.error?.code).toBe('TARGET_EXISTS');
    expect(outcomes.find(({ status }) => status === 'completed')).toMatchObject({ countsEqual: true });
    expect(await databases('contested|^backstay')).toEqual(['contested']);
  });

  it('keep their backup from being deleted until they have ended', async () => {
    const backup = await backUp(server, { source: 'two' });
    const target = postgres.current.connection(await postgres.current.createDatabase('slow_target'));
    // A table of the same name that is not committed yet: the restore sees none, and waits for it.
    const restore = await withClient(target, { applicationName: 'test' }, async (client) => {
      await client.query('BEGIN; CREATE TABLE public.lines (id int)');
      const { id } = await createRestore(server, backup.id, { mode: 'url', url: urlOf(target) });
      await until(async () => (await show(server, id)).progress?.phase === 'data');
      const answer = await server.api('DELETE', `/api/backups/${backup.id}`);
      expect(answer).toMatchObject({ status: 409, body: { code: 'CONFLICT', error: expect.stringMatching(/restore/i) } });
      await client.query('ROLLBACK');
      return id;
    });
    expect(await ended(server, restore)).toMatchObject({ status: 'completed', countsEqual: true });
    expect((await server.api('DELETE', `/api/backups/${backup.id}`)).status).toBe(200);
  });
});
