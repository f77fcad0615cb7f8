import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { until } from '../../../test/support/until.js';
import { LocalStore } from './local-store.js';
import { S3Store } from './s3-store.js';
import { readSegments, removeSegments, renameSegments, storedBytes, writeSegments } from './segments.js';

const MOST = 100_000;
const GIB = 1024 ** 3;

/** A folder that takes small objects only. */
class Narrow extends LocalStore {
  override get mostObjectBytes(): number {
    return MOST;
  }
}

let root: string;
let store: Narrow;
beforeEach(async () => {
  root = await mkdtemp(path.join(os.tmpdir(), 'backstay-segments-'));
  store = new Narrow(root);
});
afterEach(() => rm(root, { recursive: true, force: true }));

const bodyOf = (content: Buffer, step = 7001) =>
  Readable.from(
    (function* () {
      for (let at = 0; at < content.length; at += step) yield content.subarray(at, at + step);
    })(),
  );
const write = (content: Buffer, to = store) => writeSegments(to, 'a/b', bodyOf(content));
async function names(): Promise<[string, number][]> {
  const found: [string, number][] = [];
  for await (const { key, bytes } of store.list('')) found.push([key, bytes]);
  return found.sort();
}
async function read(total: number, range = {}): Promise<Buffer> {
  return Buffer.concat((await (await readSegments(store, 'a/b', total, range)).toArray()) as Buffer[]);
}

describe('what is too large for a store', () => {
  it.each([
    [0, [['a/b', 0]]],
    [MOST - 1, [['a/b', MOST - 1]]],
    [MOST, [['a/b', MOST]]],
    [
      MOST + 1,
      [
        ['a/b', MOST],
        ['a/b.0002', 1],
      ],
    ],
    [
      3 * MOST,
      [
        ['a/b', MOST],
        ['a/b.0002', MOST],
        ['a/b.0003', MOST],
      ],
    ],
  ])('as %d bytes lies there in equal pieces that are the whole together', async (size, expected) => {
    const content = randomBytes(size);
    expect(await write(content)).toEqual({ bytes: size });
    expect(await names()).toEqual(expected);
    expect(await storedBytes(store, 'a/b', size)).toBe(size);
    expect((await read(size)).equals(content)).toBe(true);
    expect((await read(Infinity)).equals(content)).toBe(true);
  });

  it('is whole at a store that takes it so', async () => {
    const wide = new LocalStore(root);
    const content = randomBytes(2 * MOST + 5);
    await writeSegments(wide, 'a/b', bodyOf(content));
    expect(await names()).toEqual([['a/b', content.length]]);
    expect((await read(content.length)).equals(content)).toBe(true);
  });

  it.each([
    [0, 0],
    [MOST - 10, MOST + 10],
    [MOST, 2 * MOST - 1],
    [5, 3 * MOST],
    [2 * MOST + 1, 2 * MOST + 1],
    [3 * MOST, 9 * MOST],
  ])('gives the range from %d to %d', async (start, end) => {
    const content = randomBytes(3 * MOST + 17);
    await write(content);
    expect((await read(content.length, { start, end })).equals(content.subarray(start, end + 1))).toBe(true);
  });

  it('gets another key as a whole, and goes as a whole', async () => {
    const content = randomBytes(2 * MOST + 5);
    await write(content);
    await renameSegments(store, 'a/b', 'c/d', content.length);
    expect((await names()).map(([key]) => key)).toEqual(['c/d', 'c/d.0002', 'c/d.0003']);
    await renameSegments(store, 'c/d', 'a/b', content.length);
    expect((await read(content.length)).equals(content)).toBe(true);
    await removeSegments(store, 'a/b');
    expect(await names()).toEqual([]);
  });

  it('leaves nothing when its body fails in a later piece', async () => {
    const body = async function* () {
      yield randomBytes(2 * MOST + 5);
      throw new Error('the body broke');
    };
    await expect(writeSegments(store, 'a/b', Readable.from(body()))).rejects.toThrow('the body broke');
    expect(await names()).toEqual([]);
  });

  it('leaves nothing when it is canceled in a later piece', async () => {
    const cancel = new AbortController();
    const body = new PassThrough();
    const writing = writeSegments(store, 'a/b', body, { signal: cancel.signal });
    body.write(randomBytes(2 * MOST + 5));
    await until(async () => (await names()).some(([key]) => key === 'a/b.0002'));
    cancel.abort(new Error('canceled'));
    await expect(writing).rejects.toThrow('canceled');
    expect(await names()).toEqual([]);
  });

  it('is short where a piece is missing or cut, which the hash of the whole tells, and is no object without the first', async () => {
    const content = randomBytes(3 * MOST);
    await write(content);
    await truncate(path.join(root, 'a/b.0003'), 10);
    expect(await storedBytes(store, 'a/b', content.length)).toBe(2 * MOST + 10);
    await store.remove('a/b.0002');
    expect(await storedBytes(store, 'a/b', content.length)).toBe(MOST);
    expect((await read(content.length)).length).toBe(MOST);
    await store.remove('a/b');
    expect(await storedBytes(store, 'a/b', content.length)).toBeNull();
    await expect(readSegments(store, 'a/b', content.length)).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
    await expect(readSegments(store, 'a/b', content.length, { start: 5 })).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  });
});

describe('a bucket', () => {
  const most = (config: object) => new S3Store({ bucket: 'b', ...config }).mostObjectBytes;

  it('gets objects of a thousand parts, so that 5 TB of any part size fit in fewer than 10,000 of them', () => {
    expect(most({})).toBe(1000 * 16 * 1024 ** 2);
    expect(most({ partMiB: 5 })).toBe(1000 * 5 * 1024 ** 2);
    expect((5 * 1024 * GIB) / most({ partMiB: 5 })).toBeLessThan(10_000);
  });

  it('gets those that it is said to take, up to 10,000 parts', () => {
    expect(most({ segmentMiB: 10 })).toBe(10 * 1024 ** 2);
    expect(most({ segmentMiB: 5 * 1024 ** 2, partMiB: 16 })).toBe(10_000 * 16 * 1024 ** 2);
  });
});
