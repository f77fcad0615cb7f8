import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { SourceTestDto } from '../../src/sources/source.dto.js';
import { FakePrograms } from '../support/fake-programs.js';
import { holdLock } from '../support/held-lock.js';
import { TestPostgres, usePostgres } from '../support/postgres.js';
import { backUp, createBackup, ended, good, type Run, show, strayFiles, verify } from '../support/runs.js';
import { TestServer, urlOf } from '../support/server.js';
import { until } from '../support/until.js';

const run = promisify(execFile);
const postgres = usePostgres();
let server: TestServer;
let folder: string;
let fakes: FakePrograms;
let configRoot: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'faults-'));
  fakes = await FakePrograms.make(join(folder, 'bin'));
  configRoot = join(folder, 'etc');
  await mkdir(configRoot);
  await writeFile(join(configRoot, 'app.conf'), 'a = 1\n');
  await postgres.current.createDatabase('shop');
  await postgres.current.exec(
    'shop',
    `CREATE TABLE orders (id int PRIMARY KEY, body text);
     INSERT INTO orders SELECT n, md5(n::text) || md5((n * 3)::text) FROM generate_series(1, 40000) n;
     CREATE TABLE secrets (id int)`,
  );
  server = await TestServer.start({
    DATA_DIR: await mkdtemp(join(folder, 'data-')),
    PG_BIN_DIRS: fakes.folder,
    CONFIG_ROOTS: configRoot,
  });
  await createSource('shop', {});
});
afterEach(() => fakes.restore());
afterAll(async () => {
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function createSource(name: string, options: object, url = urlOf(postgres.current.connection('shop'))): Promise<void> {
  await good(server.api('POST', '/api/sources', { name, url, ...options }));
}

async function sessions(of = postgres.current): Promise<number> {
  const rows = await of.query('postgres', "SELECT 1 FROM pg_stat_activity WHERE application_name ~ '^backstay:backup_'");
  return rows.length;
}

async function completed(): Promise<string[]> {
  return (await good(server.api<Run[]>('GET', '/api/backups/list?status=completed&limit=100'))).map(({ id }) => id);
}

/** Folders of ours in the temporary folder; those of this process tell its number. */
async function temporaryFolders(): Promise<string[]> {
  return (await readdir(tmpdir())).filter((name) => name.startsWith(`backstay-work-${process.pid}-`));
}

/** What every failed backup must be, whatever the cause. */
async function expectFailed(backup: Run, code: string, sentence: RegExp): Promise<void> {
  expect(backup).toMatchObject({ status: 'failed', error: { code, message: expect.stringMatching(sentence) } });
  expect(backup.error?.hint).toMatch(/^[A-Z].{10,}\.$/s);
  expect(backup.error?.message).toMatch(/[.…]$/);
  expect(await strayFiles(server.dataDir, await completed())).toEqual([]);
  expect(await temporaryFolders()).toEqual([]);
  await until(async () => (await sessions()) === 0);
}

/** The source still works, and what it makes can be read to the last byte. */
async function expectNextWorks(): Promise<void> {
  await fakes.restore();
  const next = await backUp(server, { source: 'shop' });
  expect(next).toMatchObject({ status: 'completed', error: null });
  expect(await verify(server, next.id)).toMatchObject({ status: 'completed', provenLevel: 2 });
}

describe('a pg_dump that does not do its work', () => {
  it.each([
    ['fails after all its output', 'real "$@"; exit 1', 'DUMP_FAILED', /exit code 1/],
    [
      'says well after a cut output',
      'real "$@" | head -c 20000; exit 0',
      'DUMP_FAILED',
      /pg_dump gave an archive that is not whole.*ends within/,
    ],
    ['says well after no output', 'exit 0', 'DUMP_FAILED', /not whole/],
    ['says well after garbage', 'head -c 300000 /dev/urandom', 'DUMP_FAILED', /not whole/],
    ['says well after an archive with more behind it', 'real "$@"; echo more', 'DUMP_FAILED', /not whole/],
    ['is killed from outside', 'kill -9 $$', 'DUMP_FAILED', /SIGKILL/],
    [
      'is older than the server',
      'echo "pg_dump: error: aborting because of server version mismatch" >&2; echo "pg_dump: detail: server version: 16.1; pg_dump version: 15.1" >&2; exit 1',
      'TOOL_TOO_OLD',
      /older than the server/,
    ],
  ])('and %s fails the backup with its cause', async (_, script, code, sentence) => {
    await fakes.replace('pg_dump', script);
    await expectFailed(await backUp(server, { source: 'shop' }), code, sentence);
  });

  it('and goes away between the choice and the start fails the backup with its path', async () => {
    await fakes.replace('pg_dump', 'exit 9', 'rm -f "$0"; exec real --version');
    await expectFailed(await backUp(server, { source: 'shop' }), 'TOOL_MISSING', /bin\/pg_dump/);
    await expectNextWorks();
  });

  it.each([
    ['itself', 'real "$@" | head -c 30000; exec sleep 600'],
    ['in a child that holds its pipes', 'trap "" TERM; sleep 600; sleep 600'],
  ])('and hangs %s is ended when the time of the source is over', async (_, script) => {
    await good(server.api('PUT', '/api/sources/shop', { maxRunMs: 4000 }));
    await fakes.replace('pg_dump', `echo $$ > ${folder}/pid; ${script}`);
    await expectFailed(await backUp(server, { source: 'shop' }), 'RUN_TIMEOUT', /longer than its limit of 4 s/);
    const pid = (await run('cat', [`${folder}/pid`])).stdout.trim();
    await until(() =>
      run('kill', ['-0', pid]).then(
        () => false,
        () => true,
      ),
    );
    await good(server.api('PUT', '/api/sources/shop', { maxRunMs: 600_000 }));
  });

  it('shows in the health of the sources until the next backup works', async () => {
    await fakes.replace('pg_dump', 'exit 3');
    await expectFailed(await backUp(server, { source: 'shop' }), 'DUMP_FAILED', /exit code 3/);
    const sources = async () => {
      const { body } = await server.api<{ parts: { sources: { status: string; message: string } } }>('GET', '/api/status/health');
      return body.data.parts.sources;
    };
    await until(async () => (await sources()).status === 'degraded');
    expect((await sources()).message).toMatch(/failed or is broken/);
    await expectNextWorks();
    await until(async () => (await sources()).status === 'healthy');
  });
});

describe('a database that does not let itself be read', () => {
  it('for a wrong password fails with the user, never the password', async () => {
    await createSource('wrong-password', {}, urlOf({ ...postgres.current.connection('shop'), password: 'not-the-password' }));
    const backup = await backUp(server, { source: 'wrong-password' });
    await expectFailed(backup, 'AUTHENTICATION_FAILED', /refused the user "postgres" or the password/);
    expect(JSON.stringify(backup)).not.toContain('not-the-password');
  });

  it('for a role without rights names the table', async () => {
    const reader = await postgres.current.createUser('reader');
    await postgres.current.exec('shop', 'GRANT SELECT ON orders TO reader');
    await createSource('no-rights', {}, urlOf(postgres.current.connection('shop', reader)));
    await expectFailed(await backUp(server, { source: 'no-rights' }), 'PRIVILEGE_MISSING', /secrets/);
  });

  it('since it was dropped fails with its name', async () => {
    const database = await postgres.current.createDatabase('dropped');
    await createSource('dropped', {}, urlOf(postgres.current.connection(database)));
    await postgres.current.exec('postgres', 'DROP DATABASE dropped');
    await expectFailed(await backUp(server, { source: 'dropped' }), 'DATABASE_NOT_FOUND', /dropped/);
  });

  it('since another session holds a table fails after the lock timeout', async () => {
    await createSource('locked', { lockTimeoutMs: 300 });
    const release = await holdLock(postgres.current.connection('shop'), 'orders');
    try {
      await expectFailed(await backUp(server, { source: 'locked' }), 'LOCK_TIMEOUT', /could not lock a table/);
    } finally {
      await release();
    }
  });

  it('within the statement limit of the source, which pg_dump lifts for itself, fails with that cause', async () => {
    await createSource('hasty', { statementTimeoutMs: 200 });
    const release = await holdLock(postgres.current.connection('shop'), 'orders');
    try {
      await expectFailed(await backUp(server, { source: 'hasty' }), 'RUN_TIMEOUT', /longer than the source's limit of 200 ms/);
    } finally {
      await release();
    }
  });

  it('since its server stopped in the middle, and then is stopped, fails both times', async () => {
    const doomed = await TestPostgres.start();
    try {
      await doomed.exec('postgres', 'CREATE TABLE held (id int)');
      await createSource('doomed', {}, urlOf(doomed.connection()));
      const release = await holdLock(doomed.connection(), 'held').then((let_go) => () => let_go().catch(() => undefined));
      const { id } = await createBackup(server, { source: 'doomed' });
      await until(async () => (await sessions(doomed)) > 0 && (await show(server, id)).progress?.phase === 'dump');
      const ending = doomed.stop();
      await release();
      await ending;
      await expectFailed(await ended(server, id), 'SOURCE_UNREACHABLE', /connection|connect/);
      await expectFailed(await backUp(server, { source: 'doomed' }), 'SOURCE_UNREACHABLE', /nothing listens there/);
    } finally {
      await doomed.stop();
    }
  });
});

describe('configuration files that can not be taken along', () => {
  const type = { type: 'config' };
  let socket: Server | undefined;
  afterEach(() => void socket?.close());

  async function backUpWith(name: string, path: string): Promise<Run> {
    await createSource(name, { configPaths: [path] });
    return backUp(server, { source: name, ...type });
  }

  it('fail when a link leads out of the allowed folders', async () => {
    await symlink('/etc', join(configRoot, 'way-out'));
    await expectFailed(
      await backUpWith('link', join(configRoot, 'way-out', 'hostname')),
      'CONFIG_PATH_REFUSED',
      /allowed folder/,
    );
    await rm(join(configRoot, 'way-out'));
  });

  it('fail when they are a pipe, without waiting for a writer', async () => {
    await run('mkfifo', [join(configRoot, 'pipe')]);
    await expectFailed(await backUpWith('pipe', configRoot), 'CONFIG_PATH_REFUSED', /pipe" is a pipe/);
    await rm(join(configRoot, 'pipe'));
  });

  it('fail when they are a socket', async () => {
    const path = join(configRoot, 'socket');
    await new Promise<void>((resolve) => (socket = createServer().listen(path, resolve)));
    await expectFailed(await backUpWith('socket', path), 'CONFIG_PATH_REFUSED', /is a socket/);
  });

  it('fail when they went away', async () => {
    await expectFailed(await backUpWith('gone', join(configRoot, 'gone.conf')), 'CONFIG_PATH_REFUSED', /does not exist/);
    const test = await good(server.api<SourceTestDto>('POST', '/api/sources/gone/test'));
    expect(test).toMatchObject({ ok: false, problems: [expect.stringMatching(/gone\.conf" does not exist/)] });
  });

  it('and do no harm as a link inside a listed folder, which is kept as a link', async () => {
    await symlink('/etc/hostname', join(configRoot, 'host'));
    const backup = await backUpWith('listed', configRoot);
    expect(backup).toMatchObject({ status: 'completed' });
    const { bytes } = await server.request(
      'GET',
      `/api/backups/${backup.id}/download?form=decrypted&artifact=config.tar.zst.age`,
    );
    await writeFile(join(folder, 'config.tar'), bytes);
    const { stdout } = await run('tar', ['-tvf', join(folder, 'config.tar')]);
    expect(stdout).toMatch(/host -> \/etc\/hostname/);
    expect(stdout).toMatch(/app\.conf/);
    await rm(join(configRoot, 'host'));
  });
});
