import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { sql } from 'kysely';
import { BackupTrash } from '../../src/backups/backup-trash.js';
import { BackupSweeper } from '../../src/backups/backup-sweeper.js';
import type { BackupDto } from '../../src/backups/backup.dto.js';
import { holdLock } from '../support/held-lock.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, createBackup, createRestore, ended, good, show, storedFiles } from '../support/runs.js';
import { urlOf, useServer } from '../support/server.js';
import { until } from '../support/until.js';

const HOUR_MS = 3_600_000;
const GONE = 'backup_2025-01-01_00-00-00_aaaaaa';

const postgres = usePostgres();
const server = useServer(() => ({ SOURCE_DATABASE_URL: urlOf(postgres.current.connection('shop')), TRASH_DAYS: '3' }));

let sweeper: BackupSweeper;
let trash: BackupTrash;
/** `<installation>/<organization>/<source>` of the server's own source. */
let home: string;

beforeAll(async () => {
  await postgres.current.createDatabase('shop');
  await postgres.current.exec('shop', 'CREATE TABLE t AS SELECT generate_series(1, 100) AS n');
  sweeper = server.current.running.app.get(BackupSweeper);
  trash = server.current.running.app.get(BackupTrash);
  const made = await backUp(server.current, { type: 'database' });
  home = dirname(dirname((await storedFiles(server.current.dataDir)).find((file) => file.includes(made.id)) ?? ''));
});

/** Puts a file under DATA_DIR/backups, as old as told. */
async function put(key: string, ageMs = 2 * HOUR_MS): Promise<string> {
  const path = join(server.current.dataDir, 'backups', key);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, 'left behind');
  const then = new Date(Date.now() - ageMs);
  await utimes(path, then, then);
  return key;
}

const stored = () => storedFiles(server.current.dataDir);
const of = async (id: string) => (await stored()).filter((file) => file.includes(id));

describe('what no run owns', () => {
  it('goes when it is old enough, and nothing else does', async () => {
    const attempt = '.attempt-1-00000000/database.dump.zst.age';
    const before = await stored();
    const stray = [
      await put(`${home}/${GONE}/${attempt}`),
      await put(`${home}/${GONE}/database.dump.zst.age`),
      // Written before the manifest: alone it makes no backup.
      await put(`${home}/${GONE}/manifest.json.sig`),
    ];
    const kept = [
      await put(`${home}/backup_2025-01-01_00-00-01_aaaaaa/${attempt}`, HOUR_MS / 2),
      // A manifest makes a backup, also one that this catalog does not know of: it may be adopted.
      await put(`${home}/backup_2025-01-01_00-00-02_aaaaaa/manifest.json`),
      await put(`${home}/backup_2025-01-01_00-00-02_aaaaaa/database.dump.zst.age`),
      // Another installation may share the destination.
      await put(`inst_another/${home.split('/').slice(1).join('/')}/${GONE}/${attempt}`),
      await put(`${home}/notes.txt`),
    ];
    expect(await sweeper.sweep(HOUR_MS)).toBe(stray.length);
    expect((await stored()).sort()).toEqual([...before, ...kept].sort());
  });

  it('includes what an attempt left beside a backup that is made, and never the backup', async () => {
    const { id } = await backUp(server.current, { type: 'database' });
    const whole = await of(id);
    await put(`${home}/${id}/.attempt-1-ffffffff/database.dump.zst.age`);
    expect(await sweeper.sweep(0, Date.now() + HOUR_MS)).toBeGreaterThan(0);
    expect((await of(id)).sort()).toEqual(whole.sort());
  });

  it('is not what a backup has written that still runs, however long that takes', async () => {
    const release = await holdLock(postgres.current.connection('shop'), 't');
    const { id } = await createBackup(server.current, { type: 'database' });
    try {
      // It clears its folder away before it dumps.
      await until(async () => (await show(server.current, id)).progress?.phase === 'dump');
      const key = await put(`${home}/${id}/.attempt-1-eeeeeeee/database.dump.zst.age`);
      await sweeper.sweep(HOUR_MS);
      expect(await stored()).toContain(key);
    } finally {
      await release();
    }
    expect(await ended(server.current, id)).toMatchObject({ status: 'completed' });
  });
});

describe('the trash', () => {
  const catalog = () => server.current.foundation.catalog.db;

  async function thrownAway(daysAgo: number): Promise<string> {
    const { id } = await backUp(server.current, { type: 'database' });
    await good(server.current.api('DELETE', `/api/backups/${id}`));
    await catalog()
      .updateTable('backups')
      .set({ deleted_at: sql<Date>`now() - make_interval(days => ${daysAgo}) - interval '1 minute'` })
      .where('id', '=', id)
      .execute();
    return id;
  }

  it('is emptied of what has lain in it for TRASH_DAYS, which is written down', async () => {
    const [old, young] = [await thrownAway(3), await thrownAway(2)];
    await trash.empty();
    expect(await of(old)).toEqual([]);
    expect((await server.current.api('GET', `/api/backups/${old}/details`)).status).toBe(404);
    expect((await server.current.api('POST', `/api/backups/${old}/undelete`)).status).toBe(404);
    expect(await of(young)).not.toEqual([]);
    expect((await good(server.current.api<BackupDto>('POST', `/api/backups/${young}/undelete`))).deletedAt).toBeNull();
    const entry = await catalog()
      .selectFrom('audit_entries')
      .selectAll()
      .where('action', '=', 'backup.purged')
      .executeTakeFirst();
    expect(entry).toMatchObject({ resource_id: old });
  });

  it('keeps what was pinned in it', async () => {
    const id = await thrownAway(30);
    await good(server.current.api('POST', `/api/backups/${id}/pin`));
    await trash.empty();
    expect(await of(id)).not.toEqual([]);
  });

  it('keeps what a restore is reading, and a restore from it works', async () => {
    const id = await thrownAway(30);
    const release = await holdLock(postgres.current.connection('postgres'), 'pg_database', 'SHARE');
    let restore;
    try {
      restore = await createRestore(server.current, id, { mode: 'new-database', database: 'from_the_trash' });
      await trash.empty();
      expect(await of(id)).not.toEqual([]);
    } finally {
      await release();
    }
    expect(await ended(server.current, restore.id)).toMatchObject({ status: 'completed', countsEqual: true });
    await trash.empty();
    expect(await of(id)).toEqual([]);
  });

  it('is emptied to the end after a removal that was cut off', async () => {
    const id = await thrownAway(4);
    await catalog()
      .updateTable('backups')
      .set({ purge_started_at: sql<Date>`now()` })
      .where('id', '=', id)
      .execute();
    // Half removed, it is nobody's any more.
    expect((await server.current.api('POST', `/api/backups/${id}/undelete`)).status).toBe(404);
    expect((await server.current.api('GET', `/api/backups/${id}/details`)).status).toBe(404);
    await trash.empty();
    expect(await of(id)).toEqual([]);
    expect(await catalog().selectFrom('backups').select('id').where('id', '=', id).execute()).toEqual([]);
  });
});
