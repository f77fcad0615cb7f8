import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { type Readable } from 'node:stream';
import { extract } from 'tar-stream';
import type { BackupDetailsDto } from '../../src/backups/backup.dto.js';
import type { RestorePlanDto } from '../../src/restores/restore.dto.js';
import type { SourceDto, SourceTestDto } from '../../src/sources/source.dto.js';
import { type FakeObject, FakeSupabase } from '../support/fake-supabase.js';
import type { Fault } from '../support/faults.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, ended, good, verify } from '../support/runs.js';
import { TestServer, urlOf } from '../support/server.js';

const postgres = usePostgres();
let server: TestServer;
let project: FakeSupabase;
let other: FakeSupabase;

const LARGE = randomBytes(13 * 1024 * 1024);
/** Names that are no paths, or mean something in a URL. */
const NAMES = ['plain.txt', 'folder/deep/file.bin', 'q?x#y', 'a b+c%20d', '100%', 'ümläut/ñ', '/../', 'a//b', '...', '..a/b..'];

beforeAll(async () => {
  await postgres.current.createSampleDatabase('shop');
  project = await FakeSupabase.start();
  other = await FakeSupabase.start();
  project.makeBucket('avatars', { public: true, file_size_limit: 50_000_000, allowed_mime_types: ['text/plain', 'image/png'] });
  project.makeBucket('empty');
  project.makeBucket('cache');
  for (const name of NAMES) if (!['/../', 'a//b'].includes(name)) project.put('avatars', name, `content of ${name}`);
  project.put('avatars', 'picture.png', LARGE, {
    contentType: 'image/png',
    cacheControl: 'max-age=60',
    metadata: { owner_name: 'Ada', 'odd-key': { deep_er: 1 } },
  });
  project.put('avatars', 'no-cache', '', { cacheControl: 'no-cache' });
  project.put('avatars', 'up/../down', 'no URL can name it');
  project.put('cache', 'thumbnail', 'x');
  server = await TestServer.start({ OUTBOUND_ALLOW: '127.0.0.1' });
  await good(server.api('POST', '/api/sources', { ...sourceBody(), excludeBuckets: ['cache'] }));
});
afterEach(() => {
  project.heal();
  other.heal();
  other.buckets.clear();
});
afterAll(async () => {
  await server?.stop();
  await project?.stop();
  await other?.stop();
});

const sourceBody = () => ({
  name: 'project',
  kind: 'supabase',
  url: urlOf(postgres.current.connection('shop')),
  supabaseUrl: project.url,
  serviceRoleKey: project.serviceRoleKey,
});
const details = (id: string) => good(server.api<BackupDetailsDto>('GET', `/api/backups/${id}/details`));
const contents = ({ buckets }: FakeSupabase, without: string[] = []) =>
  [...buckets]
    .filter(([name]) => !without.includes(name))
    .map(([name, { objects, ...settings }]) => ({
      name,
      ...settings,
      objects: [...objects]
        .filter(([key]) => key !== 'up/../down')
        .map(about)
        .sort(),
    }))
    .sort((a, b) => a.name.localeCompare(b.name));
const about = ([key, { body, contentType, cacheControl, metadata }]: [string, FakeObject]) =>
  JSON.stringify([key, body.toString('base64'), contentType, cacheControl, metadata]);
const restore = (id: string, target: object, more: object = {}) =>
  server.api<{ id: string }>('POST', `/api/backups/${id}/restore`, { components: ['storage'], target, ...more });
const elsewhere = () => ({ mode: 'url', url: other.url, serviceRoleKey: other.serviceRoleKey });

describe('a Supabase project as a source', () => {
  it('is shown without its key, tested, and not led to another address with it', async () => {
    const shown = await good(server.api<SourceDto>('GET', '/api/sources/project'));
    expect(shown).toMatchObject({
      kind: 'supabase',
      supabaseUrl: project.url,
      hasServiceRoleKey: true,
      excludeBuckets: ['cache'],
    });
    const rows = await server.foundation.catalog.db.selectFrom('sources').selectAll().execute();
    expect(JSON.stringify([shown, rows])).not.toContain(project.serviceRoleKey);
    const test = () => good(server.api<SourceTestDto>('POST', '/api/sources/project/test'));
    expect(await test()).toMatchObject({ ok: true, bucketCount: 3, problems: [] });
    project.fail('denied', /^listBuckets$/);
    expect(await test()).toMatchObject({
      ok: false,
      bucketCount: null,
      problems: [expect.stringMatching(/access was denied.*service role key/)],
    });
    const moved = await server.api('PUT', '/api/sources/project', { supabaseUrl: other.url });
    expect(moved.body).toMatchObject({ fields: { serviceRoleKey: expect.stringMatching(/again/) } });
    expect((await server.api('PUT', '/api/sources/project', { excludeBuckets: ['cache'] })).status).toBe(200);
  });

  it('needs its URL and key, and no other kind has them', async () => {
    const refused = async (body: object) =>
      (await server.api('POST', '/api/sources', { ...sourceBody(), name: 'x', ...body })).body;
    expect(await refused({ serviceRoleKey: undefined })).toMatchObject({ fields: { serviceRoleKey: expect.anything() } });
    expect(await refused({ supabaseUrl: 'http://10.0.0.1' })).toMatchObject({
      fields: { supabaseUrl: expect.stringMatching(/OUTBOUND_ALLOW/) },
    });
    expect(await refused({ kind: 'postgres' })).toMatchObject({
      fields: { supabaseUrl: expect.stringMatching(/kind supabase/) },
    });
  });
});

describe('a backup of a project', () => {
  let id: string;
  const objects = NAMES.length; // less the two that are left out, and with two more
  it('takes every bucket and object along, counts them, and says what it left out', async () => {
    const backup = await backUp(server, { source: 'project' });
    id = backup.id;
    expect(backup).toMatchObject({ status: 'completed', error: null, components: ['database', 'storage', 'config'] });
    const found = await details(id);
    expect(found.artifacts.map(({ name }) => name)).toContain('storage.tar.zst.age');
    const bytes = [...project.buckets.get('avatars')!.objects].reduce(
      (sum, [key, { body }]) => sum + (key === 'up/../down' ? 0 : body.length),
      0,
    );
    expect(found.storage).toEqual({ buckets: 2, objects, bytes });
    expect(found.omissions).toEqual(
      expect.arrayContaining([
        { schema: 'storage', name: 'cache', kind: 'bucket', reason: 'excluded by the source' },
        { schema: 'storage', name: 'avatars/up/../down', kind: 'object', reason: 'no URL can name it' },
      ]),
    );
    expect(await verify(server, id)).toMatchObject({ status: 'completed', provenLevel: 2 });
  });

  it('is a tar that others can read, with names that stay where it is unpacked', async () => {
    const download = await server.request('GET', `/api/backups/${id}/download?component=storage&form=decrypted`);
    const tar = extract();
    tar.end(download.bytes);
    const names: string[] = [];
    for await (const entry of tar as AsyncIterable<Readable & { header: { name: string } }>) {
      names.push(entry.header.name);
      entry.resume();
    }
    expect(names[0]).toBe('buckets.json');
    expect(names).toContain('objects/avatars/q%3Fx%23y');
    expect(names.flatMap((name) => name.split('/')).filter((part) => /^\.*$/.test(part))).toEqual([]);
  });

  it('is restored into an empty project, equal in bytes, settings and metadata', async () => {
    const plan = await good(
      server.api<RestorePlanDto>('POST', `/api/backups/${id}/restore`, {
        components: ['storage'],
        target: elsewhere(),
        dryRun: true,
      }),
    );
    expect(plan).toMatchObject({ ok: true, objects: { BUCKET: 2, OBJECT: objects } });
    expect(other.buckets.size).toBe(0);
    const run = await good(restore(id, elsewhere()));
    expect(await ended(server, run.id)).toMatchObject({
      status: 'completed',
      countsEqual: true,
      components: ['storage'],
      warnings: [],
    });
    expect(contents(other)).toEqual(contents(project, ['cache']));
    expect(JSON.stringify(await server.foundation.catalog.db.selectFrom('restores').selectAll().execute())).not.toContain(
      other.serviceRoleKey,
    );
    // Once more: what is there with the same bytes stays.
    const again = await good(restore(id, elsewhere()));
    expect(await ended(server, again.id)).toMatchObject({ status: 'completed', countsEqual: true });
  });

  it('never overwrites in another project, and takes back what it has put there', async () => {
    other.makeBucket('avatars', { public: false });
    other.put('avatars', 'picture.png', 'mine');
    const run = await good(restore(id, elsewhere()));
    expect(await ended(server, run.id)).toMatchObject({ status: 'failed', error: { code: 'TARGET_NOT_EMPTY' } });
    expect(other.everything).toEqual(['avatars/picture.png']);
    expect(String(other.buckets.get('avatars')!.objects.get('picture.png')!.body)).toBe('mine');
  });

  it('is not restored from another manifest than the one that the catalog knows', async () => {
    const { db } = server.foundation.catalog;
    const { manifest_sha256: known } = await db
      .selectFrom('backups')
      .select('manifest_sha256')
      .where('id', '=', id)
      .executeTakeFirstOrThrow();
    const note = (sha256: string | null) =>
      db.updateTable('backups').set({ manifest_sha256: sha256 }).where('id', '=', id).execute();
    await note('f'.repeat(64));
    const before = other.everything;
    expect(await restore(id, elsewhere())).toMatchObject({
      status: 422,
      body: { error: expect.stringMatching(/another one .* than the one that was written/) },
    });
    expect(other.everything).toEqual(before);
    await note(known);
  });

  it('is put back in place after a safety backup: lost and changed objects return, new ones stay', async () => {
    const before = contents(project);
    project.buckets.get('avatars')!.objects.delete('q?x#y');
    project.put('avatars', 'plain.txt', 'changed');
    project.put('avatars', 'new.txt', 'new');
    const unconfirmed = await restore(id, { mode: 'in-place', confirm: 'other' });
    expect(unconfirmed.body).toMatchObject({ fields: { 'target.confirm': expect.anything() } });
    const run = await good(restore(id, { mode: 'in-place', confirm: 'project' }));
    expect(await ended(server, run.id)).toMatchObject({
      status: 'completed',
      countsEqual: true,
      safetyBackupId: expect.any(String),
    });
    expect(String(project.buckets.get('avatars')!.objects.get('new.txt')!.body)).toBe('new');
    project.buckets.get('avatars')!.objects.delete('new.txt');
    expect(contents(project)).toEqual(before);
  });

  it.each<[Fault, RegExp]>([
    ['pretend', /^upload$/],
    ['denied', /^sendPart$/],
    ['clockSkew', /^createBucket$/],
  ])('is never restored by a project where %s lasts at %s', async (fault, operation) => {
    other.fail(fault, operation);
    const run = await good(restore(id, elsewhere()));
    expect(await ended(server, run.id)).toMatchObject({
      status: 'failed',
      error: { code: expect.stringMatching(/^(STORE_FAILED|RESTORE_FAILED)$/), hint: expect.stringMatching(/^[A-Z].+\.$/) },
    });
    expect(other.everything).toEqual([]);
  });

  it('refuses what does not belong to it', async () => {
    const refused = async (target: object, more: object = {}) => (await restore(id, target, more)).body;
    expect(await refused({ mode: 'swap' })).toMatchObject({ fields: { 'target.mode': expect.anything() } });
    expect(await refused({ mode: 'url', url: other.url })).toMatchObject({
      fields: { 'target.serviceRoleKey': expect.anything() },
    });
    expect(await refused({ ...elsewhere(), url: 'http://10.0.0.1' })).toMatchObject({
      fields: { 'target.url': expect.anything() },
    });
    expect(await refused(elsewhere(), { tables: ['users'] })).toMatchObject({ fields: { tables: expect.anything() } });
    expect(await refused(elsewhere(), { components: ['database', 'storage'] })).toMatchObject({
      fields: { components: expect.anything() },
    });
  });
});

describe('a backup of a project that misbehaves', () => {
  it.each<[Fault, RegExp, number]>([
    ['error500', /^download$/, 1],
    ['cut', /^download$/, 2],
    ['reset', /^info$/, 1],
    ['slowDown', /^listV2$/, 1],
  ])('gets over %s at %s', async (fault, operation, times) => {
    project.fail(fault, operation, { times, after: 2 });
    const backup = await backUp(server, { source: 'project' });
    expect(backup).toMatchObject({ status: 'completed', error: null });
    expect((await details(backup.id)).storage).toMatchObject({ objects: NAMES.length });
  });

  it.each<[Fault, RegExp, RegExp]>([
    ['denied', /^download$/, /access was denied/],
    ['clockSkew', /^listBuckets$/, /clock/],
  ])('fails with a clear cause when %s lasts at %s', async (fault, operation, sentence) => {
    project.fail(fault, operation);
    const backup = await backUp(server, { source: 'project' });
    expect(backup).toMatchObject({ status: 'failed', error: { code: 'STORE_FAILED', message: expect.stringMatching(sentence) } });
  });

  it('leaves out what is removed while it is read', async () => {
    project.fail('missing', /^info$/, { times: 1, after: 3 });
    const backup = await backUp(server, { source: 'project' });
    expect(backup).toMatchObject({ status: 'completed', error: null });
    expect((await details(backup.id)).storage).toMatchObject({ objects: NAMES.length - 1 });
  });
});
