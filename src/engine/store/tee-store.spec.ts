import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import type { WriteOptions } from './artifact-store.js';
import { LocalStore } from './local-store.js';
import { readAll } from './read-all.js';
import { TeeStore } from './tee-store.js';

/** A folder that fails after some bytes, or takes none until it is let. */
class Troubled extends LocalStore {
  failAfter = Infinity;
  gate: Promise<void> = Promise.resolve();

  override async write(key: string, body: Readable | AsyncIterable<Buffer> | Iterable<Buffer>, options?: WriteOptions) {
    const { failAfter, gate } = this;
    const troubled = async function* () {
      let bytes = 0;
      for await (const chunk of body as AsyncIterable<Buffer>) {
        await gate;
        bytes += chunk.length;
        if (bytes > failAfter) throw new Error('the destination broke');
        yield chunk;
      }
    };
    return super.write(key, troubled(), options);
  }
}

describe('one body to several destinations', () => {
  let root: string;
  let stores: Troubled[];
  const content = randomBytes(5 * 1024 * 1024);
  const pieces = function* (bytes = content) {
    for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
  };
  const members = () => stores.map((store, i) => ({ id: String(i), store }));
  const stored = async (i: number) => (await readAll(stores[i]!, 'a/b', content.length)).equals(content);
  const filesOf = async (i: number) =>
    (await readdir(path.join(root, String(i)), { recursive: true, withFileTypes: true }).catch(() => []))
      .filter((entry) => entry.isFile())
      .map(({ name }) => name);

  beforeEach(async () => {
    root = await mkdtemp(path.join(os.tmpdir(), 'backstay-tee-'));
    stores = [0, 1, 2].map((i) => new Troubled(path.join(root, String(i))));
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  it('gives each of them every byte', async () => {
    const tee = new TeeStore(members(), 3);
    expect(await tee.write('a/b', pieces())).toEqual({ bytes: content.length });
    expect([await stored(0), await stored(1), await stored(2)]).toEqual([true, true, true]);
    expect(tee.failures.size).toBe(0);
  });

  it('leaves out one that fails in the middle, as long as the quorum is met, and asks it no more', async () => {
    stores[1]!.failAfter = 1_000_000;
    const tee = new TeeStore(members(), 2);
    expect(await tee.write('a/b', pieces())).toEqual({ bytes: content.length });
    expect([...tee.failures.keys()]).toEqual(['1']);
    expect(tee.alive.map(({ id }) => id)).toEqual(['0', '2']);
    expect([await stored(0), await stored(2)]).toEqual([true, true]);
    expect(await filesOf(1)).toEqual([]);
    stores[1]!.failAfter = Infinity;
    await tee.write('a/c', pieces());
    expect(await filesOf(1)).toEqual([]);
  });

  it('throws the cause when too few are left, and leaves nothing at any', async () => {
    stores[1]!.failAfter = 1_000_000;
    const tee = new TeeStore(members(), 3);
    await expect(tee.write('a/b', pieces())).rejects.toThrow('the destination broke');
    expect([await filesOf(0), await filesOf(1), await filesOf(2)]).toEqual([[], [], []]);
  });

  it('takes the failure of the body for the failure of all, and throws what it threw', async () => {
    const broken = function* () {
      yield* pieces(content.subarray(0, 1_000_000));
      throw new Error('the dump broke');
    };
    const tee = new TeeStore(members(), 1);
    await expect(tee.write('a/b', broken())).rejects.toThrow('the dump broke');
    expect([await filesOf(0), await filesOf(1), await filesOf(2)]).toEqual([[], [], []]);
    expect(tee.failures.size).toBe(0);
  });

  it('goes at the pace of the slowest, with little in memory', async () => {
    let open!: () => void;
    stores[2]!.gate = new Promise((resolve) => (open = resolve));
    let given = 0;
    const counted = function* () {
      for (const piece of pieces()) {
        given += piece.length;
        yield piece;
      }
    };
    const writing = new TeeStore(members(), 3).write('a/b', counted());
    let held: number;
    do {
      held = given;
      for (let turns = 0; turns < 50; turns += 1) await new Promise(setImmediate);
    } while (given !== held);
    open();
    await writing;
    expect(held).toBeLessThan(4 * 1024 * 1024);
    expect(await stored(2)).toBe(true);
  });

  it('ends with the reason when it is aborted, and leaves nothing', async () => {
    const abort = new AbortController();
    const body = new Readable({ read() {} });
    body.push(content.subarray(0, 500_000));
    const writing = new TeeStore(members(), 1).write('a/b', body, { signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(writing).rejects.toThrow('enough');
    expect([await filesOf(0), await filesOf(1), await filesOf(2)]).toEqual([[], [], []]);
  });

  it('has room for what the fullest of them has room for', async () => {
    stores[0]!.freeBytes = async () => 7;
    stores[1]!.freeBytes = async () => null as never;
    stores[2]!.freeBytes = async () => {
      throw new Error('away');
    };
    const tee = new TeeStore(members(), 2);
    expect(await tee.freeBytes()).toBe(7);
    expect([...tee.failures.keys()]).toEqual(['2']);
  });
});
