import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackupSweeper } from '../../src/backups/backup-sweeper.js';
import { BackupTrash } from '../../src/backups/backup-trash.js';
import { BackupCopies } from '../../src/destinations/backup-copies.js';
import { CopyLocks } from '../../src/backups/copy-locks.js';
import { CopyRepair } from '../../src/backups/copy-repair.js';
import type { BackupDetailsDto } from '../../src/backups/backup.dto.js';
import type { DestinationDto, DestinationTestDto } from '../../src/destinations/destination.dto.js';
import type { RetentionDecisionDto } from '../../src/retention/retention.dto.js';
import { FakeS3 } from '../support/fake-s3.js';
import { FakeSupabase } from '../support/fake-supabase.js';
import type { Fault } from '../support/faults.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, createRestore, ended, good, verify } from '../support/runs.js';
import { TestServer, urlOf } from '../support/server.js';
import { until } from '../support/until.js';

const postgres = usePostgres();
let server: TestServer;
let fake: FakeS3;
let project: FakeSupabase;
const SECRET = 'fake-secret';

beforeAll(async () => {
  await postgres.current.createSampleDatabase('shop');
  fake = await FakeS3.start();
  project = await FakeSupabase.start();
  server = await TestServer.start({ OUTBOUND_ALLOW: '127.0.0.1' });
  await good(server.api('POST', '/api/sources', { name: 'shop', url: urlOf(postgres.current.connection('shop')) }));
  await good(server.api('POST', '/api/destinations', { name: 'bucket', kind: 's3', ...fake.config, partMiB: 5 }));
  await good(server.api('POST', '/api/destinations', { name: 'second', kind: 'local', folder: 'second' }));
});
afterEach(() => {
  fake.heal();
  project.heal();
});
afterAll(async () => {
  await server?.stop();
  await fake?.stop();
  await project?.stop();
});

const details = (id: string) => good(server.api<BackupDetailsDto>('GET', `/api/backups/${id}/details`));
const states = async (id: string) =>
  Object.fromEntries((await details(id)).artifacts[0]?.copies.map(({ destination, state }) => [destination, state]) ?? []);
const rowOf = (id: string) =>
  server.foundation.catalog.db.selectFrom('backups').select('prefix').where('id', '=', id).executeTakeFirstOrThrow();
/** As if it lay in the trash for ever. */
const throwAway = (id: string) =>
  server.foundation.catalog.db
    .updateTable('backups')
    .set({ deleted_at: new Date(0) })
    .where('id', '=', id)
    .execute();
const atBucket = (id: string) => fake.everything.filter((name) => name.includes(id));

describe('destinations', () => {
  it('are listed without secrets, the local folder first', async () => {
    const all = await good(server.api<DestinationDto[]>('GET', '/api/destinations'));
    expect(all.map(({ name, kind, isDefault }) => [name, kind, isDefault])).toEqual([
      ['local', 'local', true],
      ['bucket', 's3', false],
      ['second', 'local', false],
    ]);
    expect(all[1]).toMatchObject({ hasSecret: true, config: { bucket: 'backups', accessKeyId: 'AKIAFAKE' } });
    expect(JSON.stringify(all)).not.toContain(SECRET);
    const rows = await server.foundation.catalog.db.selectFrom('destinations').selectAll().execute();
    expect(JSON.stringify(rows)).not.toContain(SECRET);
  });

  it('refuse what they can not be', async () => {
    const refused = async (body: object) => (await server.api('POST', '/api/destinations', body)).body;
    expect(await refused({ name: 'x', kind: 's3', bucket: 'b12' })).toMatchObject({
      fields: { secretAccessKey: expect.anything() },
    });
    expect(await refused({ name: 'x', kind: 'local', folder: '../x' })).toMatchObject({ code: 'VALIDATION_ERROR' });
    expect(await refused({ name: 'x', kind: 'local', folder: 'x', bucket: 'b12' })).toMatchObject({
      fields: { bucket: expect.anything() },
    });
    expect(await refused({ name: 'x', kind: 's3', ...fake.config, endpoint: 'http://10.0.0.1' })).toMatchObject({
      error: expect.stringMatching(/[^.]\.$/),
      fields: { endpoint: expect.stringMatching(/OUTBOUND_ALLOW/) },
    });
    expect(await refused({ name: 'bucket', kind: 'local', folder: 'x' })).toMatchObject({ code: 'CONFLICT' });
    expect(await refused({ name: 'local', kind: 'local', folder: 'x' })).toMatchObject({ code: 'CONFLICT' });
    expect((await server.api('DELETE', '/api/destinations/local')).status).toBe(409);
    const moved = await server.api('PUT', '/api/destinations/bucket', { endpoint: 'http://127.0.0.1:1' });
    expect(moved.body).toMatchObject({ fields: { secretAccessKey: expect.anything() } });
  });

  it('of another organization do not exist', async () => {
    const { key } = await server.createOrganization('other');
    for (const [method, path] of [
      ['GET', ''],
      ['PUT', ''],
      ['DELETE', ''],
      ['POST', '/test'],
    ] as const) {
      const body = method === 'PUT' ? { isDefault: true } : undefined;
      expect((await server.api(method, `/api/destinations/bucket${path}`, body, key)).status).toBe(404);
    }
    expect(
      (await good(server.api<DestinationDto[]>('GET', '/api/destinations', undefined, key))).map(({ name }) => name),
    ).toEqual(['local']);
  });

  it('say by a test what they can do, and what is wrong with them', async () => {
    const test = () => good(server.api<DestinationTestDto>('POST', '/api/destinations/bucket/test'));
    const capabilities = { conditionalWrite: true, objectLock: false, range: true, strongList: true };
    expect(await test()).toMatchObject({ ok: true, error: null, capabilities, writeBytesPerSecond: expect.any(Number) });
    fake.conditional = false;
    expect((await test()).capabilities).toMatchObject({ conditionalWrite: false });
    fake.conditional = true;
    expect(await good(server.api<DestinationDto>('GET', '/api/destinations/bucket'))).toMatchObject({
      testedAt: expect.any(String),
    });
    fake.fail('denied');
    const failed = await test();
    expect(failed).toMatchObject({ ok: false, capabilities: null, error: expect.stringMatching(/access was denied.*rights/) });
    fake.heal();
    expect(fake.everything).toEqual([]);
    expect(await good(server.api<DestinationTestDto>('POST', '/api/destinations/local/test'))).toMatchObject({ ok: true });
  });
});

describe('a backup in a bucket', () => {
  it('is made, verified, downloaded, restored and removed there, and lies nowhere else', async () => {
    const backup = await backUp(server, { destinations: ['bucket'] });
    expect(backup).toMatchObject({ status: 'completed', error: null });
    expect(await states(backup.id)).toEqual({ bucket: 'stored' });
    expect(atBucket(backup.id).map((name) => name.split('/').at(-1))).toEqual([
      'config.tar.zst.age',
      'database.dump.zst.age',
      'globals.sql.zst.age',
      'manifest.json',
      'manifest.json.sig',
    ]);
    expect(await readdir(join(server.dataDir, 'backups')).catch(() => [])).toEqual([]);
    const verified = await verify(server, backup.id);
    expect(verified).toMatchObject({ status: 'completed', provenLevel: 2 });
    const download = await server.request('GET', `/api/backups/${backup.id}/download?form=decrypted`);
    expect(download.bytes.subarray(0, 5).toString()).toBe('PGDMP');
    const restore = await createRestore(server, backup.id, { mode: 'new-database', database: 'shop_from_bucket' });
    expect(await ended(server, restore.id)).toMatchObject({ status: 'completed', countsEqual: true });
    expect((await server.api('DELETE', '/api/destinations/bucket')).status).toBe(409);
    await good(server.api('DELETE', `/api/backups/${backup.id}`));
    await throwAway(backup.id);
    await server.running.app.get(BackupTrash).empty();
    expect(atBucket(backup.id)).toEqual([]);
  });

  // What the driver makes of single faults is tried in s3-store.spec.ts; here, what a run makes of those that last.
  it.each<[Fault, string]>([
    ['denied', 'PutObject'],
    ['missing', 'HeadObject'],
    ['denied', 'CopyObject'],
    ['clockSkew', 'ListObjectsV2'],
    // From here on the manifest is there, and can't be read back.
    ['denied', 'GetObject'],
    ['clockSkew', 'GetObject'],
    ['missing', 'GetObject'],
  ])(
    'fails with a clear cause when %s lasts at %s, leaves nothing after a sweep, and is made when it ends',
    async (fault, point) => {
      fake.fail(fault, new RegExp(`^${point}$`));
      const failed = await backUp(server, { destinations: ['bucket'] });
      expect(['failed', 'completed']).toContain(failed.status);
      if (failed.status === 'failed')
        expect(failed.error).toMatchObject({
          hint: expect.stringMatching(/^[A-Z].+\.$/),
          code: expect.stringMatching(/^(STORE_FAILED|OBJECT_MISSING)$/),
        });
      fake.heal();
      if (failed.status === 'completed') expect(await verify(server, failed.id)).toMatchObject({ status: 'completed' });
      else {
        await server.running.app.get(BackupSweeper).sweep(-60_000);
        expect(atBucket(failed.id)).toEqual([]);
      }
      expect(await backUp(server, { destinations: ['bucket'] })).toMatchObject({ status: 'completed' });
    },
  );

  it.each<[Fault, string]>([
    ['error500', 'PutObject'],
    ['slowDown', 'GetObject'],
    ['reset', 'DeleteObject'],
    ['lostAnswer', 'CopyObject'],
    ['twice', 'PutObject'],
  ])('gets over one %s at %s', async (fault, point) => {
    fake.fail(fault, new RegExp(`^${point}$`), { times: 1 });
    const backup = await backUp(server, { destinations: ['bucket'] });
    expect(backup).toMatchObject({ status: 'completed', error: null });
    expect(await verify(server, backup.id)).toMatchObject({ status: 'completed', provenLevel: 2 });
  });

  it('is never completed where the bucket says yes and does nothing', async () => {
    fake.fail('pretend', /^PutObject$/);
    const backup = await backUp(server, { destinations: ['bucket'] });
    expect(backup).toMatchObject({ status: 'failed', error: { code: expect.stringMatching(/^(STORE_FAILED|OBJECT_MISSING)$/) } });
  });

  it('is restored over answers that are cut, and fails where none comes whole', async () => {
    const backup = await backUp(server, { destinations: ['bucket'] });
    fake.fail('cut', /^GetObject$/, { times: 3 });
    const first = await createRestore(server, backup.id, { mode: 'new-database', database: 'shop_cut' });
    expect(await ended(server, first.id)).toMatchObject({ status: 'completed', countsEqual: true });
    fake.fail('denied', /^GetObject$/);
    const second = await server.api('POST', `/api/backups/${backup.id}/restore`, {
      target: { mode: 'new-database', database: 'shop_denied' },
    });
    expect(second).toMatchObject({ status: 422, body: { error: expect.stringMatching(/access was denied/) } });
  });
});

describe('a backup at several destinations', () => {
  it('lies at each of them, from one dump', async () => {
    const backup = await backUp(server, { destinations: ['local', 'bucket', 'second'] });
    expect(backup).toMatchObject({ status: 'completed', error: null });
    expect(await states(backup.id)).toEqual({ local: 'stored', bucket: 'stored', second: 'stored' });
    const verified = await verify(server, backup.id);
    expect(verified.checks?.[0]?.detail).toContain('local');
  });

  it('fails when one of all is away, and leaves nothing at the others', async () => {
    fake.fail('denied', /^PutObject$/);
    const backup = await backUp(server, { destinations: ['second', 'bucket'] });
    expect(backup).toMatchObject({
      status: 'failed',
      error: { code: 'STORE_FAILED', message: expect.stringMatching(/access was denied/) },
    });
    const files = await readdir(join(server.dataDir, 'destinations'), { recursive: true });
    expect(files.filter((file) => file.includes(backup.id))).toEqual([]);
  });

  it('is completed by its quorum, says which copy failed and why, and the late one is repaired', async () => {
    fake.fail('denied', /^PutObject$/);
    const backup = await backUp(server, { destinations: ['bucket', 'second'], quorum: 1 });
    expect(backup).toMatchObject({ status: 'completed', error: null });
    expect(await states(backup.id)).toEqual({ bucket: 'failed', second: 'stored' });
    const [artifact] = (await details(backup.id)).artifacts;
    expect(artifact?.copies[0]?.error).toMatchObject({
      code: 'STORE_FAILED',
      message: expect.stringMatching(/access was denied/),
    });
    expect(await verify(server, backup.id)).toMatchObject({ status: 'completed', provenLevel: 2 });
    const repair = server.running.app.get(CopyRepair);
    const later = new Date(Date.now() + 86_400_000);
    fake.heal();
    expect(await repair.repairAll(later)).toBeGreaterThanOrEqual(1);
    expect(await states(backup.id)).toEqual({ bucket: 'stored', second: 'stored' });
    const verified = await verify(server, backup.id);
    expect(verified).toMatchObject({ status: 'completed', provenLevel: 2 });
    expect(verified.checks?.[0]?.detail).toContain('bucket');
  });

  it('is read from another copy when the first one is gone', async () => {
    const backup = await backUp(server, { destinations: ['bucket', 'second'] });
    for (const key of atBucket(backup.id)) fake.objects.delete(key);
    const verified = await verify(server, backup.id);
    expect(verified).toMatchObject({ status: 'completed', provenLevel: 2 });
    expect(verified.checks?.[0]?.detail).toContain('second');
  });

  it('refuses destinations that do not exist, and a quorum beyond them', async () => {
    const refused = async (body: object) => (await server.api('POST', '/api/backups/create', body)).body;
    expect(await refused({ destinations: ['nowhere'] })).toMatchObject({ fields: { destinations: expect.anything() } });
    expect(await refused({ destinations: ['bucket'], quorum: 2 })).toMatchObject({ fields: { quorum: expect.anything() } });
  });
});

describe('a backup in a bucket with object lock', () => {
  const DAYS = 7;
  const DAY_MS = 86_400_000;
  let vault: FakeS3;
  let body: object;

  beforeAll(async () => {
    vault = await FakeS3.start('vault');
    body = { kind: 's3', ...vault.config, objectLock: 'governance', objectLockDays: DAYS };
    vault.lock = 'honest';
    await good(server.api('POST', '/api/destinations', { ...body, name: 'vault' }));
  });
  afterEach(() => {
    vault.heal();
    vault.lock = 'honest';
  });
  afterAll(() => vault?.stop());

  const copyAt = async (id: string, name = 'vault') =>
    (await details(id)).artifacts[0]?.copies.find(({ destination }) => destination === name);
  const lockOf = async (id: string) => (await copyAt(id))?.lockedUntil ?? null;
  const versionsOf = (id: string) => [...vault.versions.keys()].filter((key) => key.includes(id));
  /** Made, and locked for as long as the destination asks for. */
  const backUpLocked = async (destinations = ['vault']) => {
    const backup = await backUp(server, { destinations });
    expect(backup).toMatchObject({ status: 'completed', error: null });
    await until(async () => (await lockOf(backup.id)) !== null);
    return backup;
  };
  const catalog = () => server.foundation.catalog.db;
  const lapseInCatalog = (id: string) =>
    catalog()
      .updateTable('backup_copies')
      .set({ locked_until: new Date(0) })
      .where('backup_id', '=', id)
      .execute();
  const empty = () => server.running.app.get(BackupTrash).empty();

  it('is asked for only where it can be had', async () => {
    const refused = (more: object) => server.api('POST', '/api/destinations', { ...body, name: 'x', ...more });
    for (const lock of ['none', 'versions', 'forgetful', 'toothless'] as const) {
      vault.lock = lock;
      expect(await refused({})).toMatchObject({
        status: 422,
        body: { error: expect.stringMatching(/object lock, which can't be had/) },
      });
    }
    vault.fail('denied');
    expect(await refused({})).toMatchObject({ status: 422, body: { error: expect.stringMatching(/access was denied/) } });
    expect(await refused({ objectLockDays: undefined })).toMatchObject({
      status: 400,
      body: { fields: { objectLockDays: expect.anything() } },
    });
    expect(await refused({ objectLock: undefined })).toMatchObject({
      status: 400,
      body: { fields: { objectLock: expect.anything() } },
    });
    expect(await refused({ objectLock: 'forever' })).toMatchObject({ status: 400 });
    const local = { name: 'x', kind: 'local', folder: 'x', objectLock: 'governance', objectLockDays: 1 };
    expect(await server.api('POST', '/api/destinations', local)).toMatchObject({ status: 400 });
  });

  it('is found by the test of a destination, which fails where the lock that is asked for is gone', async () => {
    const test = () => good(server.api<DestinationTestDto>('POST', '/api/destinations/vault/test'));
    expect(await test()).toMatchObject({ ok: true, capabilities: { objectLock: true } });
    vault.lock = 'toothless';
    expect(await test()).toMatchObject({ ok: false, error: expect.stringMatching(/removes the locked object all the same/) });
    expect([...vault.versions.keys()]).toEqual([]);
  });

  it('is locked as a whole when it is completed, and can neither be deleted nor purged before', async () => {
    const backup = await backUpLocked();
    const { finishedAt } = await details(backup.id);
    const lockedUntil = new Date(Date.parse(String(finishedAt)) + DAYS * DAY_MS).toISOString();
    expect(await lockOf(backup.id)).toBe(lockedUntil);
    expect(versionsOf(backup.id)).toHaveLength(5);
    for (const key of versionsOf(backup.id))
      expect(vault.locks[key]).toEqual({ mode: 'GOVERNANCE', until: new Date(lockedUntil) });
    expect(await server.api('DELETE', `/api/backups/${backup.id}`)).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT', error: expect.stringContaining(`locked at the destination "vault" until ${lockedUntil}`) },
    });
    await throwAway(backup.id);
    await empty();
    expect(versionsOf(backup.id)).toHaveLength(5);
    // The store's word counts, whatever the catalog says.
    await lapseInCatalog(backup.id);
    await empty();
    expect(versionsOf(backup.id)).toHaveLength(5);
    expect(await lockOf(backup.id)).toBe(lockedUntil);
    vault.lapse();
    await lapseInCatalog(backup.id);
    await empty();
    expect((await server.api('GET', `/api/backups/${backup.id}/details`)).status).toBe(404);
    expect(versionsOf(backup.id)).toEqual([]);
  });

  it('is kept by retention until the lock has lapsed', async () => {
    const [old] = [await backUpLocked(), await backUpLocked()];
    const policy = await good(server.api<{ id: string }>('POST', '/api/retention-policies', { name: 'one', keepLast: 1 }));
    const decided = async () => {
      const all = await good(server.api<RetentionDecisionDto[]>('GET', `/api/retention-policies/${policy.id}/preview`));
      return all.find(({ backupId }) => backupId === old.id);
    };
    expect(await decided()).toMatchObject({
      kept: true,
      rule: 'locked',
      reason: `It is locked until ${await lockOf(old.id)} at a destination (object lock).`,
    });
    await lapseInCatalog(old.id);
    expect(await decided()).toMatchObject({ kept: false });
    await good(server.api('DELETE', '/api/retention-policies/one'));
  });

  it('leaves nothing locked of an attempt that fails, and nothing at all after a sweep', async () => {
    vault.fail('denied', /^GetObject$/);
    const failed = await backUp(server, { destinations: ['vault'] });
    expect(failed).toMatchObject({ status: 'failed' });
    expect(versionsOf(failed.id).filter((key) => vault.locks[key] !== null)).toEqual([]);
    vault.heal();
    await server.running.app.get(BackupSweeper).sweep(-60_000);
    expect(versionsOf(failed.id)).toEqual([]);
    await backUpLocked();
  });

  it('says that it could not be locked, is kept all the same, and is locked when it can be', async () => {
    vault.fail('denied', /^PutObjectRetention$/);
    const backup = await backUp(server, { destinations: ['vault'] });
    expect(backup).toMatchObject({ status: 'completed' });
    await until(async () => (await copyAt(backup.id))?.error !== null);
    expect(await copyAt(backup.id)).toMatchObject({
      state: 'stored',
      lockedUntil: null,
      error: { code: 'STORE_FAILED', message: expect.stringMatching(/Could not lock .*access was denied/) },
    });
    expect((await server.api('DELETE', `/api/backups/${backup.id}`)).status).toBe(409);
    expect(await server.running.app.get(CopyLocks).state()).toMatchObject({ failing: 1 });
    vault.heal();
    await server.running.app.get(CopyLocks).lockDue(new Date(Date.now() + DAY_MS));
    expect(await copyAt(backup.id)).toMatchObject({ error: null, lockedUntil: expect.any(String) });
    expect(await server.running.app.get(CopyLocks).state()).toEqual({ waiting: 0, failing: 0, error: null });
  });

  it('that is repaired later is locked to the same day', async () => {
    vault.fail('denied', /^PutObject$/);
    const backup = await backUp(server, { destinations: ['vault', 'second'], quorum: 1 });
    expect(await copyAt(backup.id)).toMatchObject({ state: 'failed', lockedUntil: null });
    vault.heal();
    await server.running.app.get(CopyRepair).repairAll(new Date(Date.now() + DAY_MS));
    const { finishedAt } = await details(backup.id);
    expect(await copyAt(backup.id)).toMatchObject({
      state: 'stored',
      lockedUntil: new Date(Date.parse(String(finishedAt)) + DAYS * DAY_MS).toISOString(),
    });
    expect(await copyAt(backup.id, 'second')).toMatchObject({ state: 'stored', lockedUntil: null });
  });

  it('is locked no more when the destination does not ask for it any more', async () => {
    expect(
      (await good(server.api<DestinationDto>('PUT', '/api/destinations/vault', { objectLock: null }))).config,
    ).not.toHaveProperty('objectLockDays');
    const backup = await backUp(server, { destinations: ['vault'] });
    expect(backup).toMatchObject({ status: 'completed' });
    await server.running.app.get(CopyLocks).lockDue();
    expect(await lockOf(backup.id)).toBeNull();
    await good(server.api('DELETE', `/api/backups/${backup.id}`));
  });
});

describe('a backup in Supabase Storage', () => {
  const objects = (id: string) => project.everything.filter((name) => name.includes(id));

  beforeAll(async () => {
    await good(server.api('POST', '/api/destinations', { name: 'project', kind: 'supabase', ...project.config }));
  });

  it('goes where a test of the destination says what it can do, and shows no key', async () => {
    const capabilities = { conditionalWrite: true, objectLock: false, range: true, strongList: true };
    const found = await good(server.api<DestinationTestDto>('POST', '/api/destinations/project/test'));
    expect(found).toMatchObject({ ok: true, error: null, capabilities });
    const shown = await good(server.api<DestinationDto>('GET', '/api/destinations/project'));
    expect(shown).toMatchObject({ kind: 'supabase', hasSecret: true, config: { url: project.url, bucket: 'backups' } });
    expect(JSON.stringify(shown)).not.toContain(project.serviceRoleKey);
    const moved = await server.api('PUT', '/api/destinations/project', { url: 'http://127.0.0.1:1' });
    expect(moved.body).toMatchObject({ fields: { serviceRoleKey: expect.anything() } });
    const inside = await server.api('POST', '/api/destinations', {
      ...project.config,
      name: 'x',
      kind: 'supabase',
      url: 'http://10.0.0.1',
    });
    expect(inside.body).toMatchObject({ fields: { url: expect.stringMatching(/OUTBOUND_ALLOW/) } });
  });

  it('is made, verified, restored and removed there', async () => {
    const backup = await backUp(server, { destinations: ['project'] });
    expect(backup).toMatchObject({ status: 'completed', error: null });
    expect(objects(backup.id)).toHaveLength(5);
    expect(await verify(server, backup.id)).toMatchObject({ status: 'completed', provenLevel: 2 });
    const restore = await createRestore(server, backup.id, { mode: 'new-database', database: 'shop_from_project' });
    expect(await ended(server, restore.id)).toMatchObject({ status: 'completed', countsEqual: true });
    await server.running.app.get(BackupCopies).remove({ id: backup.id, prefix: (await rowOf(backup.id)).prefix });
    expect(objects(backup.id)).toEqual([]);
  });

  it.each<[Fault, string]>([
    ['denied', 'upload'],
    ['missing', 'move'],
    ['clockSkew', 'listV2'],
    ['pretend', 'upload'],
    ['pretend', 'move'],
  ])('fails with a clear cause when %s lasts at %s, and is made when it ends', async (fault, point) => {
    project.fail(fault, new RegExp(`^${point}$`));
    const failed = await backUp(server, { destinations: ['project'] });
    expect(failed).toMatchObject({
      status: 'failed',
      error: { code: expect.stringMatching(/^(STORE_FAILED|OBJECT_MISSING)$/), hint: expect.stringMatching(/^[A-Z].+\.$/) },
    });
    project.heal();
    await server.running.app.get(BackupSweeper).sweep(-60_000);
    expect(objects(failed.id)).toEqual([]);
    expect(await backUp(server, { destinations: ['project'] })).toMatchObject({ status: 'completed' });
  });
});

describe('an rclone remote', () => {
  const rcloneConfig = '[there]\ntype = s3\nsecret_access_key = top-secret\n';
  const body = { name: 'remote', kind: 'rclone', remote: 'there:folder', rcloneConfig };

  it('is set up by the owner of the instance alone, and its configuration is never shown', async () => {
    const made = await good(server.api<DestinationDto>('POST', '/api/destinations', body));
    expect(made).toMatchObject({ kind: 'rclone', hasSecret: true, config: { remote: 'there:folder' } });
    const rows = await server.foundation.catalog.db.selectFrom('destinations').selectAll().execute();
    expect(JSON.stringify([made, rows])).not.toContain('top-secret');
    const key = await server.createKey(['destination:manage']);
    expect((await server.api('POST', '/api/destinations', { ...body, name: 'x' }, key)).status).toBe(403);
    expect((await server.api('PUT', '/api/destinations/remote', { rcloneConfig }, key)).status).toBe(403);
    for (const remote of ['other:folder', ':local:/etc', '-x:y', 'there,type=local:/etc'])
      expect((await server.api('POST', '/api/destinations', { ...body, name: 'x', remote })).body).toMatchObject({
        fields: { remote: expect.anything() },
      });
    await good(server.api('DELETE', '/api/destinations/remote'));
  });

  // The program is no part of a fresh machine.
  (spawnSync('rclone', ['version']).status === 0 ? it : it.skip)(
    'takes a backup that is verified, restored, and removed with all its files',
    async () => {
      const root = await mkdtemp(join(tmpdir(), 'backstay-rclone-'));
      try {
        const local = { name: 'folder', kind: 'rclone', remote: `here:${root}`, rcloneConfig: '[here]\ntype = local\n' };
        await good(server.api('POST', '/api/destinations', local));
        expect(await good(server.api<DestinationTestDto>('POST', '/api/destinations/folder/test'))).toMatchObject({
          ok: true,
          capabilities: { conditionalWrite: false, objectLock: false, range: true, strongList: true },
        });
        const backup = await backUp(server, { destinations: ['folder'] });
        expect(backup).toMatchObject({ status: 'completed', error: null });
        const files = async () =>
          (await readdir(root, { recursive: true, withFileTypes: true }))
            .filter((entry) => entry.isFile())
            .map(({ name }) => name);
        expect((await files()).sort()).toEqual([
          'config.tar.zst.age',
          'database.dump.zst.age',
          'globals.sql.zst.age',
          'manifest.json',
          'manifest.json.sig',
        ]);
        expect(await verify(server, backup.id)).toMatchObject({ status: 'completed', provenLevel: 2 });
        const restore = await createRestore(server, backup.id, { mode: 'new-database', database: 'shop_from_rclone' });
        expect(await ended(server, restore.id)).toMatchObject({ status: 'completed', countsEqual: true });
        await good(server.api('DELETE', `/api/backups/${backup.id}`));
        await throwAway(backup.id);
        await server.running.app.get(BackupTrash).empty();
        expect(await files()).toEqual([]);
      } finally {
        await rm(root, { recursive: true, force: true });
      }
    },
  );
});

// Last: a second server in this process takes the first one's callers.
describe('S3_BUCKET and SUPABASE_URL', () => {
  it('make destinations that backups go to by default', async () => {
    const other = await TestServer.start({
      S3_BUCKET: fake.bucket,
      S3_ENDPOINT: fake.url,
      S3_ACCESS_KEY_ID: 'AKIAFAKE',
      S3_SECRET_ACCESS_KEY: SECRET,
      S3_PREFIX: 'by-setting',
      SUPABASE_URL: project.url,
      SUPABASE_SERVICE_ROLE_KEY: project.serviceRoleKey,
      SUPABASE_PREFIX: 'by-setting',
      SOURCE_DATABASE_URL: urlOf(postgres.current.connection('shop')),
    });
    try {
      const all = await good(other.api<DestinationDto[]>('GET', '/api/destinations'));
      expect(all).toMatchObject([
        { name: 'local', isDefault: false },
        { name: 's3', isDefault: true, madeBySetting: 'S3_BUCKET' },
        { name: 'supabase', isDefault: true, madeBySetting: 'SUPABASE_URL' },
      ]);
      expect(JSON.stringify(all)).not.toContain(project.serviceRoleKey);
      const backup = await backUp(other);
      expect(backup).toMatchObject({ status: 'completed', error: null });
      const [atS3, atProject] = [atBucket(backup.id), project.everything.filter((name) => name.includes(backup.id))];
      expect(atS3.every((key) => key.startsWith('by-setting/'))).toBe(true);
      expect(atProject.every((name) => name.startsWith('backstay/by-setting/'))).toBe(true);
      expect(atS3.length).toBeGreaterThanOrEqual(4);
      expect(atProject).toHaveLength(atS3.length);
    } finally {
      await other.stop();
    }
  });
});
