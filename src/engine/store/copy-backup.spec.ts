import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { generateAgeKeyPair, generateSigningKeyPair } from '../artifact/keys.js';
import { encodeManifest } from '../artifact/manifest-codec.js';
import type { Manifest } from '../artifact/manifest.js';
import { sealTables } from '../artifact/sealed-tables.js';
import { signManifest } from '../artifact/signature.js';
import { copyBackup } from './copy-backup.js';
import { backupPrefix, MANIFEST_NAME, objectKey, SIGNATURE_NAME } from './layout.js';
import { LocalStore } from './local-store.js';
import { readAll } from './read-all.js';

const ids = { installation: 'i1', organization: 'o1', source: 's1', backup: 'backup_2025-12-22_14-30-00_k7m2qd' };
const prefix = backupPrefix(ids);
const NAMES = ['database.dump.zst.age', 'config.tar.zst.age'] as const;
const signer = generateSigningKeyPair();

describe('a copy of a backup', () => {
  let root: string;
  let from: LocalStore;
  let to: LocalStore;
  const contents = NAMES.map(() => randomBytes(200_000));

  beforeEach(async () => {
    root = await mkdtemp(path.join(os.tmpdir(), 'backstay-copy-'));
    [from, to] = [new LocalStore(path.join(root, 'from')), new LocalStore(path.join(root, 'to'))];
    for (const [i, name] of NAMES.entries()) await from.write(objectKey(prefix, name), [contents[i]!]);
    const bytes = encodeManifest(await manifest());
    await from.write(objectKey(prefix, SIGNATURE_NAME), [signManifest(bytes, signer.privateKeyPem)]);
    await from.write(objectKey(prefix, MANIFEST_NAME), [bytes]);
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  const manifest = async (): Promise<Manifest> => {
    const { recipient } = await generateAgeKeyPair();
    return {
      formatVersion: 1,
      ids,
      type: 'full',
      createdAt: '2025-12-22T14:30:00.123Z',
      previousManifestSha256: null,
      source: {
        name: 'default',
        kind: 'postgres',
        database: 'shop',
        serverVersion: '15.20',
        encoding: 'UTF8',
        collate: 'C',
        ctype: 'C',
        localeProvider: 'libc',
        locale: null,
        extensions: [],
        tablespaces: [],
        databaseSettings: [],
      },
      tools: { backstay: '0.1.0', node: '24.21.0', pgDump: '15.20' },
      pinnedSettings: [],
      exclusions: { schemas: [], tables: [] },
      omissions: [],
      dump: null,
      components: ['database', 'config'],
      artifacts: NAMES.map((name, i) => {
        const sha256 = createHash('sha256').update(contents[i]!).digest('hex');
        const bytes = contents[i]!.length;
        const component = name.startsWith('config') ? 'config' : 'database';
        return { component, name, storedBytes: bytes, storedSha256: sha256, plainBytes: bytes, plainSha256: sha256 };
      }),
      totals: { tableCount: 0, rowCount: 0 },
      largeObjects: { count: 0, bytes: 0 },
      storage: null,
      recipients: [recipient],
      tables: await sealTables({ tables: [], largeObjectsSha256: null, storageSha256: null }, [recipient]),
    };
  };
  const copy = () => copyBackup({ ids, from, to, verifyingKeys: [signer.publicKeyPem], signal: new AbortController().signal });
  const at = async (where: 'from' | 'to') =>
    (await readdir(path.join(root, where), { recursive: true, withFileTypes: true }).catch(() => []))
      .filter((entry) => entry.isFile())
      .map(({ name }) => name)
      .sort();

  it('is the same, byte for byte', async () => {
    await copy();
    expect(await at('to')).toEqual(await at('from'));
    for (const name of [...NAMES, SIGNATURE_NAME, MANIFEST_NAME]) {
      const key = objectKey(prefix, name);
      expect((await readAll(to, key, 1_000_000)).equals(await readAll(from, key, 1_000_000))).toBe(true);
    }
  });

  it('replaces what a copy that ended early has left, manifest and all', async () => {
    await to.write(objectKey(prefix, NAMES[0]), [Buffer.from('half')]);
    await to.write(objectKey(prefix, MANIFEST_NAME), [Buffer.from('old')]);
    await to.write(objectKey(prefix, 'left-over'), [Buffer.from('x')]);
    await copy();
    expect(await at('to')).toEqual(await at('from'));
  });

  it('has no manifest where the copy that was read is damaged, and says so', async () => {
    const damaged = Buffer.from(contents[1]!);
    damaged[1000]! ^= 1;
    await from.write(objectKey(prefix, NAMES[1]), [damaged], { overwrite: true });
    await expect(copy()).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT', message: expect.stringContaining(NAMES[1]) });
    expect(await at('to')).toEqual([NAMES[0]]);
  });

  it('is none of a manifest that somebody else has signed', async () => {
    const bytes = await readAll(from, objectKey(prefix, MANIFEST_NAME), 1_000_000);
    const other = generateSigningKeyPair();
    await from.write(objectKey(prefix, SIGNATURE_NAME), [signManifest(bytes, other.privateKeyPem)], { overwrite: true });
    await expect(copy()).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' });
    expect(await at('to')).toEqual([]);
  });
});
