import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadSettings } from '../../dist/config/settings.js';
import { chooseClientPrograms, findClientPrograms } from '../../dist/engine/postgres/client-programs.js';
import { withClient } from '../../dist/engine/postgres/client.js';
import { withPgEnvironment } from '../../dist/engine/postgres/environment.js';
import { startProgram } from '../../dist/engine/postgres/run-program.js';
import { ThrowawayCluster } from '../../dist/engine/postgres/throwaway-cluster.js';
import { startServer } from '../../dist/server.js';

const SESSION = { applicationName: 'backstay-demo' };
const SAMPLE = new URL('../sample-database.sql', import.meta.url);

/** @throws Error that says how to install them, when there are none */
export async function findPrograms() {
  const { pgBinDirs } = loadSettings({ PG_BIN_DIRS: process.env.PG_BIN_DIRS });
  const programs = await findClientPrograms({ binDirs: pgBinDirs });
  if (programs.length > 0) return programs;
  throw new Error(
    'No pg_dump was found. Install the PostgreSQL client programs, then run this again:\n' +
      '  Debian, Ubuntu   sudo apt-get install postgresql-client\n' +
      '  Fedora, RHEL     sudo dnf install postgresql\n' +
      '  macOS            brew install libpq\n' +
      'Where they lie in a folder of their own, name it: PG_BIN_DIRS=/path/to/bin npm run demo',
  );
}

/** A private PostgreSQL with the awkward sample in the database `name`. */
export async function startOwnPostgres(programs, name, { signal, atEnd }) {
  // pg_dump refuses a server that is newer than itself.
  const maxMajor = Math.max(...programs.map(({ major }) => major));
  const cluster = await ThrowawayCluster.start({ maxMajor, signal });
  atEnd(() => cluster.stop());
  await inDatabase(cluster, 'postgres', (client) => client.query(`CREATE DATABASE ${name} TEMPLATE template0`));
  const databaseBytes = await inDatabase(cluster, name, async (client) => {
    await client.query(await readFile(SAMPLE, 'utf8'));
    return (await client.query('SELECT pg_database_size(current_database())::int AS bytes')).rows[0].bytes;
  });
  return { cluster, databaseBytes };
}

/** The server, in this process, with a data folder of its own; on PORT or 3000, or on a free port when that is taken. */
export async function startOwnServer({ atEnd }) {
  const dataDir = await mkdtemp(join(tmpdir(), 'backstay-demo-'));
  atEnd(() => rm(dataDir, { recursive: true, force: true }));
  const key = `bsk_${randomBytes(24).toString('hex')}`;
  const environment = {
    HOST: '127.0.0.1',
    PORT: process.env.PORT,
    DATA_DIR: dataDir,
    BOOTSTRAP_API_KEY: key,
    PG_BIN_DIRS: process.env.PG_BIN_DIRS,
    LOG_LEVEL: 'error',
  };
  const settings = loadSettings(environment);
  const free = await isFree(settings.port);
  const server = await startServer(free ? settings : loadSettings({ ...environment, PORT: '0' }));
  atEnd(() => server.stop());
  return { url: server.url, key, dataDir, takenPort: free ? null : settings.port };
}

async function isFree(port) {
  const probe = createServer();
  const free = await new Promise((resolve) => {
    probe.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
  });
  probe.close();
  return free;
}

/** Runs `work` with a client whose session fixes how values are written. */
export function inDatabase(cluster, database, work) {
  return withClient(cluster.connection(database), SESSION, work);
}

export async function dumpSchema(programs, cluster, database, signal) {
  const { pgDump } = chooseClientPrograms(programs, cluster.major);
  return withPgEnvironment(cluster.connection(database), SESSION, async (env) => {
    const program = startProgram(pgDump, ['--schema-only', '--no-password'], { env, signal });
    const [text] = await Promise.all([program.stdout.setEncoding('utf8').toArray(), program.done]);
    return text.join('');
  });
}

/** Where a backup's artifacts lie. */
export async function artifactFolder(dataDir, backupId) {
  const root = join(dataDir, 'backups');
  const folders = await readdir(root, { recursive: true });
  return join(root, folders.find((folder) => folder.endsWith(backupId)) ?? '');
}
