import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { FakeS3 } from '../../../test/support/fake-s3.js';
import type { Fault } from '../../../test/support/faults.js';
import { describeStoreContract } from '../../../test/support/store-contract.js';
import { readAll } from './read-all.js';
import { S3Store } from './s3-store.js';
import { lockSegments } from './segments.js';

let fake: FakeS3;
beforeAll(async () => {
  fake = await FakeS3.start();
});
afterAll(() => fake.stop());
const reset = () => {
  fake.heal();
  fake.empty();
  fake.lock = 'none';
  fake.defaultRetentionMs = null;
  fake.aheadMs = 0;
};

describeStoreContract('an S3 bucket', async () => {
  reset();
  return {
    store: new S3Store({ ...fake.config, prefix: 'below', partMiB: 5, timeoutMs: 20_000 }),
    everything: async () => fake.everything.map((name) => name.replace('below/', '')),
    close: async () => undefined,
  };
});

describeStoreContract('an S3 bucket that keeps versions, and locks them', async () => {
  reset();
  fake.lock = 'honest';
  return {
    store: new S3Store({ ...fake.config, prefix: 'below', partMiB: 5, timeoutMs: 20_000, objectLock: 'compliance' }),
    everything: async () => fake.everything.map((name) => name.replace('below/', '')),
    close: async () => undefined,
  };
});

describe('an S3 bucket as a store', () => {
  let store: S3Store;
  const large = randomBytes(12 * 1024 * 1024);
  beforeEach(() => {
    reset();
    store = new S3Store({ ...fake.config, partMiB: 5, timeoutMs: 1_500, maxAttempts: 3 });
  });
  const inPieces = async function* (content: Buffer) {
    for (let at = 0; at < content.length; at += 700_001) yield content.subarray(at, at + 700_001);
  };

  it('sends large objects in equal parts and gives them back', async () => {
    expect(await store.write('a/large', inPieces(large))).toEqual({ bytes: large.length });
    expect(fake.calls.filter((call) => call.startsWith('UploadPart '))).toHaveLength(3);
    expect((await readAll(store, 'a/large', large.length)).equals(large)).toBe(true);
    expect(fake.everything).toEqual(['a/large']);
  });

  it.each<[Fault, string]>([
    ['error500', 'UploadPart'],
    ['slowDown', 'UploadPart'],
    ['reset', 'UploadPart'],
    ['hang', 'UploadPart'],
    ['twice', 'UploadPart'],
    ['lostAnswer', 'UploadPart'],
    ['error500', 'CreateMultipartUpload'],
    ['error500', 'CompleteMultipartUpload'],
    ['lostAnswer', 'CompleteMultipartUpload'],
    ['lostAnswer', 'HeadObject'],
  ])('gets over one %s at %s', async (fault, operation) => {
    fake.fail(fault, new RegExp(`^${operation}$`), { times: 1 });
    await store.write('large', inPieces(large));
    expect((await readAll(store, 'large', large.length)).equals(large)).toBe(true);
    expect(fake.everything).toEqual(['large']);
  });

  it.each<[Fault, RegExp]>([
    ['error500', /failed with 500/],
    ['slowDown', /slow down/],
    ['denied', /access was denied/],
    ['missing', /no such bucket/],
    ['reset', /did not answer/],
    ['hang', /did not answer/],
    ['clockSkew', /clock/],
  ])('says what is wrong when %s lasts, leaves nothing, and works when it ends', async (fault, sentence) => {
    fake.fail(fault, /^(UploadPart|CompleteMultipartUpload)$/);
    await expect(store.write('large', inPieces(large))).rejects.toMatchObject({
      code: 'STORE_FAILED',
      message: expect.stringMatching(sentence),
      hint: expect.stringMatching(/^[A-Z].+\.$/),
    });
    expect(fake.everything).toEqual([]);
    fake.heal();
    await store.write('large', inPieces(large));
    expect(fake.everything).toEqual(['large']);
  });

  describe('with an object too large to be copied by one call', () => {
    const MIB = 1024 * 1024;
    beforeEach(async () => {
      store = new S3Store({
        ...fake.config,
        partMiB: 5,
        timeoutMs: 1_500,
        maxAttempts: 3,
        mostCopiedBytes: 6 * MIB,
        copiedPartBytes: 5 * MIB,
      });
      await store.write('from', inPieces(large));
      fake.calls.length = 0;
    });

    it('copies it in parts inside the store, byte for byte', async () => {
      await store.rename('from', 'to');
      expect(fake.calls.filter((call) => call.startsWith('UploadPartCopy '))).toHaveLength(3);
      expect(fake.calls.filter((call) => /^(CopyObject|GetObject|UploadPart) /.test(call))).toEqual([]);
      expect((await readAll(store, 'to', large.length)).equals(large)).toBe(true);
      expect(fake.everything).toEqual(['to']);
    });

    it.each<[Fault, string]>([
      ['error500', 'UploadPartCopy'],
      ['lostAnswer', 'UploadPartCopy'],
      ['lostAnswer', 'CompleteMultipartUpload'],
    ])('gets over one %s at %s', async (fault, operation) => {
      fake.fail(fault, new RegExp(`^${operation}$`), { times: 1 });
      await store.rename('from', 'to');
      expect((await readAll(store, 'to', large.length)).equals(large)).toBe(true);
      expect(fake.everything).toEqual(['to']);
    });

    it('leaves the original alone, and no upload, where a part can not be copied', async () => {
      fake.fail('denied', /^UploadPartCopy$/, { after: 1 });
      await expect(store.rename('from', 'to')).rejects.toMatchObject({
        code: 'STORE_FAILED',
        message: expect.stringMatching(/access was denied/),
      });
      expect(fake.everything).toEqual(['from']);
    });
  });

  it('notices a store that says yes and does nothing', async () => {
    fake.fail('pretend', /^PutObject$/);
    await expect(store.check()).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  });

  it('takes the answer to a small write that was lost for what it was', async () => {
    fake.fail('lostAnswer', /^PutObject$/, { times: 1 });
    await store.write('small', [Buffer.from('x')]);
    expect(String(await readAll(store, 'small', 1))).toBe('x');
  });

  it('reads on where an answer was cut', async () => {
    await store.write('large', inPieces(large));
    fake.fail('cut', /^GetObject$/, { times: 3 });
    expect((await readAll(store, 'large', large.length)).equals(large)).toBe(true);
  });

  it('gives up reading when every answer is cut before its first byte, or refused', async () => {
    await store.write('small', [Buffer.from('x')]);
    fake.fail('cut', /^GetObject$/);
    await expect(readAll(store, 'small', 1)).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });

  it('never takes a changed object for the rest of the one it was reading', async () => {
    await store.write('large', inPieces(large));
    fake.fail('cut', /^GetObject$/, { times: 1 });
    const stream = await store.read('large');
    await store.write('large', inPieces(randomBytes(large.length)), { overwrite: true });
    await expect(
      (async () => {
        for await (const _ of stream);
      })(),
    ).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });

  it('ends uploads that nobody completed, in one sweep', async () => {
    fake.fail('denied', /^(UploadPart|AbortMultipartUpload)$/);
    await expect(store.write('a/large', inPieces(large))).rejects.toMatchObject({ code: 'STORE_FAILED' });
    expect(fake.everything).toEqual(['upload of a/large']);
    fake.heal();
    expect(await store.removeStaleTemporaries(60_000, 'a')).toBe(0);
    expect(await store.removeStaleTemporaries(0, 'b')).toBe(0);
    expect(await store.removeStaleTemporaries(-1_000, 'a')).toBe(1);
    expect(fake.everything).toEqual([]);
  });
});

describe('an S3 bucket whose objects can be locked', () => {
  const DAY_MS = 86_400_000;
  // One moment for the whole file: two looks at the clock may have a second between them.
  const now = Math.ceil(Date.now() / 1000) * 1000;
  const inDays = (days: number) => new Date(now + days * DAY_MS);
  let store: S3Store;
  beforeEach(async () => {
    reset();
    fake.lock = 'honest';
    store = new S3Store({ ...fake.config, objectLock: 'compliance', timeoutMs: 1_500, maxAttempts: 3 });
    await store.write('a/kept', [Buffer.from('kept')]);
  });

  it('gives up no locked object until the lock has lapsed, and then all its versions', async () => {
    await store.lock('a/kept', inDays(1));
    expect(await store.lockedUntil('a/kept')).toEqual(inDays(1));
    expect(fake.locks['a/kept']).toEqual({ mode: 'COMPLIANCE', until: inDays(1) });
    const refusal = { code: 'OBJECT_LOCKED', message: expect.stringContaining(inDays(1).toISOString()) };
    await expect(store.remove('a/kept')).rejects.toMatchObject(refusal);
    await expect(store.removeTree('a')).rejects.toMatchObject(refusal);
    await store.write('a/kept', [Buffer.from('other')], { overwrite: true });
    expect(fake.versions.get('a/kept')?.map(({ stored }) => String(stored?.body))).toEqual(['kept', 'other']);
    fake.aheadMs = 2 * DAY_MS;
    await store.removeTree('a');
    expect(fake.everything).toEqual([]);
  });

  it('locks every segment of what is cut', async () => {
    const keys = ['a/cut', 'a/cut.0002', 'a/cut.0003', 'a/cut.0005'];
    for (const key of keys) await store.write(key, [Buffer.from(key)]);
    await lockSegments(store, 'a/cut', inDays(1));
    const locked = await Promise.all(keys.map(async (key) => (await store.lockedUntil(key)) !== null));
    expect(locked).toEqual([true, true, true, false]);
  });

  it('leaves a longer lock as it is, and lengthens a shorter one', async () => {
    await store.lock('a/kept', inDays(2));
    await store.lock('a/kept', inDays(1));
    expect(await store.lockedUntil('a/kept')).toEqual(inDays(2));
    await store.lock('a/kept', inDays(3));
    expect(await store.lockedUntil('a/kept')).toEqual(inDays(3));
  });

  it('says that a lock was taken and forgotten, and that there is nothing to lock', async () => {
    fake.lock = 'forgetful';
    await expect(store.lock('a/kept', inDays(1))).rejects.toMatchObject({
      code: 'STORE_FAILED',
      message: expect.stringMatching(/does not show it/),
    });
    await expect(store.lock('a/none', inDays(1))).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
    expect(await store.lockedUntil('a/none')).toBeNull();
  });

  it.each([
    ['none', /keeps no versions/],
    ['versions', /refuses to lock an object \(InvalidRequest\)/],
    ['forgetful', /removes the locked object all the same/],
    ['toothless', /removes the locked object all the same/],
  ] as const)('finds out what a bucket makes of locks that is %s', async (lock, obstacle) => {
    fake.empty();
    fake.lock = lock;
    expect(await store.probeLock('canary')).toEqual({ holds: false, obstacle: expect.stringMatching(obstacle) });
    expect(fake.everything).toEqual([]);
  });

  it('finds out that locks hold, by the clock of the store, and leaves no canary', async () => {
    fake.empty();
    fake.aheadMs = 300_000;
    expect(await store.probeLock('canary')).toEqual({ holds: true, obstacle: null });
    expect(fake.everything).toEqual([]);
  });

  it('finds out what stands in the way of locks that hold', async () => {
    fake.defaultRetentionMs = DAY_MS;
    expect(await store.probeLock('canary')).toEqual({ holds: true, obstacle: expect.stringMatching(/default retention/) });
    fake.defaultRetentionMs = null;
    fake.fail('denied', /^DeleteObject$/);
    expect(await store.probeLock('other')).toEqual({ holds: false, obstacle: expect.stringMatching(/s3:DeleteObjectVersion/) });
  });
});
