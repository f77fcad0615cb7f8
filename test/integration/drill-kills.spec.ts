import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { usePostgres } from '../support/postgres.js';
import { backUp, ended, good, type Run } from '../support/runs.js';
import { urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

/** Drills in a row, every fourth of which loses its server to a kill -9; 20 in the long form. */
const ROUNDS = Number(process.env['DRILL_ROUNDS'] ?? 2);
const EVERY = ROUNDS < 4 ? 2 : 4;
const ofRoot = process.getuid?.() === 0 ? describe : describe.skip;

const postgres = usePostgres();
let folder: string;
let temporary: string;
let server: ServerProcess;

const start = () =>
  ServerProcess.start(join(folder, 'data'), {
    TMPDIR: temporary,
    SOURCE_DATABASE_URL: urlOf(postgres.current.connection('shop')),
  });
const clusters = async () => (await readdir(temporary)).filter((name) => name.startsWith('backstay-'));
/** Command lines of processes that have to do with this test's drills. */
async function processes(): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return lines.filter((line) => line.includes(`${temporary}/backstay-`));
}

beforeAll(async () => {
  const database = await postgres.current.createDatabase('shop');
  await postgres.current.exec(
    database,
    `CREATE TABLE lines AS SELECT n, md5(n::text) AS body FROM generate_series(1, 200000) n; CREATE INDEX ON lines (body)`,
  );
  folder = await mkdtemp(join(tmpdir(), 'dk-'));
  temporary = await mkdtemp(join(tmpdir(), 'dt-'));
  await chmod(temporary, 0o755);
  server = await start();
});
afterAll(async () => {
  await server?.end();
  for (const each of [folder, temporary]) await rm(each, { recursive: true, force: true });
});

ofRoot('drills whose server is killed', () => {
  it(
    'are done in the end, and leave no file, no process and no port',
    async () => {
      const { id } = await backUp(server);
      for (let round = 1; round <= ROUNDS; round++) {
        const { id: run } = await good(server.api<Run>('POST', `/api/backups/${id}/verify`, { level: 4 }));
        if (round % EVERY === 0) {
          await until(async () => (await clusters()).length > 0 && (await processes()).length > 0);
          await server.end('SIGKILL');
          server = await start();
        }
        expect(await ended(server, run, 120_000)).toMatchObject({ status: 'completed', provenLevel: 4 });
        await until(async () => (await clusters()).length === 0 && (await processes()).length === 0);
      }
      await server.end('SIGKILL');
      expect({ files: await readdir(temporary), processes: await processes() }).toEqual({ files: [], processes: [] });
    },
    ROUNDS * 60_000 + 60_000,
  );
});
