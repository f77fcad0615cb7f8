import { link, mkdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { StartError } from '../common/start-error.js';

/** The holder touches the file this often; on another host, a file untouched for STALE_MS has lost its holder. */
const TOUCH_MS = 5_000;
const STALE_MS = 20_000;

interface Holder {
  host: string;
  pid: number;
  /** Tells a process from a later one with the same number. */
  startTime: number;
}

/**
 * Holds a folder for this process: the embedded catalog would be damaged by two. On the same host the holder is asked for by
 * process id and start time; a holder in another container or on another host is known alive by the file's age.
 * @returns a function that gives the folder back
 * @throws when a living process holds it
 */
export async function lockFolder(folder: string, staleMs = STALE_MS): Promise<() => Promise<void>> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const file = join(folder, 'server.lock');
  const mine = JSON.stringify({ host: hostname(), pid: process.pid, startTime: await startTime(process.pid) } satisfies Holder);
  const draft = `${file}.${process.pid}`;
  await writeFile(draft, mine, { mode: 0o600 });
  try {
    const deadline = Date.now() + staleMs + TOUCH_MS;
    while (!(await take(draft, file, mine))) {
      const holder = await readHolder(file);
      if (holder && holder.host === hostname() && (await isAlive(holder))) throw held(folder, `process ${holder.pid}`);
      const age = Date.now() - ((await stat(file).catch(() => undefined))?.mtimeMs ?? 0);
      if (holder && holder.host !== hostname() && age < staleMs) {
        if (Date.now() > deadline) throw held(folder, `process ${holder.pid} on ${holder.host}`);
        await delay(500);
        continue;
      }
      await rm(file, { force: true });
    }
  } finally {
    await rm(draft, { force: true });
  }
  const touching = setInterval(() => void utimes(file, new Date(), new Date()).catch(() => undefined), TOUCH_MS);
  touching.unref();
  return async () => {
    clearInterval(touching);
    await rm(file, { force: true });
  };
}

async function take(draft: string, file: string, mine: string): Promise<boolean> {
  try {
    await link(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  return (await readFile(file, 'utf8').catch(() => '')) === mine;
}

async function readHolder(file: string): Promise<Holder | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Holder;
  } catch {
    return undefined;
  }
}

function held(folder: string, by: string): Error {
  return new StartError(
    `Another Backstay (${by}) uses ${folder}. The embedded catalog serves one process: stop that one, give this one another DATA_DIR, or set DATABASE_URL so that several can share a catalog.`,
  );
}

async function isAlive(holder: Holder): Promise<boolean> {
  if (holder.pid === process.pid && holder.startTime === (await startTime(process.pid))) return true;
  return (await startTime(holder.pid)) === holder.startTime;
}

/** Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat); 0 where the system has no /proc; -1 when it is gone. */
async function startTime(pid: number): Promise<number> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return -1;
  }
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? 0);
}
