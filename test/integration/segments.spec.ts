import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { BackupDetailsDto } from '../../src/backups/backup.dto.js';
import { BackupTrash } from '../../src/backups/backup-trash.js';
import { CopyRepair } from '../../src/backups/copy-repair.js';
import { FakeS3 } from '../support/fake-s3.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, createRestore, ended, good, type Run, verify } from '../support/runs.js';
import { TestServer, urlOf } from '../support/server.js';

const MIB = 1024 * 1024;
const SEGMENT = 10 * MIB;
const DUMP = 'database.dump.age';

const postgres = usePostgres();
let server: TestServer;
let fake: FakeS3;
let backup: Run;

beforeAll(async () => {
  await postgres.current.createDatabase('shop');
  await postgres.current.exec(
    'shop',
    `CREATE TABLE t (body bytea); INSERT INTO t SELECT string_agg(sha512(n::text::bytea), ''::bytea) FROM generate_series(1, 190000) n GROUP BY n % 500`,
  );
  fake = await FakeS3.start();
  // Five MiB each: no object can be larger than a segment.
  fake.mostParts = 2;
  server = await TestServer.start({ OUTBOUND_ALLOW: '127.0.0.1' });
  await good(server.api('POST', '/api/sources', { name: 'shop', url: urlOf(postgres.current.connection('shop')) }));
  const bucket = { name: 'bucket', kind: 's3', ...fake.config, partMiB: 5, segmentMiB: 10 };
  await good(server.api('POST', '/api/destinations', bucket));
  await good(server.api('POST', '/api/destinations', { name: 'second', kind: 'local', folder: 'second' }));
  backup = await backUp(server, { type: 'database', compress: false, destinations: ['bucket'] });
});
afterEach(() => fake.heal());
afterAll(async () => {
  await server?.stop();
  await fake?.stop();
});

const details = (id: string) => good(server.api<BackupDetailsDto>('GET', `/api/backups/${id}/details`));
const dumpOf = async (id: string) => (await details(id)).artifacts.find(({ name }) => name === DUMP)!;
const keysOf = (id: string) => fake.everything.filter((key) => key.includes(`/${id}/${DUMP}`)).sort();
const bytesOf = (id: string) => keysOf(id).map((key) => fake.objects.get(key)!.body);
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

describe('an artifact that is larger than the objects of its bucket', () => {
  it('lies there in several, which together are what the manifest says', async () => {
    expect(backup).toMatchObject({ status: 'completed', error: null });
    const artifact = await dumpOf(backup.id);
    expect(artifact.storedBytes).toBeGreaterThan(2 * SEGMENT);
    expect(keysOf(backup.id).map((key) => key.split('/').at(-1))).toEqual([DUMP, `${DUMP}.0002`, `${DUMP}.0003`]);
    const pieces = bytesOf(backup.id);
    expect(pieces.slice(0, -1).map(({ length }) => length)).toEqual([SEGMENT, SEGMENT]);
    expect(sha256(Buffer.concat(pieces))).toBe(artifact.storedSha256);
    expect(fake.everything.some((key) => key.includes('.attempt-') || key.startsWith('upload of'))).toBe(false);
  });

  it('is verified, downloaded in whole and in part, and restored', async () => {
    expect(await verify(server, backup.id)).toMatchObject({ status: 'completed', provenLevel: 2 });
    const whole = Buffer.concat(bytesOf(backup.id));
    const path = `/api/backups/${backup.id}/download`;
    expect((await server.request('GET', path)).bytes.equals(whole)).toBe(true);
    const range = { headers: { range: `bytes=${SEGMENT - 5}-${SEGMENT + 4}` } };
    const part = await server.request('GET', path, range);
    expect(part.status).toBe(206);
    expect(part.bytes.equals(whole.subarray(SEGMENT - 5, SEGMENT + 5))).toBe(true);
    const restore = await createRestore(server, backup.id, { mode: 'new-database', database: 'from_segments' });
    expect(await ended(server, restore.id)).toMatchObject({ status: 'completed', countsEqual: true });
  });

  it('is copied to where it was missing, and cut there', async () => {
    fake.fail('denied', /^(PutObject|CreateMultipartUpload)$/);
    const late = await backUp(server, {
      type: 'database',
      compress: false,
      destinations: ['bucket', 'second'],
      quorum: 1,
    });
    expect(late).toMatchObject({ status: 'completed' });
    expect(keysOf(late.id)).toEqual([]);
    fake.heal();
    expect(await server.running.app.get(CopyRepair).repairAll(new Date(Date.now() + 3_600_000))).toBe(1);
    expect(keysOf(late.id)).toHaveLength(3);
    expect(sha256(Buffer.concat(bytesOf(late.id)))).toBe((await dumpOf(late.id)).storedSha256);
  });

  it('is found broken when a bit of a later piece has changed, or the last is gone', async () => {
    const [, second = '', last = ''] = keysOf(backup.id);
    const whole = fake.objects.get(second)!;
    const body = Buffer.from(whole.body);
    body[1000]! ^= 1;
    fake.objects.set(second, { ...whole, body });
    expect(await verify(server, backup.id, 1)).toMatchObject({ status: 'failed', error: { code: 'ARTIFACT_CORRUPT' } });
    fake.objects.set(second, whole);
    const held = fake.objects.get(last)!;
    fake.objects.delete(last);
    expect(await verify(server, backup.id, 1)).toMatchObject({ status: 'failed', error: { code: 'ARTIFACT_CORRUPT' } });
    fake.objects.set(last, held);
    expect(await verify(server, backup.id, 2)).toMatchObject({ status: 'completed', provenLevel: 2 });
  });

  it('leaves nothing of any piece when it is removed, or its run fails', async () => {
    await good(server.api('DELETE', `/api/backups/${backup.id}`));
    await server.foundation.catalog.db
      .updateTable('backups')
      .set({ deleted_at: new Date(0) })
      .where('id', '=', backup.id)
      .execute();
    await server.running.app.get(BackupTrash).empty();
    expect(fake.everything.filter((key) => key.includes(backup.id))).toEqual([]);
    // The second piece is begun, and its first part refused.
    fake.fail('denied', /^UploadPart$/, { after: 2 });
    const failed = await backUp(server, { type: 'database', compress: false, destinations: ['bucket'] });
    expect(failed).toMatchObject({ status: 'failed', error: { code: 'STORE_FAILED' } });
    expect(fake.everything.filter((key) => key.includes(failed.id))).toEqual([]);
  });
});
