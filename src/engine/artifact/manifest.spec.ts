import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { createHash, createPublicKey, verify } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { backupPrefix, MANIFEST_NAME, objectKey, SIGNATURE_NAME } from '../store/layout.js';
import { LocalStore } from '../store/local-store.js';
import { generateAgeKeyPair, generateSigningKeyPair, keyId, type AgeKeyPair } from './keys.js';
import { loadManifest } from './load-manifest.js';
import { decodeManifest, encodeManifest } from './manifest-codec.js';
import type { Manifest, SealedContent } from './manifest.js';
import { openTables, sealTables } from './sealed-tables.js';
import { signManifest, verifyManifest } from './signature.js';

const SHA = 'a'.repeat(64);
const content: SealedContent = {
  tables: [
    { schema: 'public', name: 'users', rows: 1247, bytes: 99_000, sha256: SHA },
    { schema: 'Ünï', name: 'a"b;--\n', rows: 3, bytes: 12, sha256: 'b'.repeat(64) },
  ],
  largeObjectsSha256: null,
  storageSha256: null,
};
const signer = generateSigningKeyPair();
const stranger = generateSigningKeyPair();
let keys: AgeKeyPair;
let manifest: Manifest;

beforeAll(async () => {
  keys = await generateAgeKeyPair();
  manifest = {
    formatVersion: 1,
    ids: { installation: 'i1', organization: 'o1', source: 's1', backup: 'backup_2025-12-22_14-30-00_k7m2qd' },
    type: 'full',
    createdAt: '2025-12-22T14:30:00.123Z',
    previousManifestSha256: null,
    source: {
      name: 'default',
      kind: 'postgres',
      database: 'shop',
      serverVersion: '15.20',
      encoding: 'UTF8',
      collate: 'C.UTF-8',
      ctype: 'C.UTF-8',
      localeProvider: 'libc',
      locale: null,
      extensions: [{ name: 'pgcrypto', version: '1.3', schema: 'extensions' }],
      tablespaces: [],
      databaseSettings: [{ role: null, name: 'timezone', value: 'Europe/Berlin' }],
    },
    tools: { backstay: '0.1.0', node: '24.21.0', pgDump: '15.20' },
    pinnedSettings: [{ name: 'TimeZone', value: 'UTC' }],
    exclusions: { schemas: [], tables: ['public."Logs"'] },
    omissions: [{ schema: 'public', name: 'remote', kind: 'foreign-table', reason: 'foreign-table' }],
    dump: { startedAt: '2025-12-22T14:30:01Z', finishedAt: '2025-12-22T14:30:09Z' },
    components: ['database', 'config'],
    artifacts: [
      {
        component: 'database',
        name: 'database.dump.zst.age',
        storedBytes: 10,
        storedSha256: SHA,
        plainBytes: 20,
        plainSha256: SHA,
      },
      { component: 'config', name: 'globals.sql.zst.age', storedBytes: 0, storedSha256: SHA, plainBytes: 0, plainSha256: SHA },
    ],
    totals: { tableCount: 2, rowCount: 1250 },
    largeObjects: { count: 0, bytes: 0 },
    storage: null,
    recipients: [keys.recipient],
    tables: await sealTables(content, [keys.recipient]),
  };
});

describe('a manifest', () => {
  it('of an earlier version, which knew of no storage, is read as one without', () => {
    const { storage: _storage, ...earlier } = manifest;
    expect(decodeManifest(Buffer.from(JSON.stringify(earlier)))).toEqual(manifest);
  });

  it('comes back from its bytes, which people can read', () => {
    const bytes = encodeManifest(manifest);
    expect(decodeManifest(bytes)).toEqual(manifest);
    expect(String(bytes)).toMatch(/^{\n {2}"formatVersion": 1,\n[\s\S]*}\n$/);
  });

  it('has the same bytes whatever order its fields came in', () => {
    const reversed = Object.fromEntries(Object.entries(manifest).toReversed()) as unknown as Manifest;
    expect(encodeManifest(reversed).equals(encodeManifest(manifest))).toBe(true);
  });

  it('may lack a database', () => {
    const config: Manifest = {
      ...manifest,
      type: 'config',
      components: ['config'],
      dump: null,
      artifacts: [manifest.artifacts[1]!],
      previousManifestSha256: SHA,
    };
    expect(decodeManifest(encodeManifest({ ...config, tools: { ...config.tools, pgDump: null } }))).toMatchObject({
      dump: null,
      tools: { pgDump: null },
    });
  });

  it('shows neither tables nor their hashes without a key', () => {
    const text = encodeManifest(manifest).toString();
    expect(text).not.toContain('users');
    expect(text).not.toContain('b'.repeat(64));
  });

  it('leaves out fields that it does not know', () => {
    const bytes = Buffer.from(JSON.stringify({ ...manifest, later: 1, source: { ...manifest.source, later: {} } }));
    expect(decodeManifest(bytes)).toEqual(manifest);
  });

  it('is refused without any one of its fields, or with a value of another kind there', () => {
    let checked = 0;
    const walk = (value: unknown, change: (replacement: unknown) => unknown, mayBeAbsent = false): void => {
      for (const wrong of [...(mayBeAbsent ? [] : [undefined]), true, [[]], { a: 1 }, -1, 1.5, 2 ** 60, 'x'.repeat(100_001)]) {
        const bytes = Buffer.from(JSON.stringify(change(wrong)) ?? '');
        expect(() => decodeManifest(bytes)).toThrow(expect.objectContaining({ code: 'MANIFEST_CORRUPT' }));
        checked += 1;
      }
      if (Array.isArray(value)) value.forEach((entry, i) => walk(entry, (r) => change(value.with(i, r))));
      else if (typeof value === 'object' && value !== null) {
        for (const [name, entry] of Object.entries(value))
          walk(entry, (r) => change({ ...value, [name]: r }), name === 'storage');
      }
    };
    walk(manifest, (replacement) => replacement);
    expect(checked).toBeGreaterThan(300);
  });

  it.each([
    ['no JSON', '{'],
    ['nothing', ''],
    ['no UTF-8', Buffer.from([0x22, 0xff, 0x22])],
    ['a great depth', '['.repeat(200_000)],
    ['a great depth that is closed', '['.repeat(200_000) + ']'.repeat(200_000)],
    ['null', 'null'],
    ['a list', '[]'],
  ])('is refused when it is %s', (_, bytes) => {
    expect(() => decodeManifest(Buffer.from(bytes))).toThrow(expect.objectContaining({ code: 'MANIFEST_CORRUPT' }));
  });

  it('takes no field from a prototype, and changes none', () => {
    const inherited = `{"__proto__":${JSON.stringify(manifest)}}`;
    expect(() => decodeManifest(Buffer.from(inherited))).toThrow(expect.objectContaining({ code: 'MANIFEST_CORRUPT' }));
    const polluting = JSON.stringify(manifest).replace(
      '{',
      '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}},',
    );
    const decoded = decodeManifest(Buffer.from(polluting));
    expect(decoded).toEqual(manifest);
    expect((decoded as object as { polluted?: boolean }).polluted).toBeUndefined();
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  it.each<[string, (good: Manifest) => unknown]>([
    ['an artifact outside the folder', (good) => withArtifact(good, { name: '../../etc/passwd' })],
    ['an artifact in a folder below', (good) => withArtifact(good, { name: 'a/b' })],
    ["the manifest's own name", (good) => withArtifact(good, { name: 'manifest.json' })],
    ['two artifacts of one name', (good) => withArtifact(good, { name: 'globals.sql.zst.age' })],
    ['an artifact of a component that it does not name', (good) => withArtifact(good, { component: 'storage' })],
    ['a component twice', (good) => ({ ...good, components: ['database', 'config', 'config'] })],
    ['an id that leads elsewhere', (good) => ({ ...good, ids: { ...good.ids, source: '..' } })],
    ['a later format', (good) => ({ ...good, formatVersion: 2 })],
    ['a hash in capitals', (good) => withArtifact(good, { plainSha256: 'A'.repeat(64) })],
    ['a local time', (good) => ({ ...good, createdAt: '2025-12-22T14:30:00+01:00' })],
    ['a day that is none', (good) => ({ ...good, createdAt: '2025-13-45T14:30:00Z' })],
    ['tables that are no base64', (good) => ({ ...good, tables: { ...good.tables, data: 'a b' } })],
  ])('is refused with %s, by whoever writes it too', (_, change) => {
    const bad = change(manifest);
    expect(() => decodeManifest(Buffer.from(JSON.stringify(bad)))).toThrow(expect.objectContaining({ code: 'MANIFEST_CORRUPT' }));
    expect(() => encodeManifest(bad as Manifest)).toThrow(expect.objectContaining({ code: 'MANIFEST_CORRUPT' }));
  });
});

describe('the sealed tables', () => {
  it('come back for the holder of a key', async () => {
    expect(await openTables(manifest, [keys.identity])).toEqual(content);
  });

  it('of ten thousand tables come back too, and none as none', async () => {
    const tables = Array.from({ length: 10_000 }, (_, i) => ({
      schema: 'public',
      name: `t${i}`,
      rows: i,
      bytes: 2 * i,
      sha256: createHash('sha256').update(String(i)).digest('hex'),
    }));
    const many: SealedContent = { tables, largeObjectsSha256: SHA, storageSha256: SHA };
    const totals = { tableCount: 10_000, rowCount: 49_995_000 };
    expect(await openTables({ totals, tables: await sealTables(many, [keys.recipient]) }, [keys.identity])).toEqual(many);
    const none: SealedContent = { tables: [], largeObjectsSha256: null, storageSha256: null };
    expect(
      await openTables({ totals: { tableCount: 0, rowCount: 0 }, tables: await sealTables(none, [keys.recipient]) }, [
        keys.identity,
      ]),
    ).toEqual(none);
  });

  it('do not open with another key, when changed, or when the totals are not theirs', async () => {
    const other = await generateAgeKeyPair();
    await expect(openTables(manifest, [other.identity])).rejects.toMatchObject({ code: 'KEY_UNAVAILABLE' });
    const sealed = Buffer.from(manifest.tables.data, 'base64');
    sealed[sealed.length - 5]! ^= 1;
    const changed = { ...manifest, tables: { ...manifest.tables, data: sealed.toString('base64') } };
    await expect(openTables(changed, [keys.identity])).rejects.toMatchObject({ code: 'MANIFEST_CORRUPT' });
    await expect(openTables({ ...manifest, totals: { tableCount: 2, rowCount: 1251 } }, [keys.identity])).rejects.toMatchObject({
      code: 'MANIFEST_CORRUPT',
    });
  });
});

describe('a signature', () => {
  it('is one line with the key id and the 64 bytes of Ed25519 in base64', () => {
    const bytes = encodeManifest(manifest);
    const [algorithm, id, signature] = String(signManifest(bytes, signer.privateKeyPem)).trimEnd().split(' ');
    expect([algorithm, id]).toEqual(['ed25519', keyId(signer.publicKeyPem)]);
    expect(verify(null, bytes, createPublicKey(signer.publicKeyPem), Buffer.from(signature!, 'base64'))).toBe(true);
  });

  it('holds for its own bytes and a trusted key only', () => {
    const bytes = encodeManifest(manifest);
    const file = signManifest(bytes, signer.privateKeyPem);
    expect(verifyManifest(bytes, file, [stranger.publicKeyPem, signer.publicKeyPem])).toBe(keyId(signer.publicKeyPem));
    expect(() => verifyManifest(bytes, file, [stranger.publicKeyPem])).toThrow(
      expect.objectContaining({ code: 'SIGNATURE_INVALID' }),
    );
    expect(() => verifyManifest(bytes, file, [])).toThrow(expect.objectContaining({ code: 'SIGNATURE_INVALID' }));
    expect(() => verifyManifest(Buffer.concat([bytes, Buffer.from('\n')]), file, [signer.publicKeyPem])).toThrow(
      expect.objectContaining({ code: 'SIGNATURE_INVALID' }),
    );
  });

  it('does not hold when it names a trusted key but another made it', () => {
    const bytes = encodeManifest(manifest);
    const forged = String(signManifest(bytes, stranger.privateKeyPem)).replace(
      keyId(stranger.publicKeyPem),
      keyId(signer.publicKeyPem),
    );
    expect(() => verifyManifest(bytes, Buffer.from(forged), [signer.publicKeyPem])).toThrow(
      expect.objectContaining({ code: 'SIGNATURE_INVALID' }),
    );
  });
});

describe('loading a manifest', () => {
  let root: string;
  let store: LocalStore;
  let prefix: string;
  beforeEach(async () => {
    root ??= await mkdtemp(path.join(os.tmpdir(), 'backstay-manifest-'));
    store = new LocalStore(root);
    prefix = backupPrefix(manifest.ids);
    const bytes = encodeManifest(manifest);
    await store.write(objectKey(prefix, SIGNATURE_NAME), [signManifest(bytes, signer.privateKeyPem)], { overwrite: true });
    await store.write(objectKey(prefix, MANIFEST_NAME), [bytes], { overwrite: true });
  });
  afterAll(() => rm(root, { recursive: true }));

  const load = (ids = {}) => loadManifest(store, prefix, [signer.publicKeyPem], ids);

  it('gives the manifest, the hash of its bytes and who signed it', async () => {
    const sha256 = createHash('sha256').update(encodeManifest(manifest)).digest('hex');
    expect(await load(manifest.ids)).toEqual({ manifest, sha256, signedBy: keyId(signer.publicKeyPem) });
  });

  it('finds every flipped bit and every cut, in the manifest and in its signature', async () => {
    let seed = 99;
    const random = () => (seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
    for (const name of [MANIFEST_NAME, SIGNATURE_NAME]) {
      const file = path.join(root, prefix, name);
      const good = await readFile(file);
      for (let round = 0; round < 100; round += 1) {
        const bad = Buffer.from(good);
        const at = Math.floor(random() * bad.length);
        bad[at]! ^= 1 << Math.floor(random() * 8);
        await writeFile(file, bad);
        await expect(load()).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' });
        await writeFile(file, good.subarray(0, at));
        await expect(load()).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' });
      }
      await writeFile(file, good);
    }
    await expect(load()).resolves.toMatchObject({ manifest });
  });

  it("refuses a genuine manifest in another backup's place", async () => {
    await expect(load({ ...manifest.ids, backup: 'backup_2025-12-23_14-30-00_aaaaaa' })).rejects.toMatchObject({
      code: 'MANIFEST_CORRUPT',
    });
    await expect(load({ source: 's2' })).rejects.toMatchObject({
      code: 'MANIFEST_CORRUPT',
      message: expect.stringContaining('s1'),
    });
  });

  it('tells a backup without a manifest from one without a signature', async () => {
    await store.remove(objectKey(prefix, SIGNATURE_NAME));
    await expect(load()).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' });
    await store.remove(objectKey(prefix, MANIFEST_NAME));
    await expect(load()).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  });
});

function withArtifact(good: Manifest, change: Record<string, unknown>): unknown {
  return { ...good, artifacts: [{ ...good.artifacts[0], ...change }, good.artifacts[1]] };
}
