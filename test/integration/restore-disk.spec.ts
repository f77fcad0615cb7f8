import { execFile } from 'node:child_process';
import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { StagedBackup } from '../../src/engine/backup.js';
import { EngineRuns } from '../support/engine-runs.js';
import type { BackupDto } from '../../src/backups/backup.dto.js';
import type { RestoreDto } from '../../src/restores/restore.dto.js';
import { usePostgres } from '../support/postgres.js';
import { good } from '../support/runs.js';
import { urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';

const run = promisify(execFile);
const LEFT_OVER = "SELECT datname FROM pg_database WHERE datname LIKE 'backstay%' OR datname = 'copied'";

async function mountDisk(megabytes: number): Promise<string | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'disk-'));
  const mounted = run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', folder]);
  return mounted.then(
    () => folder,
    async () => {
      await rm(folder, { recursive: true });
      return undefined;
    },
  );
}

async function unmountDisk(folder: string): Promise<void> {
  await run('umount', [folder]);
  await rm(folder, { recursive: true });
}

const tried = await mountDisk(1);
if (tried) await unmountDisk(tried);

// Without the right to mount there is no small disk to fill.
(tried ? describe : describe.skip)('a restore for which a disk is too small (skipped where mount is not permitted)', () => {
  const postgres = usePostgres();
  let runs: EngineRuns;
  let large: StagedBackup;
  let small: StagedBackup;
  let disk: string;

  beforeAll(async () => {
    runs = await EngineRuns.open();
    disk = (await mountDisk(40)) ?? '';
    await chmod(disk, 0o700);
    await chown(disk, 65534, 65534);
    await postgres.current.exec('postgres', `CREATE TABLESPACE tiny LOCATION '${disk}'`);
    for (const [name, parts] of [
      ['large', 2000],
      ['small', 10],
    ] as const) {
      await postgres.current.createDatabase(name);
      // Random text hardly compresses: 1000 times 32 bytes for each part.
      await postgres.current.exec(
        name,
        `CREATE TABLE t (id int PRIMARY KEY, body text);
         INSERT INTO t SELECT p, string_agg(md5(random()::text), '') FROM generate_series(1, ${parts}) p, generate_series(1, 1000) n GROUP BY p`,
      );
    }
    [large, small] = [
      await runs.backUp(postgres.current.connection('large')),
      await runs.backUp(postgres.current.connection('small')),
    ];
  });

  afterAll(async () => {
    await runs.close();
    await unmountDisk(disk);
  });

  it("fails with that cause when it is the target's, leaves the target as it was, and the next one works", async () => {
    await postgres.current.createDatabase('target', 'TABLESPACE tiny');
    const target = { mode: 'url' as const, connection: postgres.current.connection('target') };
    await expect(runs.restore(large, target)).rejects.toMatchObject({
      code: 'DISK_FULL',
      hint: expect.stringMatching(/[Ff]ree/),
    });
    expect(await postgres.current.query('target', "SELECT relname FROM pg_class WHERE relname = 't'")).toEqual([]);
    expect(await runs.restore(small, target)).toMatchObject({ countsEqual: true });
  });

  it('fails with that cause when it is our own for temporary files, leaves no database behind, and the next one works', async () => {
    const temporary = (await mountDisk(4)) ?? '';
    const server = await ServerProcess.start(runs.folder, {
      TMPDIR: temporary,
      SOURCE_DATABASE_URL: urlOf(postgres.current.connection('small')),
    });
    try {
      const backup = await good(server.api<BackupDto>('POST', '/api/backups/create?wait=60', {}));
      const restore = () =>
        good(
          server.api<RestoreDto>('POST', `/api/backups/${backup.id}/restore?wait=60`, {
            target: { mode: 'new-database', database: 'copied' },
          }),
        );
      await writeFile(join(temporary, 'filler'), Buffer.alloc(8 * 1024 * 1024)).catch(() => undefined);
      expect(await restore()).toMatchObject({ status: 'failed', error: { code: 'DISK_FULL' } });
      expect(await postgres.current.query('postgres', LEFT_OVER)).toEqual([]);
      await rm(join(temporary, 'filler'));
      expect(await restore()).toMatchObject({ status: 'completed', countsEqual: true });
    } finally {
      await server.end('SIGTERM');
      await unmountDisk(temporary);
    }
  });
});
