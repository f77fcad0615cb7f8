import { lstat, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startOf } from './process-start.js';
import { openToEveryone } from './server-programs.js';

const PREFIX = 'backstay-cluster-';
const MARKER = 'owner.json';
/** Path of a unix socket at most (107 on Linux, 103 on macOS), less `/s/.s.PGSQL.65535`. */
const LONGEST_FOLDER = 103 - 18;

/** A process, told apart from a later one with the same number. */
interface ProcessMark {
  pid: number;
  started: string;
}

interface Marker {
  host: string;
  owner: ProcessMark;
  postmaster: ProcessMark | null;
}

/** Where clusters are made: the system's temporary folder, unless a socket's path would be too long there, or their user can't enter it. */
export async function clusterParent(): Promise<string> {
  const own = tmpdir();
  const usable = own.length + PREFIX.length + 7 <= LONGEST_FOLDER && (process.getuid?.() !== 0 || (await openToEveryone(own)));
  return usable ? own : '/tmp';
}

/**
 * Makes the folder of a throwaway cluster under the system's temporary folder. It belongs to us and not to the cluster's user, so
 * that nothing that runs in the cluster can forge the marker, by which leftovers are found.
 */
export async function makeClusterFolder(): Promise<string> {
  const folder = await mkdtemp(join(await clusterParent(), PREFIX));
  await markClusterFolder(folder, null);
  return folder;
}

/** Writes down who owns the cluster and which process runs it. */
export async function markClusterFolder(folder: string, postmasterPid: number | null): Promise<void> {
  const owner = await markOf(process.pid);
  if (owner === null) throw new Error('the start time of this process cannot be read');
  const postmaster = postmasterPid === null ? null : await markOf(postmasterPid);
  const marker: Marker = { host: hostname(), owner, postmaster };
  await writeFile(join(folder, MARKER), JSON.stringify(marker), { mode: 0o600 });
}

/** Removes a cluster's folder; the processes in it must have ended. */
export async function removeClusterFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}

/**
 * Removes the clusters whose owner is gone without having stopped them (a kill -9, a power loss): ends their postmaster, then
 * removes their files. Only folders of our own user and machine are looked at. Gives the folders it removed.
 */
export async function sweepThrowawayClusters(): Promise<string[]> {
  const removed: string[] = [];
  for (const parent of new Set([tmpdir(), '/tmp'])) {
    const names = await readdir(parent).catch(() => []);
    for (const name of names.filter((name) => name.startsWith(PREFIX))) {
      const folder = join(parent, name);
      if (await isAbandoned(folder)) {
        await removeClusterFolder(folder);
        removed.push(folder);
      }
    }
  }
  return removed;
}

async function isAbandoned(folder: string): Promise<boolean> {
  const entry = await lstat(folder).catch(() => null);
  // In a shared folder anybody can lay something with our prefix: a marker of another user's is not to be believed.
  if (entry === null || !entry.isDirectory() || (process.getuid !== undefined && entry.uid !== process.getuid())) return false;
  const marker = await readMarker(folder);
  if (marker === null || marker.host !== hostname() || (await isAlive(marker.owner))) return false;
  if (marker.postmaster !== null) await endPostmaster(marker.postmaster);
  return true;
}

async function readMarker(folder: string): Promise<Marker | null> {
  try {
    return JSON.parse(await readFile(join(folder, MARKER), 'utf8')) as Marker;
  } catch {
    return null;
  }
}

async function endPostmaster(mark: ProcessMark): Promise<void> {
  for (const [signal, patienceMs] of [
    ['SIGQUIT', 5000],
    ['SIGKILL', 5000],
  ] as const) {
    if (!(await isAlive(mark))) return;
    process.kill(mark.pid, signal);
    const deadline = Date.now() + patienceMs;
    while (Date.now() < deadline && (await isAlive(mark))) await delay(20);
  }
}

async function isAlive(mark: ProcessMark): Promise<boolean> {
  return (await markOf(mark.pid))?.started === mark.started;
}

async function markOf(pid: number): Promise<ProcessMark | null> {
  const started = await startOf(pid);
  return started === null ? null : { pid, started };
}
