import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { holdLock } from '../support/held-lock.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, createBackup, createRestore, ended, good, type Run, strayFiles, verify } from '../support/runs.js';
import { urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

/** What is made to fail, and at which of its calls; the torture tries them all. */
const FIRST_CALLS = Number(process.env['TORTURE_ROUNDS'] ?? 0) > 0 ? 12 : 2;
const CALLS = {
  fsync: 'fsync,fdatasync',
  write: 'write,writev,pwrite64,pwritev',
  rename: 'rename,renameat,renameat2,link,linkat',
} as const;
/** The folder for temporary files is made so. */
const TEMPORARY_CALLS = 'mkdir,mkdirat';

// Injecting faults takes the program strace, and the right to trace another process.
const mayTrace = spawnSync('strace', ['-o', '/dev/null', 'true']).status === 0;

(mayTrace ? describe : describe.skip)('a disk that fails with EIO (skipped where strace is not there or not permitted)', () => {
  // The embedded catalog would meet the faults too: here it is the destination that fails.
  const postgres = usePostgres();
  let folder: string;
  let server: ServerProcess;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'io-'));
    for (const name of ['catalog', 'shop']) await postgres.current.createDatabase(name);
    await postgres.current.exec('shop', 'CREATE TABLE t AS SELECT n, md5(n::text) AS body FROM generate_series(1, 50000) n');
    server = await ServerProcess.start(folder, {
      DATABASE_URL: urlOf(postgres.current.connection('catalog')),
      SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
      SOURCE_DATABASE_URL: urlOf(postgres.current.connection('shop')),
    });
    expect(await backUp(server)).toMatchObject({ status: 'completed' });
  });
  afterAll(async () => {
    await server?.end();
    await rm(folder, { recursive: true, force: true });
  });

  /** Does `work` while the n-th call of these fails, on these files alone if any are named. */
  async function failing<T>(calls: string, at: number, files: readonly string[], work: () => Promise<T>): Promise<T> {
    const rules = ['-e', `trace=${calls}`, '-e', `inject=${calls}:error=EIO:when=${at}`];
    const tracer = spawn('strace', ['-f', '-p', String(server.pid), ...rules, ...files.flatMap((file) => ['-P', file])]);
    let said = '';
    tracer.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const over = once(tracer, 'close');
    await until(() => /attached/.test(said), 60_000);
    try {
      return await work();
    } finally {
      tracer.kill('SIGINT');
      await over;
    }
  }

  /** A backup whose artifact is open already when its writes begin to fail; sockets are written to with the same calls. */
  async function writing(at: number): Promise<Run> {
    const release = await holdLock(postgres.current.connection('shop'), 't');
    const { id } = await createBackup(server);
    let files: string[] = [];
    // Once pg_dump waits, what is open is the dump; before, it may be another artifact, which is open for a moment only.
    await until(async () => (await waiting()) && (files = await openFiles()).length > 0);
    return failing(CALLS.write, at, files, async () => {
      await release();
      return ended(server, id);
    });
  }

  it('on writes fails a restore with a sentence, leaves nothing, and lets the next one through', async () => {
    const { id: backup } = await backUp(server);
    let failures = 0;
    for (let at = 1; at <= FIRST_CALLS; at += 1) {
      const target = { mode: 'new-database', database: `copy_${at}` };
      const done = await failing(TEMPORARY_CALLS, at, [], async () =>
        ended(server, (await createRestore(server, backup, target)).id),
      );
      const made = await postgres.current.query(
        'postgres',
        `SELECT 1 FROM pg_database WHERE datname = 'copy_${at}' OR datname LIKE 'backstay%'`,
      );
      if (done.status === 'failed') {
        failures += 1;
        expect(done.error).toMatchObject({ code: 'TEMPORARY_FILES_FAILED', message: expect.stringContaining('EIO') });
        expect(made).toEqual([]);
      } else expect(done).toMatchObject({ status: 'completed', countsEqual: true });
      const next = await createRestore(server, backup, { mode: 'new-database', database: `next_${at}` });
      expect(await ended(server, next.id)).toMatchObject({ status: 'completed', countsEqual: true });
    }
    expect(failures).toBeGreaterThan(0);
  }, 600_000);

  async function waiting(): Promise<boolean> {
    const sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    return (await postgres.current.query('postgres', sql)).length > 0;
  }

  /** Artifacts that the server is writing. */
  async function openFiles(): Promise<string[]> {
    const fds = `/proc/${server.pid}/fd`;
    const open = await Promise.all((await readdir(fds)).map((fd) => readlink(join(fds, fd)).catch(() => '')));
    return open.filter((file) => file.startsWith(join(folder, 'backups')));
  }

  it.each(Object.keys(CALLS) as (keyof typeof CALLS)[])(
    'on %s fails the backup with a sentence, leaves nothing partial, and lets the next one through',
    async (call) => {
      let failures = 0;
      for (let at = 1; at <= FIRST_CALLS; at += 1) {
        // Each thread counts its own calls: now and then no call is the n-th of any.
        const done = call === 'write' ? await writing(at) : await failing(CALLS[call], at, [], () => backUp(server));
        if (done.status === 'failed') {
          failures += 1;
          expect(done.error?.message).toMatch(/\w{3,} .*\.$/);
          expect(done.error?.hint).toMatch(/\w/);
          expect(done.error?.code).not.toBe('INTERNAL_ERROR');
        } else expect(done.status).toBe('completed');
        const next = await backUp(server);
        expect(next).toMatchObject({ status: 'completed', rowCount: 50_000 });
        const completed = (await good(server.api<Run[]>('GET', '/api/backups/list?status=completed&limit=100'))).map(
          ({ id }) => id,
        );
        await until(async () => (await strayFiles(folder, completed)).length === 0, 60_000);
        for (const id of done.status === 'completed' ? [done.id, next.id] : [next.id])
          expect(await verify(server, id)).toMatchObject({ status: 'completed', provenLevel: 2 });
      }
      expect(failures).toBeGreaterThan(0);
    },
    600_000,
  );
});
