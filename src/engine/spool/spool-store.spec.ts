import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, open, readdir, rm, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { promisify } from 'node:util';
import { abortReason } from '../store/abort.js';
import type { WriteOptions } from '../store/artifact-store.js';
import type { StagingStore } from '../store/tee-store.js';
import { SpoolBudget } from './spool.js';
import { until } from '../../../test/support/until.js';
import { SpoolStore } from './spool-store.js';

const MIB = 1024 * 1024;
const run = promisify(execFile);

/** A destination that takes nothing until it is let, and has an object only when all of it came. */
class Gated implements StagingStore {
  readonly objects = new Map<string, Buffer>();
  failAfter = Infinity;
  open!: () => void;
  private readonly gate = new Promise<void>((resolve) => (this.open = resolve));

  async write(key: string, body: AsyncIterable<Buffer> | Iterable<Buffer>, { signal }: WriteOptions = {}) {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const aborted = new Promise<never>((_, reject) => signal?.addEventListener('abort', () => reject(abortReason(signal))));
    const take = async () => {
      await this.gate;
      for await (const chunk of body) {
        bytes += chunk.length;
        if (bytes > this.failAfter) throw new Error('the destination broke');
        chunks.push(Buffer.from(chunk));
      }
    };
    await Promise.race([take(), aborted]);
    this.objects.set(key, Buffer.concat(chunks));
    return { bytes };
  }

  async remove(key: string) {
    this.objects.delete(key);
  }

  async freeBytes() {
    return null;
  }
}

let root: string;
let folder: string;
let store: Gated;
let budget: SpoolBudget;
let told: number;
let cancel: AbortController;

beforeEach(async () => {
  root = await mkdtemp(path.join(os.tmpdir(), 'backstay-spool-'));
  folder = path.join(root, 'home', 'b.1');
  store = new Gated();
  budget = new SpoolBudget(64 * MIB);
  told = 0;
  cancel = new AbortController();
});
afterEach(() => rm(root, { recursive: true, force: true }));

const spoolOf = (where = folder) =>
  new SpoolStore(store, { folder: where, budget, leastFreeBytes: 0 }, cancel.signal, () => (told += 1));

function* pieces(content: Buffer): Generator<Buffer> {
  for (let at = 0; at < content.length; at += 65_552) yield content.subarray(at, at + 65_552);
}

async function onDisk(where = folder): Promise<number> {
  const names = await readdir(where).catch(() => []);
  const sizes = await Promise.all(
    names.map((name) =>
      stat(path.join(where, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Every byte of the budget is there to be taken again. */
function expectFree(): void {
  expect(budget.take(budget.maxBytes)).toBe(true);
  budget.give(budget.maxBytes);
}

async function expectNothingLeft(spool: SpoolStore): Promise<void> {
  await spool.close();
  expect(await readdir(path.dirname(folder)).catch(() => [])).toEqual([]);
  expectFree();
}

describe('a spool', () => {
  it('takes everything while the destination takes nothing, and gives it every byte in order', async () => {
    const spool = spoolOf();
    const [first, second] = [randomBytes(5 * MIB + 3), randomBytes(70_000)];
    expect(await spool.write('first', pieces(first))).toEqual({ bytes: first.length });
    expect(await spool.write('second', pieces(second))).toEqual({ bytes: second.length });
    expect(await spool.write('empty', [])).toEqual({ bytes: 0 });
    expect(store.objects.size).toBe(0);
    expect(await onDisk()).toBe(first.length + second.length);
    expect((await stat(folder)).mode & 0o777).toBe(0o700);
    store.open();
    let uploaded = 0;
    await spool.settle((bytes) => (uploaded = bytes));
    expect([...store.objects.keys()]).toEqual(['first', 'second', 'empty']);
    expect(store.objects.get('first')?.equals(first)).toBe(true);
    expect(store.objects.get('second')?.equals(second)).toBe(true);
    expect(uploaded).toBe(spool.bytes);
    expect(await onDisk()).toBe(0);
    await expectNothingLeft(spool);
  });

  it('never holds more than its limit, and lets the writer wait for what is larger', async () => {
    budget = new SpoolBudget(16 * MIB);
    const spool = spoolOf();
    const content = randomBytes(50 * MIB);
    let most = 0;
    let given = 0;
    const body = async function* () {
      for (const chunk of pieces(content)) {
        given += chunk.length;
        if (given % 16 === 0) most = Math.max(most, await onDisk());
        yield chunk;
      }
    };
    const writing = spool.write('large', body());
    // The writer has come as far as it can: what it holds in its hand does not fit.
    await until(async () => (await onDisk()) >= 15 * MIB);
    expect(given).toBeLessThan(20 * MIB);
    store.open();
    await writing;
    await spool.settle(() => undefined);
    expect(store.objects.get('large')?.equals(content)).toBe(true);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(16 * MIB);
    expect(told).toBe(0);
    await expectNothingLeft(spool);
  });

  it('without any room, as when others have it all, is passed by', async () => {
    budget.take(budget.maxBytes);
    const spool = spoolOf();
    const contents = [randomBytes(6 * MIB), randomBytes(3 * MIB)];
    store.open();
    for (const [i, content] of contents.entries()) await spool.write(String(i), pieces(content));
    await spool.settle(() => undefined);
    contents.forEach((content, i) => expect(store.objects.get(String(i))?.equals(content)).toBe(true));
    expect(await onDisk()).toBe(0);
    budget.give(budget.maxBytes);
    await expectNothingLeft(spool);
  });

  it('on a disk that is full goes on at the pace of the destination, and says so once', async () => {
    const disk = path.join(root, 'disk');
    await mkdir(disk);
    const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=6M', 'tmpfs', disk]).then(
      () => true,
      () => false,
    );
    // Without the right to mount there is no small disk.
    if (!mounted) return;
    try {
      const spool = spoolOf(path.join(disk, 'b.1'));
      const content = randomBytes(20 * MIB + 1);
      const writing = spool.write('large', pieces(content));
      await until(() => told > 0);
      expect(await onDisk(path.join(disk, 'b.1'))).toBeGreaterThan(5 * MIB);
      store.open();
      await writing;
      await spool.settle(() => undefined);
      expect(store.objects.get('large')?.equals(content)).toBe(true);
      expect(told).toBe(1);
      await spool.close();
      expect(await readdir(disk)).toEqual([]);
      expectFree();
    } finally {
      await run('umount', [disk]);
    }
  });

  it('that can not be made fails with its name', async () => {
    await (await open(path.join(root, 'home'), 'w')).close();
    const spool = spoolOf();
    store.open();
    await expect(spool.write('a', pieces(randomBytes(MIB)))).rejects.toMatchObject({
      code: 'STORE_FAILED',
      message: expect.stringMatching(/^The spool folder .*home can't be used: /),
    });
    await rm(path.join(root, 'home'));
    await expectNothingLeft(spool);
  });

  it('that gives back other bytes than it was given leaves nothing at the destination', async () => {
    const spool = spoolOf();
    await spool.write('a', pieces(randomBytes(2 * MIB)));
    const file = await open(path.join(folder, '1.1'), 'r+');
    await file.write(Buffer.from([1, 2, 3]), 0, 3, MIB);
    await file.close();
    store.open();
    await expect(spool.settle(() => undefined)).rejects.toMatchObject({ code: 'STORE_FAILED', message: /other bytes/ });
    expect(store.objects.size).toBe(0);
    await expectNothingLeft(spool);
  });
});

describe('what ends it', () => {
  it('is a destination that breaks, also while the writer waits for its source, and everything after fails with the same', async () => {
    const spool = spoolOf();
    store.failAfter = MIB;
    const body = new PassThrough();
    body.write(randomBytes(3 * MIB));
    store.open();
    await expect(spool.write('a', body)).rejects.toThrow('the destination broke');
    await expect(spool.write('b', pieces(randomBytes(100)))).rejects.toThrow('the destination broke');
    await expect(spool.settle(() => undefined)).rejects.toThrow('the destination broke');
    await expectNothingLeft(spool);
  });

  it('is a body that fails, of which nothing is stored', async () => {
    const spool = spoolOf();
    store.open();
    const body = async function* () {
      yield* pieces(randomBytes(3 * MIB));
      throw new Error('the dump failed');
    };
    await expect(spool.write('a', body())).rejects.toThrow('the dump failed');
    await expectNothingLeft(spool);
    expect(store.objects.size).toBe(0);
  });

  it('is a cancellation, also while the writer waits for room', async () => {
    budget = new SpoolBudget(16 * MIB);
    const spool = spoolOf();
    const writing = spool.write('a', pieces(randomBytes(30 * MIB)), { signal: cancel.signal });
    await until(async () => (await onDisk()) >= 15 * MIB);
    cancel.abort(new Error('canceled'));
    await expect(writing).rejects.toThrow('canceled');
    await expectNothingLeft(spool);
    expect(store.objects.size).toBe(0);
  });

  it('is taking back what was written', async () => {
    const spool = spoolOf();
    await spool.write('a', pieces(randomBytes(MIB)));
    await spool.remove('a');
    await expectNothingLeft(spool);
    expect(store.objects.size).toBe(0);
  });
});
