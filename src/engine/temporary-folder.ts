import { createHash } from 'node:crypto';
import { lstat, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { types } from 'node:util';
import { EngineError } from './errors.js';
import { startOf } from './postgres/process-start.js';
import { isDiskFull } from './store/local-errors.js';

/** Faults of a disk or folder that no store and no socket has: those explain their own. */
const FAULTS: Record<string, string> = {
  EIO: 'the device failed',
  EROFS: 'it is mounted read-only',
  EACCES: 'this user may not write there',
};

const NAME = /^backstay-work-(\d+)-([0-9a-f]{8})-/;

/**
 * Runs `fn` with a folder that only this user can enter, and removes it after. Its name says which process it belongs to.
 * @throws EngineError DISK_FULL where there is no room for it, TEMPORARY_FILES_FAILED where it can't be written; what `fn` throws
 */
export async function withTemporaryFolder<T>(fn: (folder: string) => Promise<T>): Promise<T> {
  const prefix = join(tmpdir(), `backstay-work-${process.pid}-${markOf(await startOf(process.pid))}-`);
  const folder = await mkdtemp(prefix).catch((error: unknown) => {
    throw explained(error);
  });
  try {
    return await fn(folder);
  } catch (error) {
    throw explained(error);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What fails under the temporary files, as the user is told of it; whatever else it is stays as it is. */
function explained(error: unknown): unknown {
  if (isDiskFull(error))
    return new EngineError(
      'DISK_FULL',
      `There is no room for temporary files in ${tmpdir()} on the machine of this server.`,
      'Free some space there, or let TMPDIR name another folder, and try again.',
      { cause: error },
    );
  const { code = '', syscall = '' } = types.isNativeError(error) ? (error as NodeJS.ErrnoException) : {};
  const why = FAULTS[code];
  if (why === undefined || syscall.startsWith('spawn')) return error;
  return new EngineError(
    'TEMPORARY_FILES_FAILED',
    `No temporary file could be written in ${tmpdir()} on the machine of this server: ${why} (${code}).`,
    'Look at that disk, or let TMPDIR name another folder, and try again.',
    { cause: error },
  );
}

/** Removes the folders of processes that were ended before they could. Only this user's own are looked at. @returns how many */
export async function sweepTemporaryFolders(): Promise<number> {
  let removed = 0;
  for (const name of await readdir(tmpdir()).catch(() => [])) {
    const [, pid, mark] = NAME.exec(name) ?? [];
    if (pid === undefined) continue;
    const folder = join(tmpdir(), name);
    const entry = await lstat(folder).catch(() => null);
    if (!entry?.isDirectory() || (process.getuid && entry.uid !== process.getuid())) continue;
    const started = await startOf(Number(pid));
    if (started !== null && markOf(started) === mark) continue;
    await rm(folder, { recursive: true, force: true });
    removed += 1;
  }
  return removed;
}

function markOf(started: string | null): string {
  return createHash('sha256')
    .update(started ?? '')
    .digest('hex')
    .slice(0, 8);
}
