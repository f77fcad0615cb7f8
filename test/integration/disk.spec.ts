import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { FakePrograms } from '../support/fake-programs.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, good, type Run, storedFiles, strayFiles, verify } from '../support/runs.js';
import { TestServer, urlOf } from '../support/server.js';

const run = promisify(execFile);
const PAGE = 4096;
const MOUNT_BYTES = 24 * 1024 * 1024;
/** From no page at all up to where everything fits: what is stored after the dump takes a page each. */
const MOST_PAGES = 8;

/** A small disk of our own; only root may mount one, and only where the machine lets it. */
async function mountDisk(folder: string): Promise<boolean> {
  await mkdir(folder, { recursive: true });
  return run('mount', ['-t', 'tmpfs', '-o', `size=${MOUNT_BYTES}`, 'tmpfs', folder]).then(
    () => true,
    () => false,
  );
}

const mayMount = await (async () => {
  const folder = await mkdtemp(join(tmpdir(), 'disk-'));
  const mounted = await mountDisk(folder);
  if (mounted) await run('umount', [folder]);
  await rm(folder, { recursive: true });
  return mounted;
})();

// Without the right to mount there is no small disk to fill.
(mayMount ? describe : describe.skip)('a destination that is a small disk (skipped where mount is not permitted)', () => {
  const postgres = usePostgres();
  let folder: string;
  let disk: string;
  let filler: string;
  let fakes: FakePrograms;
  let server: TestServer;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'disk-'));
    const dataDir = join(folder, 'data');
    disk = join(dataDir, 'backups');
    filler = join(disk, 'filler');
    await mountDisk(disk);
    fakes = await FakePrograms.make(join(folder, 'bin'));
    await postgres.current.createDatabase('small');
    await postgres.current.exec('small', 'CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 100)');
    await postgres.current.createDatabase('large');
    // Random text hardly compresses: 32 MB of it are more than the disk.
    await postgres.current.exec(
      'large',
      "CREATE TABLE t (body text); INSERT INTO t SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 2000000) n GROUP BY n % 2000",
    );
    server = await TestServer.start({ DATA_DIR: dataDir, PG_BIN_DIRS: fakes.folder });
    for (const name of ['small', 'large'])
      await good(server.api('POST', '/api/sources', { name, url: urlOf(postgres.current.connection(name)) }));
  });
  afterAll(async () => {
    await server?.running.stop();
    await run('umount', [disk]);
    await rm(folder, { recursive: true, force: true });
  });

  async function expectNothingLeft(): Promise<void> {
    const completed = (await good(server.api<Run[]>('GET', '/api/backups/list?status=completed&limit=100'))).map(({ id }) => id);
    expect(await strayFiles(server.dataDir, completed)).toEqual([]);
  }

  it('fails a dump that does not fit, keeps nothing of it, and takes the next backup', async () => {
    const { bavail } = await statfs(disk);
    const backup = await backUp(server, { source: 'large' });
    expect(backup).toMatchObject({
      status: 'failed',
      error: { code: 'DISK_FULL', message: expect.stringMatching(/space|full/i), hint: expect.stringMatching(/[Ff]ree/) },
    });
    await expectNothingLeft();
    expect((await statfs(disk)).bavail).toBe(bavail);
    expect(await backUp(server, { source: 'small' })).toMatchObject({ status: 'completed' });
  });

  it('fails with the same cause at every stage after the dump, until there is room for all', async () => {
    const outcomes: string[] = [];
    for (let pages = 0; pages <= MOST_PAGES; pages += 1) {
      // The disk fills when the dump is stored and the globals are not.
      await fakes.replace(
        'pg_dumpall',
        `free=$(stat -f -c '%a' '${disk}'); head -c $(( (free - ${pages}) * ${PAGE} )) /dev/zero > '${filler}'; exec real "$@"`,
      );
      const backup = await backUp(server, { source: 'small' });
      await rm(filler);
      outcomes.push(backup.error?.code ?? backup.status);
      if (backup.status === 'failed') expect(backup).toMatchObject({ sizeBytes: 0, rowCount: 0, artifacts: [], tables: [] });
      await expectNothingLeft();
    }
    await fakes.restore();
    const first = outcomes.indexOf('completed');
    expect(first).toBeGreaterThan(2);
    expect(outcomes).toEqual(outcomes.map((_, index) => (index < first ? 'DISK_FULL' : 'completed')));
    const next = await backUp(server, { source: 'small' });
    expect(await verify(server, next.id)).toMatchObject({ status: 'completed', provenLevel: 2 });
  });

  it('is looked at before the dump: too little room fails at once, with the numbers', async () => {
    const { bavail } = await statfs(disk);
    await writeFile(filler, Buffer.alloc((bavail - 100) * PAGE));
    expect((await stat(filler)).size).toBeGreaterThan(0);
    const backup = await backUp(server, { source: 'small' });
    await rm(filler);
    expect(backup).toMatchObject({
      status: 'failed',
      error: { code: 'DISK_FULL', message: expect.stringMatching(/\d+ bytes free/) },
    });
    await expectNothingLeft();
  });

  it('fails a backup with a cause of its own while it is mounted read-only', async () => {
    const before = await storedFiles(server.dataDir);
    await run('mount', ['-o', 'remount,ro', disk]);
    try {
      const backup = await backUp(server, { source: 'small' });
      expect(backup).toMatchObject({
        status: 'failed',
        error: { code: 'STORE_FAILED', message: expect.stringMatching(/read-only/i), hint: expect.stringMatching(/\.$/) },
      });
      const { body } = await server.api<{ parts: { destinations: { status: string } } }>('GET', '/api/status/health');
      expect(body).toMatchObject({ data: { parts: { destinations: { status: 'unhealthy' } } } });
    } finally {
      await run('mount', ['-o', 'remount,rw', disk]);
    }
    expect(await storedFiles(server.dataDir)).toEqual(before);
    expect(await backUp(server, { source: 'small' })).toMatchObject({ status: 'completed' });
  });
});
