import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { chmod, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { describeStoreContract } from '../../../test/support/store-contract.js';
import { RcloneStore } from './rclone-store.js';
import { readAll } from './read-all.js';

const CONFIG = '[here]\ntype = local\n';
const filesBelow = async (folder: string) =>
  (await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []))
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .sort();

// The program is no part of a fresh machine. Where it is missing, what is ours of it is tried with a stand-in below.
const isInstalled = spawnSync('rclone', ['version']).status === 0;
(isInstalled ? describe : describe.skip)('with the program rclone', () => {
  describeStoreContract(
    'an rclone remote',
    async () => {
      const root = await mkdtemp(path.join(os.tmpdir(), 'backstay-rclone-'));
      return {
        store: new RcloneStore({ remote: `here:${root}`, rcloneConfig: CONFIG }),
        everything: () => filesBelow(root),
        close: () => rm(root, { recursive: true }),
      };
    },
    { writes: 1 },
  );
});

describe('an rclone remote as a store', () => {
  let folder: string;
  let program: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'backstay-rclone-'));
    program = path.join(folder, 'rclone');
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  /** A program in the place of rclone: what it does with its arguments, as a shell script. */
  const storeOf = async (script: string) => {
    await writeFile(program, `#!/bin/sh\n${script}\n`);
    await chmod(program, 0o755);
    return new RcloneStore({ remote: 'there:folder', rcloneConfig: '[there]\npass = top-secret\n', program });
  };

  it('says how to mend it that the program is missing', async () => {
    const store = new RcloneStore({ remote: 'there:', rcloneConfig: CONFIG, program: path.join(folder, 'none') });
    await expect(store.check()).rejects.toMatchObject({
      code: 'TOOL_MISSING',
      hint: expect.stringMatching(/apt-get install rclone/),
    });
    await expect(store.freeBytes()).rejects.toMatchObject({ code: 'TOOL_MISSING' });
  });

  it('gives the configuration in a private file, which is gone after, and in no argument', async () => {
    const log = path.join(folder, 'log');
    const store = await storeOf(
      `echo "$@" >> ${log}; stat -c %a "$RCLONE_CONFIG" >> ${log}; grep pass "$RCLONE_CONFIG" >> ${log}; echo "$RCLONE_CONFIG" >> ${log}; exit 3`,
    );
    expect(await store.stat('a/b')).toBeNull();
    const [args = '', mode, pass, config = ''] = (await import('node:fs')).readFileSync(log, 'utf8').split('\n');
    expect(args).toMatch(/^lsjson --stat --no-mimetype there:folder\/a\/b /);
    expect(args).not.toContain('top-secret');
    expect([mode, pass]).toEqual(['600', 'pass = top-secret']);
    expect(await filesBelow(path.dirname(config))).toEqual([]);
  });

  it('says what rclone said, and takes no failure for an empty remote', async () => {
    const store = await storeOf('echo "2026/01/01 00:00:00 Failed: 401 unauthorized" >&2; exit 1');
    const refusal = { code: 'STORE_FAILED', message: expect.stringMatching(/rclone says "Failed: 401 unauthorized"/) };
    await expect(store.stat('a')).rejects.toMatchObject(refusal);
    await expect(store.write('a', [Buffer.from('x')])).rejects.toMatchObject(refusal);
    const listing = async () => {
      for await (const _ of store.list(''));
    };
    await expect(listing()).rejects.toMatchObject(refusal);
  });

  it('fails a listing that ends early with an error, whatever it has given before', async () => {
    const store = await storeOf(
      'echo "["; echo \'{"Path":"a","Size":1,"ModTime":"2026-01-01T00:00:00Z","IsDir":false},\'; exit 1',
    );
    const found: string[] = [];
    const listing = async () => {
      for await (const { key } of store.list('')) found.push(key);
    };
    await expect(listing()).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });

  it('is not content with a program that ends well and has stored less', async () => {
    const store = await storeOf(
      'case "$1" in rcat) cat > /dev/null;; lsjson) case "$4" in *.tmp-*) echo \'{"Size":3,"IsDir":false,"ModTime":"2026-01-01T00:00:00Z"}\';; *) exit 3;; esac;; esac',
    );
    await expect(store.write('a', [Buffer.from('four')])).rejects.toMatchObject({
      code: 'STORE_FAILED',
      message: expect.stringMatching(/3 bytes of a instead of 4/),
    });
  });

  it('notices a read that ends early, though the program ended well', async () => {
    const store = await storeOf(
      'case "$1" in lsjson) echo \'{"Size":4,"IsDir":false,"ModTime":"2026-01-01T00:00:00Z"}\';; cat) printf abc;; esac',
    );
    await expect(readAll(store, 'a', 10)).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });
});
