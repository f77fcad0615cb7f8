import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { usePostgres } from '../support/postgres.js';
import { urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

/** `npm run bench -- --schedules 10000` asks for more. */
const SCHEDULES = Number(process.env['SCHEDULES'] ?? 1000);
const postgres = usePostgres();
const servers: ServerProcess[] = [];
let dataDir: string;

const one = async (sql: string): Promise<Record<string, number>> =>
  (await postgres.current.query<Record<string, number>>('catalog', sql))[0] ?? {};

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'schedules-'));
  await postgres.current.createDatabase('catalog');
  const env = {
    DATABASE_URL: urlOf(postgres.current.connection('catalog')),
    SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
    SOURCE_DATABASE_URL: urlOf(postgres.current.connection('postgres')),
    // Backups are queued and wait: it is the queuing that is looked at.
    ROLE: 'api',
  };
  servers.push(await ServerProcess.start(dataDir, env));
  servers.push(...(await Promise.all([1, 2].map(() => ServerProcess.start(dataDir, env)))));
});
afterAll(async () => {
  await Promise.all(servers.map((server) => server.end()));
  await rm(dataDir, { recursive: true, force: true });
});

describe('three servers on one catalog', () => {
  it(`queue each of ${SCHEDULES} backups of the same moment once and soon, also when one is killed in the middle`, async () => {
    await postgres.current.exec(
      'catalog',
      `INSERT INTO backstay.schedules (id, organization_id, name, source_id, action, type, compress, tags, destinations, cron, timezone, enabled,
         jitter_seconds, missed_runs, overlap, verify_level, max_attempts, retry_delay_seconds, next_slot, due_at)
       SELECT 'sched_' || n, s.organization_id, 'at once ' || n, s.id, 'backup', 'database', true, '{}', '{}', '0 3 1 1 *', 'UTC', true,
         0, 'run-once', 'skip', 0, 1, 60, date_trunc('second', now()), date_trunc('second', now())
       FROM backstay.sources s, generate_series(1, ${SCHEDULES}) n`,
    );
    const begun = Date.now();
    const queued = async () => (await one('SELECT count(*)::int AS n FROM backstay.backups'))['n'] ?? 0;
    await until(async () => (await queued()) > 0, 60_000);
    const [victim] = servers;
    await victim?.end('SIGKILL');
    await until(async () => (await queued()) >= SCHEDULES, 120_000);
    const seconds = (Date.now() - begun) / 1000;
    expect(
      await one(`SELECT count(*)::int AS backups, count(DISTINCT schedule_id)::int AS schedules, count(DISTINCT id)::int AS ids,
        (SELECT count(*)::int FROM backstay.schedule_runs WHERE status = 'queued' AND backup_id IS NOT NULL) AS runs,
        (SELECT count(DISTINCT data->>'runId')::int FROM backstay_jobs.job WHERE name = 'backup') AS jobs,
        (SELECT count(*)::int FROM backstay_jobs.job WHERE name = 'backup') AS "allJobs",
        (SELECT count(*)::int FROM backstay.outbox WHERE type = 'backup.queued') AS events FROM backstay.backups`),
    ).toEqual({
      backups: SCHEDULES,
      schedules: SCHEDULES,
      ids: SCHEDULES,
      runs: SCHEDULES,
      jobs: SCHEDULES,
      allJobs: SCHEDULES,
      events: SCHEDULES,
    });
    expect(seconds).toBeLessThan(10);
    process.stderr.write(`${SCHEDULES} schedules queued in ${seconds.toFixed(1)} s\n`);
    // Nothing is due any more: the next slots lie in the year to come.
    expect(await one("SELECT count(*)::int AS due FROM backstay.schedules WHERE due_at <= now() + interval '1 minute'")).toEqual({
      due: 0,
    });
  }, 240_000);
});
