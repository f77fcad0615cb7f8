import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { BackupDetailsDto } from '../../src/backups/backup.dto.js';
import { chooseClientPrograms, findClientPrograms } from '../../src/engine/postgres/client-programs.js';
import { identitiesIn, keysInText } from '../../src/engine/recovery-kit.js';
import type { AdoptionDto } from '../../src/recovery/adopt.dto.js';
import { portray } from '../support/compare-databases.js';
import { FakeS3 } from '../support/fake-s3.js';
import { usePostgres } from '../support/postgres.js';
import { type Api, backUp, createRestore, ended, good, type Run, verify } from '../support/runs.js';
import { OWNER_KEY, send, TestServer, urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

const postgres = usePostgres();
let root: string;
let fake: FakeS3;
let kit: string;
let lost: Run;
let lostIds: { installation: string; organization: string };
const servers: TestServer[] = [];

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'backstay-recovery-'));
  fake = await FakeS3.start();
  await postgres.current.createSampleDatabase('shop');
  const dataDir = join(root, 'lost');
  const server = await ServerProcess.start(dataDir, { OUTBOUND_ALLOW: '127.0.0.1', CATALOG_BACKUPS: 'true' });
  await good(server.api('POST', '/api/sources', { name: 'shop', url: urlOf(postgres.current.connection('shop')) }));
  await good(server.api('POST', '/api/destinations', { name: 'bucket', kind: 's3', ...fake.config, partMiB: 5 }));
  const rclone = { remote: `drive:${root}/rclone`, rcloneConfig: '[drive]\ntype = local\n' };
  await good(server.api('POST', '/api/destinations', { name: 'drive', kind: 'rclone', ...rclone }));
  await good(server.api('POST', '/api/retention-policies', { name: 'standard', keepLast: 7, sources: ['shop'] }));
  await good(
    server.api('POST', '/api/backups/schedule', { name: 'nightly', source: 'shop', cron: '0 2 * * *', destinations: ['bucket'] }),
  );
  await good(server.api('POST', '/api/webhooks/endpoints', { url: 'http://127.0.0.1:9/hook', events: ['backup.*'] }));
  lost = await backUp(server, { destinations: ['bucket', 'local'], label: 'before the flood' });
  expect(lost).toMatchObject({ status: 'completed' });
  await verify(server, lost.id, 2);
  const answer = await send(server.url, 'GET', '/api/keys/recovery-kit');
  expect(answer.status).toBe(200);
  kit = answer.bytes.toString();
  // With the proof of the verification, which has ended.
  const from = Date.now();
  await until(
    () => [...fake.objects].some(([key, { modifiedAt }]) => key.endsWith('.catalog.zst.age') && +modifiedAt > from),
    30_000,
  );
  const [installation = '', organization = ''] = fake.everything.find((key) => key.endsWith('manifest.json'))!.split('/');
  lostIds = { installation, organization };
  await server.end();
  await cp(join(dataDir, 'backups'), join(root, 'kept'), { recursive: true });
  await rm(dataDir, { recursive: true });
}, 300_000);

afterAll(async () => {
  await Promise.all(servers.map((server) => server.stop()));
  await fake?.stop();
  if (root) await rm(root, { recursive: true, force: true });
}, 300_000);

async function start(env: NodeJS.ProcessEnv = {}): Promise<TestServer> {
  const server = await TestServer.start({ OUTBOUND_ALLOW: '127.0.0.1', ...env });
  servers.push(server);
  return server;
}

async function withBucket(): Promise<TestServer> {
  const server = await start();
  await good(server.api('POST', '/api/destinations', { name: 'bucket', kind: 's3', ...fake.config, partMiB: 5 }));
  return server;
}

/** A new server into whose local folder the old one's content was put. */
async function withFolder(): Promise<TestServer> {
  const dataDir = await mkdtemp(join(root, 'new-'));
  await cp(join(root, 'kept'), join(dataDir, 'backups'), { recursive: true });
  return start({ DATA_DIR: dataDir });
}

const adopt = (server: Api, destination: string, body: object = {}) =>
  server.api<AdoptionDto>('POST', `/api/destinations/${destination}/adopt`, body);

async function assertEqual(copy: string): Promise<void> {
  const programs = chooseClientPrograms(await findClientPrograms({ binDirs: [] }), 15, { requirePatched: false });
  const [before, after] = await Promise.all(
    ['shop', copy].map((database) => portray(postgres.current.connection(database), programs)),
  );
  expect(after).toEqual(before);
}

describe('after the loss of a server, a new one with its kit', () => {
  it('takes everything in from a bucket, once, and restores it equal', async () => {
    const server = await withBucket();
    // By somebody who may do all but what is the instance's owner's alone.
    const key = await server.createKey();
    const first = await good(server.api<AdoptionDto>('POST', '/api/destinations/bucket/adopt', { kit }, key));
    expect(first.notes.join()).toMatch(/destination drive was left out: only the instance's owner/);
    expect(first).toMatchObject({ ...lostIds, found: 1, adopted: 1, known: 0, backups: [lost.id], unread: [], chainGaps: [] });
    expect(first.sources).toMatchObject([{ name: 'shop', created: true, hasCredentials: true }]);
    expect(first.settings).toMatchObject({
      created: { sources: 1, retention_policies: 1, schedules: expect.any(Number), webhook_endpoints: 1 },
      auditHead: { hash: expect.stringMatching(/^[0-9a-f]{64}$/) },
    });
    const details = await good(server.api<BackupDetailsDto>('GET', `/api/backups/${lost.id}/details`));
    expect(details).toMatchObject({ status: 'completed', proofLevel: 2, label: 'before the flood', rowCount: lost.rowCount });
    expect(details.tables.length).toBe(details.tableCount);
    expect(await good(adopt(server, 'bucket', { kit }))).toMatchObject({
      adopted: 0,
      known: 1,
      settings: { created: { members: 0, destinations: 1 } },
    });
    const schedules = await good(server.api<{ name: string; source: string }[]>('GET', '/api/backups/schedule'));
    expect(schedules.filter(({ name }) => name === 'nightly')).toMatchObject([
      { source: 'shop', destinations: expect.any(Array) },
    ]);
    const { id } = await createRestore(server, lost.id, { mode: 'new-database', database: 'shop_from_bucket' });
    expect(await ended(server, id)).toMatchObject({ status: 'completed', countsEqual: true });
    await assertEqual('shop_from_bucket');
    // It goes on from here: under its own ids, beside what it took in.
    expect(await backUp(server, { destinations: ['bucket'] })).toMatchObject({ status: 'completed' });
    expect(await verify(server, lost.id, 2)).toMatchObject({ status: 'completed', provenLevel: 2 });
  }, 300_000);

  it('takes backups in from a folder, without credentials, and restores them to a URL', async () => {
    const server = await withFolder();
    expect((await good(adopt(server, 'local', { settings: false }))).unread).toMatchObject([{ code: 'SIGNATURE_INVALID' }]);
    const taken = await good(adopt(server, 'local', { kit, settings: false, from: lostIds.installation }));
    expect(taken).toMatchObject({ adopted: 1, sources: [{ created: true, hasCredentials: false }], settings: null });
    expect(await server.api('GET', `/api/backups/${lost.id}/details`)).toMatchObject({ body: { data: { proofLevel: 0 } } });
    const refused = await server.api('POST', `/api/backups/${lost.id}/restore`, {
      target: { mode: 'new-database', database: 'x' },
    });
    expect(refused).toMatchObject({ status: 422, body: { error: expect.stringMatching(/no credentials.*PUT \/api\/sources/) } });
    await postgres.current.createDatabase('shop_from_folder');
    const url = urlOf(postgres.current.connection('shop_from_folder'));
    const { id } = await createRestore(server, lost.id, { mode: 'url', url });
    expect(await ended(server, id)).toMatchObject({ status: 'completed', countsEqual: true });
    await assertEqual('shop_from_folder');
  }, 300_000);

  it('takes in what was signed by a lost key only when somebody says so, and writes it down', async () => {
    const server = await withFolder();
    const identities = identitiesIn(kit);
    expect((await good(adopt(server, 'local', { identities }))).unread).toMatchObject([{ code: 'SIGNATURE_INVALID' }]);
    const { key } = await server.createOrganization('other');
    expect((await server.api('POST', '/api/destinations/local/adopt', { lostSigningKey: 'we lost it all' }, key)).status).toBe(
      400,
    );
    expect(await good(server.api<AdoptionDto>('POST', '/api/destinations/local/adopt', { kit }, key))).toMatchObject({
      found: 0,
    });
    const taken = await good(adopt(server, 'local', { identities, lostSigningKey: 'the kit was lost in the flood' }));
    expect(taken).toMatchObject({ adopted: 1, unread: [] });
    expect(await verify(server, lost.id, 2)).toMatchObject({ status: 'completed', provenLevel: 2 });
    const { body } = await server.api<{ action: string; changes: object }[]>('GET', '/api/audit?action=signature.overridden');
    expect(body.data).toMatchObject([{ changes: { reason: 'the kit was lost in the flood' } }]);
    // Pinned to its bytes: another manifest in its place is refused.
    const row = await server.foundation.catalog.db
      .selectFrom('backups')
      .select('prefix')
      .where('id', '=', lost.id)
      .executeTakeFirstOrThrow();
    const file = join(server.dataDir, 'backups', row.prefix, 'manifest.json');
    await writeFile(file, (await readFile(file, 'utf8')).replace('"rowCount": ', '"rowCount":  '));
    expect(await verify(server, lost.id, 1)).toMatchObject({ status: 'failed', error: { code: 'SIGNATURE_INVALID' } });
  }, 300_000);

  it('asks whose backups are meant where several have theirs', async () => {
    const server = await withFolder();
    await good(adopt(server, 'local', { kit }));
    const dataDir = join(server.dataDir, 'backups');
    const other = 'inst_00000000000000000000';
    for (const name of [other, 'inst_11111111111111111111'])
      await cp(join(dataDir, lostIds.installation), join(dataDir, name), { recursive: true });
    const asked = await adopt(server, 'local');
    // Their ids are taken, so nothing of them is unknown; with one more backup there would be.
    expect(asked.status).toBe(200);
    expect(await adopt(server, 'local', { from: 'inst_nobody' })).toMatchObject({
      status: 400,
      body: { fields: { from: expect.stringMatching(/names nobody/) } },
    });
    const moved = await good(adopt(server, 'local', { from: other }));
    expect(moved.unread).toMatchObject([
      { code: 'MANIFEST_CORRUPT', reason: expect.stringMatching(/belongs to the installation/) },
    ]);
  });
});

describe('the kit', () => {
  it('is one text that opens the backups, written down, with credentials only when asked for', async () => {
    const server = await withBucket();
    const get = (query = '', key = OWNER_KEY) => server.request('GET', `/api/keys/recovery-kit${query}`, { key });
    const plain = await get();
    expect(plain).toMatchObject({
      status: 200,
      headers: { 'content-type': expect.stringMatching(/^text\/plain/), 'cache-control': 'private, no-store' },
    });
    const kitText = plain.bytes.toString();
    expect(kitText.split('\n').filter((line) => line !== '' && !line.startsWith('#'))).toEqual(identitiesIn(kitText));
    expect(identitiesIn(kitText).length).toBe(1);
    expect(kitText).toContain(server.foundation.installation.id);
    expect(kitText).toContain('bucket (s3)');
    expect(kitText).not.toContain('fake-secret');
    expect((await get('?secrets=true')).bytes.toString()).toContain('fake-secret');
    const { key } = await server.createOrganization('tenant');
    const tenants = await get('', key);
    expect(tenants.status).toBe(200);
    expect(identitiesIn(tenants.bytes.toString())).toEqual([]);
    expect((await get('', await server.createKey(['backup:read']))).status).toBe(403);
    const { body } = await server.api<{ action: string }[]>('GET', '/api/audit?action=recovery-kit.downloaded');
    expect(body.data.length).toBe(2);
    const health = () => server.api<{ parts: { keys: { status: string } } }>('GET', '/api/status/health');
    expect((await health()).body.data.parts.keys.status).toBe('degraded');
    await good(server.api('POST', '/api/keys/recovery-kit'));
    await until(async () => (await health()).body.data.parts.keys.status === 'healthy', 60_000);
  });

  it('has keys whose ids are those of the signatures', () => {
    const [, signer] = fake.objects
      .get(fake.everything.find((key) => key.startsWith(lostIds.installation) && key.endsWith('manifest.json.sig'))!)!
      .body.toString()
      .split(' ');
    expect(kit).toContain(`key ${signer}`);
  });
});

describe('the command line, without a server', () => {
  const kept = () => join(root, 'kept');
  const kitFile = () => join(root, 'recovery-kit.txt');

  beforeAll(() => writeFile(kitFile(), kit));

  /** Runs what is built, as people do. */
  async function backstay(args: string[], env: NodeJS.ProcessEnv = {}) {
    const child = spawn(process.execPath, [join(process.cwd(), 'dist/cli/main.js'), ...args], {
      env: { PATH: process.env['PATH'], ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
    return { code: code as number, out, err, json: args.includes('--json') ? (JSON.parse(out) as Record<string, unknown>) : {} };
  }

  it('lists, proves and restores from a folder with the kit', async () => {
    const listed = await backstay(['inspect', kept(), '--kit', kitFile(), '--json']);
    expect(listed).toMatchObject({ code: 0, json: { ok: true, backups: [{ id: lost.id, trusted: true, source: 'shop' }] } });
    const proven = await backstay(['verify', kept(), '--kit', kitFile(), '--json']);
    expect(proven).toMatchObject({ code: 0, json: { ok: true, provenLevel: 2 } });
    const target = new URL(urlOf(postgres.current.connection('postgres')));
    const password = decodeURIComponent(target.password);
    target.password = '';
    const restored = await backstay(
      ['restore', kept(), '--kit', kitFile(), '--target', String(target), '--new-database', 'shop_by_command'],
      { PGPASSWORD: password },
    );
    expect(restored).toMatchObject({
      code: 0,
      out: expect.stringMatching(/is restored into shop_by_command .* equal the manifest/),
    });
    await assertEqual('shop_by_command');
  }, 300_000);

  it('reads a bucket', async () => {
    const { bucket, endpoint, accessKeyId, secretAccessKey } = fake.config;
    const listed = await backstay(['inspect', `s3://${bucket}?endpoint=${endpoint}`, '--kit', kitFile(), '--json'], {
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
    });
    expect(listed.json['backups']).toContainEqual(expect.objectContaining({ id: lost.id, trusted: true }));
  }, 300_000);

  it('ends with a code that says what is wrong', async () => {
    const codeOf = async (...args: string[]) => (await backstay(args)).code;
    const identity = join(root, 'identity.txt');
    await writeFile(identity, identitiesIn(kit).join(''));
    const signingKey = join(root, 'signing.pem');
    await writeFile(signingKey, keysInText(kit).verifyingKeys.join(''));
    expect(await codeOf()).toBe(0);
    expect(await codeOf('dance', kept())).toBe(2);
    expect(await codeOf('verify', join(root, 'nowhere'))).toBe(2);
    expect(await codeOf('verify', kept(), '--kit', kitFile(), '--backup', 'backup_2020-01-01_00-00-00_aaaaaa')).toBe(3);
    expect(await codeOf('verify', kept(), '--identity', identity)).toBe(4);
    expect(await codeOf('verify', kept(), '--identity', identity, '--trust-unsigned')).toBe(0);
    expect(await codeOf('verify', kept(), '--signing-key', signingKey, '--level', '2')).toBe(6);
    expect(await codeOf('verify', kept(), '--signing-key', signingKey)).toBe(0);
    const nobody = 'postgresql://nobody@127.0.0.1:1/x';
    expect(await codeOf('restore', kept(), '--kit', kitFile(), '--target', nobody)).toBe(8);
  }, 300_000);

  it('takes backups into the catalog of a server that is stopped', async () => {
    const dataDir = join(root, 'by-command');
    const args = ['adopt', kept(), '--kit', kitFile(), '--no-settings', '--json'];
    expect(await backstay(args, { DATA_DIR: dataDir })).toMatchObject({ code: 0, json: { adopted: 1, unread: [] } });
    expect(await backstay(args, { DATA_DIR: dataDir })).toMatchObject({ code: 0, json: { adopted: 0, known: 1 } });
    // Another folder of the same name is another destination.
    const empty = join(root, 'elsewhere', 'kept');
    await mkdir(empty, { recursive: true });
    const none = await backstay(['adopt', empty, '--kit', kitFile(), '--no-settings', '--json'], { DATA_DIR: dataDir });
    expect(none).toMatchObject({ code: 0, json: { found: 0, adopted: 0, known: 0 } });
    const server = await start({ DATA_DIR: dataDir });
    expect(await verify(server, lost.id, 2)).toMatchObject({ status: 'completed', provenLevel: 2 });
  }, 300_000);
});
