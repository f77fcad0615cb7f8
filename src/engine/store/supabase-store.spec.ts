import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { FakeSupabase } from '../../../test/support/fake-supabase.js';
import type { Fault } from '../../../test/support/faults.js';
import { describeStoreContract } from '../../../test/support/store-contract.js';
import { readAll } from './read-all.js';
import { SupabaseStore } from './supabase-store.js';

let fake: FakeSupabase;
beforeAll(async () => {
  fake = await FakeSupabase.start();
});
afterAll(() => fake.stop());
const reset = () => {
  fake.heal();
  fake.buckets.clear();
  fake.uploads.clear();
  fake.calls.length = 0;
};

describeStoreContract('a Supabase bucket', async () => {
  reset();
  return {
    store: new SupabaseStore({ ...fake.config, prefix: 'below', timeoutMs: 20_000, firstPauseMs: 10 }),
    everything: async () => fake.everything.map((name) => name.replace('backups/below/', '')),
    close: async () => undefined,
  };
});

describe('a Supabase bucket as a store', () => {
  let store: SupabaseStore;
  const PART = 6 * 1024 * 1024;
  const large = randomBytes(2 * PART + 5);
  beforeEach(() => {
    reset();
    store = new SupabaseStore({ ...fake.config, timeoutMs: 1_500, maxAttempts: 3, firstPauseMs: 10 });
  });
  const inPieces = async function* (content: Buffer) {
    for (let at = 0; at < content.length; at += 700_001) yield content.subarray(at, at + 700_001);
  };

  it('makes its bucket, private, and refuses one that is public', async () => {
    await store.write('a', [Buffer.from('x')]);
    expect(fake.buckets.get('backups')).toMatchObject({ public: false });
    fake.makeBucket('open', { public: true });
    const open = new SupabaseStore({ ...fake.config, bucket: 'open' });
    await expect(open.write('a', [Buffer.from('x')])).rejects.toMatchObject({
      code: 'STORE_FAILED',
      message: expect.stringMatching(/is public/),
    });
  });

  it.each([PART + 1, 2 * PART, 3 * PART - 1])('sends %d bytes in resumable parts and gives them back', async (size) => {
    const content = large.subarray(0, size);
    expect(await store.write('a/large', inPieces(content))).toEqual({ bytes: content.length });
    expect(fake.calls.filter((call) => call === 'sendPart 204')).toHaveLength(Math.ceil(content.length / PART));
    expect((await readAll(store, 'a/large', size)).equals(content)).toBe(true);
    expect(fake.everything).toEqual(['backups/a/large']);
  });

  it.each<[Fault, string]>([
    ['error500', 'sendPart'],
    ['slowDown', 'sendPart'],
    ['reset', 'sendPart'],
    ['hang', 'sendPart'],
    ['lostAnswer', 'sendPart'],
    ['error500', 'beginUpload'],
    ['error500', 'info'],
    ['reset', 'createBucket'],
    ['lostAnswer', 'createBucket'],
  ])('gets over one %s at %s', async (fault, operation) => {
    for (const after of operation === 'sendPart' ? [0, 1] : [0]) {
      fake.fail(fault, new RegExp(`^${operation}$`), { times: 1, after });
      await store.write('large', inPieces(large), { overwrite: true });
      expect((await readAll(store, 'large', large.length)).equals(large)).toBe(true);
      expect(fake.everything).toEqual(['backups/large']);
    }
  });

  it('is not done when the store took the last part and lost the object', async () => {
    fake.makeBucket('backups');
    const writing = store.write('large', inPieces(large));
    fake.fail('missing', /^info$/, { after: 1 });
    await expect(writing).rejects.toMatchObject({ code: 'STORE_FAILED', message: expect.stringMatching(/no object of them/) });
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
    for (const content of [large, Buffer.from('small')]) {
      fake.fail(fault, /^(sendPart|beginUpload|upload)$/);
      await expect(store.write('it', inPieces(content))).rejects.toMatchObject({
        code: 'STORE_FAILED',
        message: expect.stringMatching(sentence),
        hint: expect.stringMatching(/^[A-Z].+\.$/),
      });
      expect(fake.everything).toEqual([]);
      fake.heal();
      await store.write('it', inPieces(content));
      expect(fake.everything).toEqual(['backups/it']);
      await store.remove('it');
    }
  });

  it('says that the project takes no file as large', async () => {
    fake.fileSizeLimit = PART + 1;
    await expect(store.write('large', inPieces(large))).rejects.toMatchObject({ hint: expect.stringMatching(/file size limit/) });
    expect(fake.everything).toEqual([]);
  });

  it('says that the key is wrong', async () => {
    const stranger = new SupabaseStore({ ...fake.config, serviceRoleKey: 'other' });
    await expect(stranger.check()).rejects.toMatchObject({ message: expect.stringMatching(/key was refused/) });
  });

  it('notices a store that says yes and does nothing', async () => {
    fake.fail('pretend', /^upload$/);
    await expect(store.check()).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  });

  it('takes lost answers to a small write and to a move for what they were', async () => {
    fake.fail('lostAnswer', /^(upload|move)$/, { times: 1 });
    await store.write('small', [Buffer.from('x')]);
    fake.fail('lostAnswer', /^move$/, { times: 1 });
    await store.rename('small', 'moved');
    expect(String(await readAll(store, 'moved', 1))).toBe('x');
    expect(fake.everything).toEqual(['backups/moved']);
  });

  it('moves what is too large to be moved by the store itself', async () => {
    const small = new SupabaseStore({ ...fake.config, mostMovedBytes: 10 });
    await small.write('large', inPieces(large));
    await small.rename('large', 'moved');
    expect(fake.calls.filter((call) => call.startsWith('move'))).toEqual([]);
    expect((await readAll(small, 'moved', large.length)).equals(large)).toBe(true);
    expect(fake.everything).toEqual(['backups/moved']);
  });

  it('reads on where an answer was cut, and gives up when none comes whole', async () => {
    await store.write('large', inPieces(large));
    fake.fail('cut', /^download$/, { times: 3 });
    expect((await readAll(store, 'large', large.length)).equals(large)).toBe(true);
    await store.write('small', [Buffer.from('x')]);
    fake.fail('cut', /^download$/);
    await expect(readAll(store, 'small', 1)).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });

  it('never takes a changed object for the rest of the one it was reading', async () => {
    await store.write('large', inPieces(large));
    fake.fail('cut', /^download$/, { times: 1 });
    const stream = await store.read('large');
    await store.write('large', inPieces(randomBytes(large.length)), { overwrite: true });
    const reading = (async () => {
      for await (const _ of stream);
    })();
    await expect(reading).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });
});
