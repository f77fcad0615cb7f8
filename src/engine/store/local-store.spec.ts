import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { link, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { describeStoreContract } from '../../../test/support/store-contract.js';
import { toStoreError } from './local-errors.js';
import { LocalStore } from './local-store.js';

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)) + (entry.isDirectory() ? '/' : ''))
    .sort();
}

describeStoreContract('a local folder', async () => {
  const root = await mkdtemp(path.join(os.tmpdir(), 'backstay-store-'));
  return {
    store: new LocalStore(path.join(root, 'backups')),
    everything: async () => {
      const found = await filesBelow(path.join(root, 'backups')).catch(() => []);
      // A folder counts only when it is empty: one with an object in it shows through the object.
      return found.filter((name) => !name.endsWith('/') || !found.some((other) => other !== name && other.startsWith(name)));
    },
    close: () => rm(root, { recursive: true }),
  };
});

describe('a local folder as a store', () => {
  let root: string;
  let store: LocalStore;
  beforeEach(async () => {
    root = await mkdtemp(path.join(os.tmpdir(), 'backstay-store-'));
    store = new LocalStore(root);
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  const put = (key: string, content = 'x') => store.write(key, Readable.from([Buffer.from(content)]));

  it('keeps folders and files to its own user', async () => {
    await put('a/b/object');
    const found = await Promise.all(['a', 'a/b', 'a/b/object'].map((name) => stat(path.join(root, name))));
    expect(found.map(({ mode }) => mode & 0o777)).toEqual([0o700, 0o700, 0o600]);
  });

  it('never writes, reads or removes through a symbolic link', async () => {
    const outside = await mkdtemp(path.join(os.tmpdir(), 'backstay-outside-'));
    await writeFile(path.join(outside, 'secret'), 'untouched');
    await symlink(outside, path.join(root, 'door'));
    await symlink(path.join(outside, 'secret'), path.join(root, 'window'));
    const refusal = { code: 'STORE_FAILED' };
    await expect(put('door/new')).rejects.toMatchObject(refusal);
    await expect(store.read('door/secret')).rejects.toMatchObject(refusal);
    await expect(store.stat('door/secret')).rejects.toMatchObject(refusal);
    await expect(store.remove('door/secret')).rejects.toMatchObject(refusal);
    await expect(store.removeTree('door/secret')).rejects.toMatchObject(refusal);
    await expect(store.read('window')).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
    await expect(put('window')).rejects.toMatchObject({ code: 'OBJECT_EXISTS' });
    for await (const found of store.list('')) throw new Error(`listed ${found.key}`);
    await store.removeTree('door');
    expect(await readFile(path.join(outside, 'secret'), 'utf8')).toBe('untouched');
    expect(await readdir(outside)).toEqual(['secret']);
    await rm(outside, { recursive: true });
  });

  it('hides what a crashed write left, and sweeps it once it is old, with the folders it emptied', async () => {
    await put('kept/object');
    await mkdir(path.join(root, 'crashed/attempt'), { recursive: true });
    for (const name of ['crashed/attempt/.tmp-old', 'kept/.tmp-old', 'kept/.tmp-young'])
      await writeFile(path.join(root, name), 'partial');
    const hourAgo = new Date(Date.now() - 3_600_000);
    for (const name of ['crashed/attempt/.tmp-old', 'kept/.tmp-old']) await utimes(path.join(root, name), hourAgo, hourAgo);
    const listed: string[] = [];
    for await (const { key } of store.list('')) listed.push(key);
    expect(listed).toEqual(['kept/object']);
    expect(await store.removeStaleTemporaries(600_000, 'kept')).toBe(1);
    expect(await store.removeStaleTemporaries(600_000)).toBe(1);
    expect(await filesBelow(root)).toEqual(['kept/', 'kept/.tmp-young', 'kept/object']);
  });

  it('completes a rename that a crash had cut between its two steps', async () => {
    await put('from/object', 'content');
    await mkdir(path.join(root, 'to'));
    await link(path.join(root, 'from/object'), path.join(root, 'to/object'));
    await store.rename('from/object', 'to/object');
    expect(await filesBelow(root)).toEqual(['to/', 'to/object']);
    expect(await readFile(path.join(root, 'to/object'), 'utf8')).toBe('content');
  });

  it('does not take a root that went away for an empty one, nor makes it anew', async () => {
    await put('object');
    await rm(root, { recursive: true });
    const listing = (async () => {
      for await (const found of store.list('')) throw new Error(`listed ${found.key}`);
    })();
    await expect(listing).rejects.toMatchObject({ code: 'STORE_FAILED' });
    await expect(put('object')).rejects.toMatchObject({ code: 'STORE_FAILED' });
    await expect(stat(root)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('says which folder is full and how much was written', () => {
    for (const code of ['ENOSPC', 'EDQUOT']) {
      const error = toStoreError(Object.assign(new Error('write failed'), { code }), 'write', 'a/b', '/data/backups/a', 1234);
      expect(error).toMatchObject({ code: 'DISK_FULL', message: expect.stringMatching(/\/data\/backups\/a.*1234 bytes/) });
    }
    expect(toStoreError(Object.assign(new Error('i/o'), { code: 'EIO' }), 'write', 'a/b', '/data', 0)).toMatchObject({
      code: 'STORE_FAILED',
      message: expect.stringContaining('EIO'),
      hint: expect.stringContaining('disk'),
    });
  });

  (canMount() ? it : it.skip)(
    'fails with a full disk as DISK_FULL, leaves nothing, and works again once there is room',
    async () => {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', root], { stdio: 'ignore' });
      try {
        const full = new LocalStore(root);
        const endless = Readable.from(
          (function* () {
            for (;;) yield Buffer.alloc(100_000, 1);
          })(),
        );
        const failure = await full.write('deep/object', endless).catch((error: unknown) => error);
        expect(failure).toMatchObject({ code: 'DISK_FULL', message: expect.stringContaining(path.join(root, 'deep')) });
        const written = Number(/(\d+) bytes/.exec((failure as Error).message)?.[1]);
        expect(written).toBeGreaterThan(2_000_000);
        expect(written).toBeLessThanOrEqual(4 * 1024 * 1024);
        expect(endless.destroyed).toBe(true);
        expect(await readdir(root)).toEqual([]);
        await full.write('deep/object', Readable.from([Buffer.alloc(2_000_000)]));
        await full.removeTree('deep');
      } finally {
        execFileSync('umount', [root]);
      }
    },
  );
});

/** Only root may mount, and not in every container. */
function canMount(): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  try {
    execFileSync('unshare', ['-m', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
