import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { usePostgres } from '../support/postgres.js';
import { backUp, ended, good, type Run, show } from '../support/runs.js';
import { TestServer, urlOf } from '../support/server.js';
import { until } from '../support/until.js';

const postgres = usePostgres();
let server: TestServer;
let quick: Run;
let endless: Run;
let others: string[];

/** Servers that have begun since this file's own was there. */
const clusters = async () =>
  (await readdir(tmpdir())).filter((name) => name.startsWith('backstay-cluster-') && !others.includes(name));
const drill = (backup: Run) => good(server.api<Run>('POST', `/api/backups/${backup.id}/verify`, { level: 4 }));
const cancel = (verification: Run) => server.api<Run>('POST', `/api/verifications/${verification.id}/cancel`);
const reaches = (verification: Run, phase: string) =>
  until(async () => (await show(server, verification.id)).progress?.phase === phase);
const proofOf = async (backup: Run) => {
  const { proofLevel, broken } = await good(server.api<Run>('GET', `/api/backups/${backup.id}/details`));
  return { proofLevel, broken };
};

beforeAll(async () => {
  server = await TestServer.start({ DRILL_CONCURRENCY: '1', WORKER_CONCURRENCY: '3' });
  for (const [name, sql] of [
    ['quick', 'CREATE TABLE lines AS SELECT n FROM generate_series(1, 100) n'],
    // Restored elsewhere, it never comes to its end.
    [
      'endless',
      `CREATE MATERIALIZED VIEW waits AS SELECT length(pg_sleep(CASE WHEN current_database() = 'endless' THEN 0 ELSE 600 END)::text) AS n`,
    ],
  ] as const) {
    await postgres.current.exec(await postgres.current.createDatabase(name), sql);
    await good(server.api('POST', '/api/sources', { name, url: urlOf(postgres.current.connection(name)) }));
  }
  [quick, endless] = [await backUp(server, { source: 'quick' }), await backUp(server, { source: 'endless' })];
  others = await readdir(tmpdir());
});
afterAll(() => server?.stop());

describe('drills', () => {
  it('go on one at a time, tell where they are, and are canceled whether they wait or run', async () => {
    const running = await drill(endless);
    await reaches(running, 'post-data');
    const [waiting, unwanted] = [await drill(quick), await drill(quick)];
    await Promise.all([waiting, unwanted].map((each) => reaches(each, 'drill queued')));
    expect(await clusters()).toHaveLength(1);

    await good(cancel(unwanted));
    expect(await ended(server, unwanted.id)).toMatchObject({ status: 'canceled', error: null });
    expect((await show(server, running.id)).progress?.phase).toBe('post-data');

    await good(cancel(running));
    expect(await ended(server, running.id)).toMatchObject({ status: 'canceled', error: null, provenLevel: null });
    expect(await proofOf(endless)).toEqual({ proofLevel: 0, broken: false });
    expect(await ended(server, waiting.id)).toMatchObject({ status: 'completed', provenLevel: 4 });
    expect(await proofOf(quick)).toEqual({ proofLevel: 4, broken: false });
    await until(async () => (await clusters()).length === 0);
  });

  it('that have ended can not be canceled, and are told of to their end', async () => {
    const { id } = await drill(quick);
    const events = (await server.request('GET', `/api/verifications/${id}/progress`)).bytes.toString();
    expect(events).toMatch(/event: progress\ndata: .*"phase":"(level|drill|pre-data|data|post-data|analyze|compare)/);
    expect(events).toMatch(/event: end\ndata: .*"status":"completed".*"provenLevel":4/);
    expect((await cancel({ id } as Run)).status).toBe(409);
    const { status } = await server.api('POST', '/api/verifications/verification_2026-01-01_00-00-00_aaaaaa/cancel');
    expect(status).toBe(404);
  });
});
