import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { BackupSpools } from '../../src/backups/backup-spools.js';
import type { BackupDetailsDto } from '../../src/backups/backup.dto.js';
import { FakeS3 } from '../support/fake-s3.js';
import { usePostgres } from '../support/postgres.js';
import { type Api, createBackup, ended, good, show, verify } from '../support/runs.js';
import { ServerProcess } from '../support/server-process.js';
import { TestServer, urlOf } from '../support/server.js';
import { until } from '../support/until.js';

const CANARY = 'canary-in-plain-text';
const SLOW = 1_000_000;

const postgres = usePostgres();
let folder: string;
let fake: FakeS3;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spool-'));
  fake = await FakeS3.start();
  await postgres.current.createDatabase('shop');
  // 35 MB that don't compress: twice what the way to a bucket holds in memory.
  await postgres.current.exec(
    'shop',
    `CREATE TABLE t (body bytea, note text); INSERT INTO t VALUES ('', '${CANARY}');
     INSERT INTO t SELECT string_agg(sha512(n::text::bytea), ''::bytea), '' FROM generate_series(1, 550000) n GROUP BY n % 500`,
  );
});
afterEach(() => fake.heal());
afterAll(async () => {
  await fake?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function prepare(server: Api): Promise<void> {
  await good(server.api('POST', '/api/destinations', { name: 'bucket', kind: 's3', ...fake.config, partMiB: 5 }));
  const url = urlOf(postgres.current.connection('shop'));
  await good(server.api('POST', '/api/sources', { name: 'spooled', url, spool: true }));
  await good(server.api('POST', '/api/sources', { name: 'direct', url }));
}

const begin = (server: Api, source: string) => createBackup(server, { source, type: 'database', destinations: ['bucket'] });

async function sessions(): Promise<number> {
  const sql = "SELECT 1 FROM pg_stat_activity WHERE application_name ~ '^backstay:backup_'";
  return (await postgres.current.query('postgres', sql)).length;
}

async function filesIn(spoolDir: string): Promise<string[]> {
  const entries = await readdir(spoolDir, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

const details = (server: Api, id: string) => good(server.api<BackupDetailsDto>('GET', `/api/backups/${id}/details`));
const atBucket = (id: string) => fake.everything.filter((name) => name.includes(id) && !name.startsWith('upload of'));

describe('a backup to a destination that takes 1 MB/s', () => {
  let server: TestServer;
  let spoolDir: string;

  beforeAll(async () => {
    server = await TestServer.start({ OUTBOUND_ALLOW: '127.0.0.1', SNAPSHOT_WARNING_SECONDS: '1' });
    spoolDir = join(server.dataDir, 'spool');
    await prepare(server);
  });
  afterAll(() => server?.stop());

  /** A backup whose dump is over, and which is still on its way to the bucket. */
  async function uploading(): Promise<string> {
    fake.bytesPerSecond = SLOW;
    const { id } = await begin(server, 'spooled');
    await until(async () => (await show(server, id)).progress?.phase === 'upload');
    expect(await sessions()).toBe(0);
    expect(atBucket(id)).toEqual([]);
    return id;
  }

  it('with a spool lets go of the source long before it is stored, and stores every byte', async () => {
    const id = await uploading();
    const files = await filesIn(spoolDir);
    expect(files.length).toBeGreaterThan(0);
    for (const file of files) expect((await readFile(file)).includes(CANARY)).toBe(false);
    fake.heal();
    expect(await ended(server, id)).toMatchObject({ status: 'completed', error: null, attempt: 1 });
    expect(await filesIn(spoolDir)).toEqual([]);
    expect(await readdir(join(spoolDir, server.foundation.installation.id))).toEqual([]);
    expect(await verify(server, id)).toMatchObject({ status: 'completed', provenLevel: 2 });
  });

  it('without one holds its snapshot all the while, and is warned of before it ends', async () => {
    fake.bytesPerSecond = SLOW;
    const { id } = await begin(server, 'direct');
    await until(async () => (await details(server, id)).warnings.length > 0);
    expect(await show(server, id)).toMatchObject({ status: 'running', progress: { phase: 'dump' } });
    expect(await sessions()).toBeGreaterThan(0);
    fake.heal();
    expect(await ended(server, id)).toMatchObject({ status: 'completed' });
    expect((await details(server, id)).warnings).toEqual([
      expect.stringMatching(/^The dump of .*\/shop has held its snapshot for more than 0 min: .*give the source a spool\.$/),
    ]);
    expect(await filesIn(spoolDir)).toEqual([]);
  });

  it('leaves nothing in the spool nor in the bucket when it is canceled', async () => {
    const id = await uploading();
    await good(server.api('POST', `/api/backups/${id}/cancel`));
    fake.heal();
    expect(await ended(server, id)).toMatchObject({ status: 'canceled' });
    expect(await filesIn(spoolDir)).toEqual([]);
    await until(() => fake.everything.every((name) => !name.includes(id)));
  });

  it('leaves nothing when the destination fails, with its cause', async () => {
    const id = await uploading();
    fake.heal();
    fake.fail('denied', /^(UploadPart|CompleteMultipartUpload)$/);
    expect(await ended(server, id)).toMatchObject({ status: 'failed', error: { code: 'STORE_FAILED' } });
    expect(await filesIn(spoolDir)).toEqual([]);
  });

  it('has its spool swept when no run owns it, and only then', async () => {
    const spools = server.running.app.get(BackupSpools);
    const home = join(spoolDir, server.foundation.installation.id);
    const left = join(home, 'backup_2025-01-01_00-00-00_aaaaaa.1');
    const foreign = join(spoolDir, 'inst_another', 'backup_2025-01-01_00-00-00_aaaaaa.1');
    for (const path of [left, foreign]) {
      await mkdir(path, { recursive: true });
      await writeFile(join(path, '1.1'), 'left behind');
    }
    const id = await uploading();
    expect(await spools.sweep()).toBe(1);
    expect(await readdir(home)).toEqual([`${id}.1`]);
    expect(await filesIn(foreign)).toHaveLength(1);
    fake.heal();
    expect(await ended(server, id)).toMatchObject({ status: 'completed' });
  });
});

describe('a server that is killed while a spool smaller than the dump is full', () => {
  let server: ServerProcess | undefined;
  afterAll(() => server?.end());

  it('leaves nothing of it after the next start, and the backup is made', async () => {
    const spoolDir = join(folder, 'spool');
    const start = () =>
      ServerProcess.start(join(folder, 'data'), {
        OUTBOUND_ALLOW: '127.0.0.1',
        SPOOL_DIR: spoolDir,
        SPOOL_MAX_BYTES: String(16 * 1024 * 1024),
      });
    server = await start();
    await prepare(server);
    fake.bytesPerSecond = SLOW;
    const { id } = await begin(server, 'spooled');
    await until(async () => (await filesIn(spoolDir)).length > 1);
    await server.end();
    const [left = ''] = await filesIn(spoolDir);
    expect(dirname(left)).toMatch(new RegExp(`${id}\\.1$`));
    fake.heal();
    server = await start();
    expect((await filesIn(spoolDir)).filter((file) => file.includes(`${id}.1/`))).toEqual([]);
    expect(await ended(server, id)).toMatchObject({ status: 'completed', error: null });
    expect(await filesIn(spoolDir)).toEqual([]);
    expect(await verify(server, id)).toMatchObject({ status: 'completed', provenLevel: 2 });
  });
});
