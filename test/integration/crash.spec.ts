import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { holdLock } from '../support/held-lock.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, createBackup, createRestore, ended, good, type Run, show, strayFiles, verify } from '../support/runs.js';
import { urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

/** `npm run torture` sets it: so many kills at random moments instead of the few usual ones. */
const ROUNDS = Number(process.env['TORTURE_ROUNDS'] ?? 0);
const TIMEOUT_MS = 120_000 + ROUNDS * 60_000;
const ROWS = 250_000;

jest.setTimeout(TIMEOUT_MS);

/** Moments of the kill, as shares of how long an undisturbed run takes. */
function moments(...usual: number[]): number[] {
  return ROUNDS > 0 ? Array.from({ length: ROUNDS }, () => Math.random() * 1.1) : usual;
}

const postgres = usePostgres();
let dataDir: string;
let server: ServerProcess | undefined;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'backstay-crash-'));
  await postgres.current.createDatabase('payload');
  await postgres.current.exec(
    'payload',
    `CREATE TABLE lines (id bigint PRIMARY KEY, body text NOT NULL);
     INSERT INTO lines SELECT n, md5(n::text) || md5((n * 7)::text) || repeat(md5((n * 13)::text), 4) FROM generate_series(1, ${ROWS}) n;
     CREATE INDEX ON lines (body)`,
  );
});
afterEach(async () => {
  await server?.end();
  server = undefined;
});
afterAll(() => rm(dataDir, { recursive: true, force: true }));

async function start(env: NodeJS.ProcessEnv = {}): Promise<ServerProcess> {
  const source = urlOf(postgres.current.connection('payload'));
  server = await ServerProcess.start(dataDir, { SOURCE_DATABASE_URL: source, ...env });
  return server;
}

/** Sessions of runs at the source; a pg_dump that outlived its server is one. */
async function sessions(): Promise<number> {
  const [row] = await postgres.current.query<{ count: string }>(
    'postgres',
    "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^backstay:(backup|restore)_'",
  );
  return Number(row?.count);
}

async function stagingDatabases(): Promise<string[]> {
  const rows = await postgres.current.query<{ datname: string }>(
    'postgres',
    "SELECT datname FROM pg_database WHERE datname LIKE 'backstay%'",
  );
  return rows.map((row) => row.datname);
}

async function countLines(database: string): Promise<number | null> {
  const [there] = await postgres.current.query<{ there: boolean }>(
    database,
    "SELECT to_regclass('public.lines') IS NOT NULL AS there",
  );
  if (!there?.there) return null;
  const [row] = await postgres.current.query<{ count: string }>(database, 'SELECT count(*) FROM lines');
  return Number(row?.count);
}

async function running(of: ServerProcess, id: string): Promise<void> {
  await until(async () => (await show(of, id)).status !== 'queued');
}

describe('a backup whose server is killed', () => {
  it('is never left running nor falsely completed, is begun anew under its id, and leaves nothing behind', async () => {
    await start();
    const begun = Date.now();
    const undisturbed = await backUp(server!);
    const took = Date.now() - begun;
    const completed = [undisturbed.id];
    for (const moment of moments(0.3, 0.6, 0.95)) {
      const { id } = await createBackup(server!);
      await delay(took * moment);
      await server!.end();
      await start();
      const afterStart = await show(server!, id);
      // The dead attempt is over: what runs now, if anything does, is the next one.
      if (afterStart.status === 'running') expect(afterStart.attempt).toBeGreaterThan(1);
      const again = await ended(server!, id);
      expect(again).toMatchObject({ status: 'completed', rowCount: ROWS, error: null });
      completed.push(id);
      expect(await strayFiles(dataDir, completed)).toEqual([]);
      await until(async () => (await sessions()) === 0);
    }
    const next = await backUp(server!);
    expect(next.status).toBe('completed');
    for (const id of [...completed, next.id])
      expect(await verify(server!, id)).toMatchObject({ status: 'completed', provenLevel: 2 });
  });

  it('fails as interrupted when its server dies under three attempts, with nothing left of it', async () => {
    await start();
    const kept = (await good(server!.api<Run[]>('GET', '/api/backups/list?status=completed&limit=100'))).map(({ id }) => id);
    // Behind this lock pg_dump waits: every attempt is killed in its middle.
    const { id } = await whileLocked(async () => {
      const backup = await createBackup(server!);
      for (let attempt = 1; attempt <= 3; attempt += 1) {
        await until(async () => (await show(server!, backup.id)).attempt === attempt && (await sessions()) > 0);
        await server!.end();
        await start();
      }
      return backup;
    });
    expect(await ended(server!, id)).toMatchObject({ status: 'failed', attempt: 3, error: { code: 'INTERRUPTED' } });
    await until(async () => (await sessions()) === 0);
    expect(await strayFiles(dataDir, kept)).toEqual([]);
    expect(await backUp(server!)).toMatchObject({ status: 'completed' });
  });
});

describe('a restore whose server is killed', () => {
  let backupId: string;
  beforeAll(async () => {
    await start();
    backupId = (await backUp(server!)).id;
    await server!.end('SIGTERM');
  });

  it('into a new database leaves no staging database, and comes to its end after the next start', async () => {
    await start();
    const begun = Date.now();
    const first = await createRestore(server!, backupId, { mode: 'new-database', database: 'undisturbed' });
    expect(await ended(server!, first.id)).toMatchObject({ status: 'completed', countsEqual: true });
    const took = Date.now() - begun;
    for (const [index, moment] of moments(0.4, 0.9).entries()) {
      const database = `copy_${index}`;
      const { id } = await createRestore(server!, backupId, { mode: 'new-database', database });
      await delay(took * moment);
      await server!.end();
      const [there] = await postgres.current.query('postgres', 'SELECT 1 FROM pg_database WHERE datname = $1', [database]);
      if (there) expect(await countLines(database)).toBe(ROWS);
      await start();
      expect(await ended(server!, id)).toMatchObject({ status: 'completed', countsEqual: true });
      expect(await countLines(database)).toBe(ROWS);
      expect(await stagingDatabases()).toEqual([]);
    }
  });

  it('into an empty database leaves it empty or whole, and comes to its end after the next start', async () => {
    await start();
    const begun = Date.now();
    await postgres.current.createDatabase('url_undisturbed');
    const first = await createRestore(server!, backupId, {
      mode: 'url',
      url: urlOf(postgres.current.connection('url_undisturbed')),
    });
    expect(await ended(server!, first.id)).toMatchObject({ status: 'completed', countsEqual: true });
    const took = Date.now() - begun;
    for (const [index, moment] of moments(0.5, 0.95).entries()) {
      const database = await postgres.current.createDatabase(`url_${index}`);
      const { id } = await createRestore(server!, backupId, { mode: 'url', url: urlOf(postgres.current.connection(database)) });
      await delay(took * moment);
      await server!.end();
      expect([null, ROWS]).toContain(await countLines(database));
      await start();
      expect(await ended(server!, id)).toMatchObject({ status: 'completed', countsEqual: true, error: null });
      expect(await countLines(database)).toBe(ROWS);
    }
  });
});

describe('a server that is asked to stop in the middle of a backup', () => {
  it('without grace gives the backup back, ends with 0, and goes on after the next start', async () => {
    await start({ SHUTDOWN_GRACE_SECONDS: '0' });
    const { id } = await createBackup(server!);
    await running(server!, id);
    expect(await server!.end('SIGTERM')).toEqual({ code: 0, signal: null });
    await until(async () => (await sessions()) === 0);
    await start();
    const again = await ended(server!, id);
    expect(again).toMatchObject({ status: 'completed', rowCount: ROWS });
    const { runs } = again as Run & { runs: { outcome: string }[] };
    expect(runs.map((run) => run.outcome)).toEqual(['given-back', 'completed']);
  });

  it('with grace finishes the backup first, and ends with 0', async () => {
    await start({ SHUTDOWN_GRACE_SECONDS: '30' });
    const { id } = await createBackup(server!);
    await running(server!, id);
    expect(await server!.end('SIGTERM')).toEqual({ code: 0, signal: null });
    await start();
    expect(await show(server!, id)).toMatchObject({ status: 'completed', attempt: 1 });
  });
});

/** Holds the table while `work` runs. */
async function whileLocked<T>(work: () => Promise<T>): Promise<T> {
  const release = await holdLock(postgres.current.connection('payload'), 'lines');
  try {
    return await work();
  } finally {
    await release();
  }
}
