import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { FakeS3 } from '../../../test/support/fake-s3.js';
import type { Fault } from '../../../test/support/faults.js';
import { describeStoreContract } from '../../../test/support/store-contract.js';
import { readAll } from './read-all.js';
import { S3Store } from './s3-store.js';

let fake: FakeS3;
beforeAll(async () => {
  fake = await FakeS3.start();
});
afterAll(() => fake.stop());
const reset = () => {
  fake.heal();
  fake.objects.clear();
  fake.uploads.clear();
  fake.calls.length = 0;
};

describeStoreContract('an S3 bucket', async () => {
  reset();
  return {
    store: new S3Store({ ...fake.config, prefix: 'below', partMiB: 5, timeoutMs: 20_000 }),
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
