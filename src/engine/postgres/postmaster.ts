import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { bareEnvironment } from './environment.js';
import type { ServerPrograms } from './server-programs.js';

const START_TIMEOUT_MS = 60_000;

/** The user that a cluster's processes run as; empty for our own. */
export type Identity = { uid: number; gid: number } | Record<string, never>;

/**
 * Starts the server of the cluster in `folder`; what it says goes to `folder/log`.
 * @param walls `isolated`: without a network; `memoryBytes`: what each of its processes may ask for at most, where the system knows such a
 *   limit (Linux); 0 for none
 */
export async function launchPostmaster(
  programs: ServerPrograms,
  folder: string,
  identity: Identity,
  { isolated, memoryBytes }: { isolated: boolean; memoryBytes: number },
): Promise<ChildProcess> {
  const log = await open(join(folder, 'log'), 'a', 0o600);
  try {
    const server = [...limited(memoryBytes), programs.postgres, '-D', join(folder, 'data')];
    // Each of these programs becomes the next, so the process stays the same.
    const asUser =
      identity.uid === undefined ? [] : ['setpriv', `--reuid=${identity.uid}`, `--regid=${identity.gid}`, '--clear-groups', '--'];
    const [program = '', ...args] = isolated ? ['unshare', '--net', '--', ...asUser, ...server] : server;
    const postmaster = spawn(program, args, {
      env: bareEnvironment(),
      cwd: folder,
      stdio: ['ignore', log.fd, log.fd],
      // Its own session: Ctrl-C in a terminal must not end it before we have.
      detached: true,
      ...(isolated ? {} : identity),
    });
    postmaster.on('error', () => undefined);
    postmaster.unref();
    return postmaster;
  } finally {
    await log.close();
  }
}

/** A command in front of another one, which becomes that one with less memory. */
function limited(memoryBytes: number): string[] {
  if (memoryBytes === 0 || process.platform !== 'linux') return [];
  return ['/bin/sh', '-c', 'ulimit -v "$0" && exec "$@"', String(Math.floor(memoryBytes / 1024))];
}

/** Whether this process may give a child a network of its own, in which nothing can be reached. */
export async function canIsolate(): Promise<boolean> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  const args = ['--net', '--', 'setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--', '/bin/true'];
  const probe = spawn('unshare', args, { env: bareEnvironment(), stdio: 'ignore' });
  return new Promise((resolve) => {
    probe.once('error', () => resolve(false));
    probe.once('exit', (code) => resolve(code === 0));
  });
}

/** Waits until the postmaster writes into its pid file that it is ready. False where it ended, or was canceled. */
export async function isReady(postmaster: ChildProcess, folder: string, signal?: AbortSignal): Promise<boolean> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < deadline && isRunning(postmaster)) {
    if (signal?.aborted) return false;
    const lines = (await readFile(join(folder, 'data', 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
    if (lines[7]?.trim() === 'ready') return true;
    await delay(15);
  }
  return false;
}

function isRunning(child: ChildProcess): boolean {
  return child.pid !== undefined && child.exitCode === null && child.signalCode === null;
}

/**
 * A shell that waits for the end of its input, which comes when this process is gone however it died, and then ends the
 * postmaster. It runs as the cluster's user, so it can end nothing else of ours.
 */
export function watchOwner(postmaster: ChildProcess, identity: Identity): ChildProcess {
  const watcher = spawn('/bin/sh', ['-c', 'read -r _; kill -QUIT "$1"', 'watch', String(postmaster.pid)], {
    env: bareEnvironment(),
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    ...identity,
  });
  watcher.on('error', () => undefined);
  watcher.stdin?.on('error', () => undefined);
  watcher.unref();
  if (watcher.stdin !== null && 'unref' in watcher.stdin && typeof watcher.stdin.unref === 'function') watcher.stdin.unref();
  postmaster.once('exit', () => watcher.kill('SIGKILL'));
  return watcher;
}

/** Ends the postmaster without a checkpoint: nothing of it is kept. */
export async function endPostmaster(postmaster: ChildProcess): Promise<void> {
  for (const signal of ['SIGQUIT', 'SIGKILL'] as const) {
    if (!isRunning(postmaster)) return;
    const ended = once(postmaster, 'exit');
    const patience = new AbortController();
    postmaster.ref();
    postmaster.kill(signal);
    await Promise.race([ended, delay(10_000, undefined, { signal: patience.signal }).catch(() => undefined)]);
    patience.abort();
  }
}
