import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { holdLock } from '../support/held-lock.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, createBackup, ended, good, type Run, show, storedFiles, strayFiles, verify } from '../support/runs.js';
import { urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

const ROWS = 20_000;
/** A worker unheard of for 20 s has lost its run; the others look every 10 s. */
const TAKEN_OVER_MS = 60_000;

const postgres = usePostgres();
const servers: ServerProcess[] = [];
let dataDir: string;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'workers-'));
  await postgres.current.createDatabase('catalog');
  await postgres.current.createDatabase('shop');
  await postgres.current.exec(
    'shop',
    `CREATE TABLE lines (id int PRIMARY KEY, body text); INSERT INTO lines SELECT n, md5(n::text) FROM generate_series(1, ${ROWS}) n`,
  );
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.end()));
});
afterAll(() => rm(dataDir, { recursive: true, force: true }));

/** One of several servers on one catalog and one folder. */
async function start(): Promise<ServerProcess> {
  const server = await ServerProcess.start(dataDir, {
    DATABASE_URL: urlOf(postgres.current.connection('catalog')),
    SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
    SOURCE_DATABASE_URL: urlOf(postgres.current.connection('shop')),
  });
  servers.push(server);
  return server;
}

async function sessionsOf(id: string): Promise<number> {
  const rows = await postgres.current.query('postgres', 'SELECT 1 FROM pg_stat_activity WHERE application_name = $1', [
    `backstay:${id}`,
  ]);
  return rows.length;
}

/** A backup that the first server holds, in the middle of its dump, until `release` is called. */
async function held(first: ServerProcess): Promise<{ id: string; release: () => Promise<void> }> {
  const release = await holdLock(postgres.current.connection('shop'), 'lines');
  const { id } = await createBackup(first);
  await until(async () => (await show(first, id)).progress?.phase === 'dump' && (await sessionsOf(id)) > 0);
  return { id, release };
}

describe('several servers on one catalog', () => {
  it('fence off a worker that stood still past its heartbeat, and keep what its successor made', async () => {
    const first = await start();
    const { id, release } = await held(first);
    first.signal('SIGSTOP');
    const second = await start();
    await until(async () => (await show(second, id)).attempt === 2, TAKEN_OVER_MS);
    await release();
    expect(await ended(second, id)).toMatchObject({ status: 'completed', attempt: 2, rowCount: ROWS });
    const files = await storedFiles(dataDir);
    first.signal('SIGCONT');
    // It answers again, and does another backup; what it lost, it does not touch.
    expect(await backUp(first)).toMatchObject({ status: 'completed' });
    expect(await show(first, id)).toMatchObject({ status: 'completed', attempt: 2 });
    expect(await storedFiles(dataDir)).toEqual(expect.arrayContaining(files));
    expect(await verify(second, id)).toMatchObject({ status: 'completed', provenLevel: 2 });
    const completed = (await good(second.api<Run[]>('GET', '/api/backups/list?status=completed'))).map((run) => run.id);
    await until(async () => (await strayFiles(dataDir, completed)).length === 0);
  });

  it('take over the backup of one that was killed', async () => {
    const [first, second] = [await start(), await start()];
    const { id, release } = await held(first);
    const holder = await holderOf(id);
    const [killed, alive] = holder === first.pid ? [first, second] : [second, first];
    await killed.end();
    await until(async () => (await show(alive, id)).attempt === 2, TAKEN_OVER_MS);
    await release();
    expect(await ended(alive, id)).toMatchObject({ status: 'completed', attempt: 2 });
    expect(await sessionsOf(id)).toBe(0);
  });

  it('refuse the catalog as a source, under whatever name', async () => {
    const server = await start();
    const url = urlOf(postgres.current.connection('catalog'));
    const outright = await server.api('POST', '/api/sources', { name: 'outright', url });
    expect(outright).toMatchObject({ status: 400, body: { code: 'VALIDATION_ERROR' } });
    await good(server.api('POST', '/api/sources', { name: 'disguised', url: url.replace('127.0.0.1', 'localhost') }));
    expect(await backUp(server, { source: 'disguised' })).toMatchObject({
      status: 'failed',
      error: { code: 'TARGET_REFUSED', message: expect.stringMatching(/catalog's own database/) },
    });
  });
});

/** The process that holds a run; a worker's id is host, process and a random part. */
async function holderOf(id: string): Promise<number> {
  const [row] = await postgres.current.query<{ worker_id: string }>(
    'catalog',
    'SELECT worker_id FROM backstay.backups WHERE id = $1',
    [id],
  );
  return Number(row?.worker_id.split(':')[1]);
}
