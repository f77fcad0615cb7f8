import { lstat, readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { impossible } from './drill-place.js';
import type { EngineError } from './errors.js';
import type { OpenedArchive } from './restore-archive.js';

/** What the private server of a drill may take of this machine. */
export interface DrillLimits {
  /** Bytes of disk at most; 0 for all that is free. */
  diskBytes: number;
  /** Bytes of memory that each of its processes may ask for at most; 0 for no limit. */
  memoryBytes: number;
}

/** An empty server, with the log of what is written and room for a sort. */
const SERVER_BYTES = 128 * 1024 * 1024;
/** What a row takes beside its values. */
const ROW_BYTES = 28;
/** Rows as text to rows and indexes on a disk, by experience. */
const DISK_PER_BYTE = 1.5;
/** What has to stay free while a drill goes on: the catalog and other runs may be on the same disk. */
const RESERVE_BYTES = 256 * 1024 * 1024;
const WATCH_MS = 500;
/** Looking at a server with many files takes time: so much more is spent on waiting. */
const WAIT_PER_LOOK = 10;

/** Bytes of disk that a restore of a backup into a server of its own takes, roughly. */
export function neededBytes({ tables, manifest }: Pick<OpenedArchive, 'tables' | 'manifest'>): number {
  const rows = tables.reduce((sum, table) => sum + table.bytes + table.rows * ROW_BYTES, 0);
  return Math.ceil(SERVER_BYTES + (rows + manifest.largeObjects.bytes) * DISK_PER_BYTE);
}

/**
 * Looks whether a drill fits on the disk, before it begins.
 * @param folder where its server will be made
 * @throws EngineError DRILL_IMPOSSIBLE that says how much is needed, where, and how to mend it
 */
export async function assertRoom(folder: string, needed: number, { diskBytes }: DrillLimits): Promise<void> {
  if (diskBytes > 0 && needed > diskBytes)
    throw impossible(
      `A drill of this backup needs about ${megabytes(needed)} of disk, and DRILL_DISK_LIMIT_BYTES allows ${megabytes(diskBytes)}.`,
      `Set DRILL_DISK_LIMIT_BYTES to at least ${needed}, or verify the backup to level 2.`,
    );
  const free = await freeBytesOf(folder);
  if (needed + RESERVE_BYTES <= free) return;
  throw impossible(
    `A drill of this backup needs about ${megabytes(needed)} of disk in ${folder} on the machine of this server, ${megabytes(RESERVE_BYTES)} have to stay free, and ${megabytes(free)} are free.`,
    'Free space there, let TMPDIR name a folder on a larger disk, or give a server for drills by DRILL_DATABASE_URL.',
  );
}

/**
 * Does something with a signal that is aborted when the folder of a drill's server outgrows its limit, or fills the disk that it is on.
 * @param folder null where the server is another machine's: then nothing is watched
 * @throws EngineError DRILL_IMPOSSIBLE when it did; what `work` throws
 */
export async function withinDisk<T>(
  folder: string | null,
  { diskBytes }: DrillLimits,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (folder === null) return work(signal);
  const [outgrown, done] = [new AbortController(), new AbortController()];
  const watching = watch(folder, diskBytes, done.signal, (why) => outgrown.abort(why));
  try {
    return await work(AbortSignal.any([signal, outgrown.signal]));
  } catch (error) {
    if (outgrown.signal.aborted && !signal.aborted) throw outgrown.signal.reason;
    throw error;
  } finally {
    done.abort();
    await watching;
  }
}

async function watch(folder: string, limit: number, done: AbortSignal, tell: (why: EngineError) => void): Promise<void> {
  while (!done.aborted) {
    const startedAt = performance.now();
    const [used, free] = [limit > 0 ? await bytesIn(folder) : 0, await freeBytesOf(folder).catch(() => Infinity)];
    if (used > limit)
      return tell(
        impossible(
          `The drill was stopped when its server had taken ${megabytes(used)} of disk; DRILL_DISK_LIMIT_BYTES allows ${megabytes(limit)}.`,
          'Raise DRILL_DISK_LIMIT_BYTES, and look at what the backup makes when it is restored: materialized views and indexes are not in its size.',
        ),
      );
    if (free < RESERVE_BYTES)
      return tell(
        impossible(
          `The drill was stopped when ${megabytes(free)} were free where ${folder} is; ${megabytes(RESERVE_BYTES)} have to stay free.`,
          'Free space there, or let TMPDIR name a folder on a larger disk.',
        ),
      );
    const waitMs = Math.max(WATCH_MS, (performance.now() - startedAt) * WAIT_PER_LOOK);
    await delay(waitMs, undefined, { signal: done }).catch(() => undefined);
  }
}

/** Bytes of disk that the files below a folder take; what goes away meanwhile counts nothing. */
async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) bytes += await bytesIn(path);
    else bytes += ((await lstat(path).catch(() => null))?.blocks ?? 0) * 512;
  }
  return bytes;
}

async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}
