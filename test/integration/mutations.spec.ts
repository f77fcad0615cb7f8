import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readArtifactPlain } from '../../src/engine/artifact/artifact-reader.js';
import { writeArtifact } from '../../src/engine/artifact/artifact-writer.js';
import { generateSigningKeyPair } from '../../src/engine/artifact/keys.js';
import { decodeManifest, encodeManifest } from '../../src/engine/artifact/manifest-codec.js';
import { signManifest } from '../../src/engine/artifact/signature.js';
import type { StagedBackup } from '../../src/engine/backup.js';
import { differencesOf } from '../../src/engine/drill-equal.js';
import { EngineError } from '../../src/engine/errors.js';
import { openArchive } from '../../src/engine/restore-archive.js';
import { backupPrefix, objectKey } from '../../src/engine/store/layout.js';
import { type Verification, verifyBackup } from '../../src/engine/verify.js';
import { EngineRuns } from '../support/engine-runs.js';
import { usePostgres } from '../support/postgres.js';

/** Every loss in a restored database of its own instead of all in one: minutes instead of seconds. */
const EACH_ALONE = process.env['MUTATIONS'] === 'each';
const DUMP = 'database.dump.zst.age';
const VERDICT = /^(?:OBJECT_MISSING|ARTIFACT_CORRUPT|ARCHIVE_CORRUPT|MANIFEST_CORRUPT|SIGNATURE_INVALID|RESTORE_FAILED)$/;

const postgres = usePostgres();
let runs: EngineRuns;
let older: StagedBackup;
let backup: StagedBackup;
let other: StagedBackup;
let restored: string;

const folderOf = (of: StagedBackup) => join(runs.folder, 'store', backupPrefix(of.ids));
const fileOf = (of: StagedBackup, name: string) => join(folderOf(of), name);
const sourceOf = (staged: StagedBackup) => ({
  ids: staged.ids,
  store: runs.store,
  verifyingKeys: [runs.signing.publicKeyPem],
  identities: [runs.age.identity],
  programs: { binDirs: [], requirePatched: false },
  signal: new AbortController().signal,
});
const look = (level = 2): Promise<Verification> =>
  verifyBackup({ ...sourceOf(backup), runId: 'verification_1', level, assertions: [], onProgress: () => undefined });

beforeAll(async () => {
  runs = await EngineRuns.open();
  const database = await postgres.current.createSampleDatabase('mutated');
  const small = await postgres.current.createDatabase('small');
  await postgres.current.exec(small, 'CREATE TABLE t AS SELECT 1 AS n');
  const connection = postgres.current.connection(database);
  older = await runs.backUp(connection);
  backup = await runs.backUp(connection);
  other = await runs.backUp(postgres.current.connection(small));
  restored = 'mutated_copy';
  await runs.restore(backup, { mode: 'new-database', server: postgres.current.connection(), database: restored });
});
afterAll(() => runs.close());

/** One bit is another. */
const flip = (at: number) => (bytes: Buffer) => {
  const changed = Buffer.from(bytes);
  changed[at < 0 ? bytes.length + at : at]! ^= 1;
  return changed;
};
const cut = (bytes: Buffer) => bytes.subarray(0, -1);

/** What is done to stored files, and the level at which it is found. */
const STORED: readonly (readonly [
  what: string,
  name: string,
  damage: (bytes: Buffer) => Buffer | null | Promise<Buffer>,
  level: number,
])[] = [
  ['the manifest flipped', 'manifest.json', flip(100), 0],
  ['the manifest cut', 'manifest.json', cut, 0],
  ['the manifest gone', 'manifest.json', () => null, 0],
  ['the manifest of an older backup', 'manifest.json', () => readFile(fileOf(older, 'manifest.json')), 0],
  ['the signature flipped', 'manifest.json.sig', flip(-10), 0],
  ['the signature of an older backup', 'manifest.json.sig', () => readFile(fileOf(older, 'manifest.json.sig')), 0],
  [
    "a stranger's signature",
    'manifest.json.sig',
    async () => signManifest(await readFile(fileOf(backup, 'manifest.json')), generateSigningKeyPair().privateKeyPem),
    0,
  ],
  ['the dump gone', DUMP, () => null, 0],
  ['the dump cut', DUMP, cut, 0],
  ['the dump with a byte more', DUMP, (bytes) => Buffer.concat([bytes, Buffer.of(0)]), 0],
  ["another database's dump", DUMP, () => readFile(fileOf(other, DUMP)), 0],
  ['the header of the dump flipped', DUMP, flip(30), 1],
  ['a chunk of the dump flipped', DUMP, flip(80_000), 1],
  ['the tag of the last chunk flipped', DUMP, flip(-1), 1],
];

/** What is done to the plain archive, sealed again with right hashes and signed with our key: only its content gives it away. */
const RESEALED: readonly (readonly [what: string, damage: (plain: Buffer) => Buffer | Promise<Buffer>, level: number])[] = [
  ['one value changed', (plain) => replaced(plain, 'Letter 7\n', 'Letter 8\n'), 2],
  ['a row gone', (plain) => replaced(plain, '7\tLetter 7\n', '7\tLetter 7 '), 2],
  ['a large object changed', (plain) => replaced(plain, 'Attachment 9 ', 'Attachment 8 '), 2],
  ['a definition that names another table', (plain) => replaced(plain, 'departments', 'departmentz'), 3],
  ['its end lost', (plain) => plain.subarray(0, -5000), 2],
  ["another database's content", async () => plainOf(other), 2],
];

/** What a restore could lose without a word, and what has to be named at level 4. */
const LOST: readonly (readonly [statement: string, named: RegExp])[] = [
  ['DELETE FROM shop.edge_values WHERE id = 4', /table shop\.edge_values: 3 rows instead of 4/],
  ["UPDATE shop.documents SET title = 'Letter' WHERE id = 7", /table shop\.documents: \d+ rows on both sides/],
  ['DROP TABLE shop.empty_table', /schema TABLE shop\.empty_table: It was not restored/],
  ['DROP INDEX shop.customers_vip', /schema INDEX shop\.customers_vip: It was not/],
  ['DROP POLICY own_rows ON shop.secrets', /schema POLICY shop\.secrets own_rows: It was not/],
  ['ALTER TABLE shop.secrets NO FORCE ROW LEVEL SECURITY', /shop\.secrets/],
  ['DROP TRIGGER orders_touch ON shop.orders', /schema TRIGGER shop\.orders orders_touch: It was not/],
  ['ALTER TABLE shop.worn ENABLE TRIGGER worn_off', /schema TRIGGER shop\.worn worn_off: Another definition/],
  ['ALTER TABLE shop.worn ALTER b DROP DEFAULT', /(TABLE|DEFAULT) shop\.worn/],
  ["SELECT setval('shop.countdown', 50)", /sequence shop\.countdown/],
  ['SELECT lo_unlink(770003)', /large objects/],
  ['REVOKE UPDATE (title) ON shop.products FROM PUBLIC', /schema ACL shop\./],
  ['ALTER TABLE shop.order_items DROP CONSTRAINT order_items_product_id_fkey', /schema FK CONSTRAINT shop\.order_items/],
  ['DROP VIEW shop.chain', /schema VIEW shop\.chain: It was not/],
  ['DROP MATERIALIZED VIEW shop.not_yet', /schema MATERIALIZED VIEW shop\.not_yet: It was not/],
  ['DROP PROCEDURE shop.ship', /schema PROCEDURE shop\.ship/],
  ["COMMENT ON SCHEMA shop IS 'other'", /schema COMMENT (?:shop\.)?SCHEMA shop/],
  ['DROP CAST (shop.address AS text)', /schema CAST/],
  ['DROP EVENT TRIGGER shop_on_ddl', /schema EVENT TRIGGER/],
  ['DROP PUBLICATION shop_orders', /schema PUBLICATION/],
];

async function plainOf(staged: StagedBackup): Promise<Buffer> {
  const key = objectKey(backupPrefix(staged.ids), DUMP);
  const { store, identities, signal } = sourceOf(staged);
  return buffer(await readArtifactPlain({ store, key, name: DUMP, identities, signal }));
}

function replaced(plain: Buffer, before: string, after: string): Buffer {
  const at = plain.indexOf(before);
  if (at < 0) throw new Error(`${JSON.stringify(before)} is not in the archive`);
  const changed = Buffer.from(plain);
  changed.write(after, at);
  return changed;
}

/** Puts another archive in the place of the backup's, with a manifest that fits it but for what it says of the tables. */
async function reseal(plain: Buffer): Promise<void> {
  const manifest = decodeManifest(await readFile(fileOf(backup, 'manifest.json')));
  const key = objectKey(backupPrefix(backup.ids), DUMP);
  await rm(fileOf(backup, DUMP));
  const digest = await writeArtifact({
    store: runs.store,
    key,
    source: Readable.from([plain]),
    compress: true,
    recipients: [runs.age.recipient],
  });
  const artifacts = manifest.artifacts.map((artifact) => (artifact.name === DUMP ? { ...artifact, ...digest } : artifact));
  const bytes = encodeManifest({ ...manifest, artifacts });
  await writeFile(fileOf(backup, 'manifest.json'), bytes);
  await writeFile(fileOf(backup, 'manifest.json.sig'), signManifest(bytes, runs.signing.privateKeyPem));
}

/** Does something to the backup's files, and puts them back. */
async function damaging<T>(work: () => Promise<T>): Promise<T> {
  const names = [DUMP, 'manifest.json', 'manifest.json.sig'];
  const kept = await Promise.all(names.map((name) => readFile(fileOf(backup, name))));
  try {
    return await work();
  } finally {
    for (const [i, name] of names.entries()) await writeFile(fileOf(backup, name), kept[i]!);
  }
}

/** Code of what was found, and the level of the check that found it. */
async function foundBy(level: number): Promise<{ code: string; level: number | undefined }> {
  try {
    const { failure, checks } = await look(level);
    return { code: failure?.code ?? 'none', level: checks.at(-1)?.ok === false ? checks.at(-1)?.level : undefined };
  } catch (error) {
    return { code: error instanceof EngineError ? error.code : String(error), level: undefined };
  }
}

describe('of a backup of the awkward sample', () => {
  it('forty damaged variants are tried', () => {
    expect(STORED.length + RESEALED.length + LOST.length).toBe(40);
  });

  it('the undamaged one passes', async () => {
    expect(await look()).toMatchObject({ provenLevel: 2, failure: null });
    const copy = postgres.current.connection(restored);
    expect(await differencesOf(sourceOf(backup), await openArchive(sourceOf(backup)), copy)).toEqual([]);
  });

  it.each(STORED)('%s (%s) is found by the level that is documented', async (_, name, damage, level) => {
    await damaging(async () => {
      const bytes = await damage(await readFile(fileOf(backup, name)));
      if (bytes === null) await rm(fileOf(backup, name));
      else await writeFile(fileOf(backup, name), bytes);
      expect(await foundBy(4)).toEqual({ code: expect.stringMatching(VERDICT), level });
    });
  });

  it.each(RESEALED)('%s, sealed and signed again, is found by the level that is documented', async (_, damage, level) => {
    const plain = await damage(await plainOf(backup));
    await damaging(async () => {
      await reseal(plain);
      expect(await foundBy(1)).toEqual({ code: 'none', level: undefined });
      expect(await foundBy(4)).toEqual({ code: expect.stringMatching(VERDICT), level });
    });
  });

  const batches = EACH_ALONE ? LOST.map((loss) => [loss]) : [LOST];
  it.each(batches.map((batch, i) => [i + 1, batch] as const))(
    'what a restore has lost is found by level 4: %i',
    async (i, batch) => {
      const database = `mutation_${i}`;
      await postgres.current.exec('postgres', `CREATE DATABASE "${database}" TEMPLATE "${restored}"`);
      for (const [statement] of batch) await postgres.current.exec(database, statement);
      const copy = postgres.current.connection(database);
      const found = await differencesOf(sourceOf(backup), await openArchive(sourceOf(backup)), copy);
      const told = found.map(({ kind, name, detail }) => `${kind} ${name}: ${detail}`).join('\n');
      for (const [, named] of batch) expect(told).toMatch(named);
      if (EACH_ALONE) expect(found.length).toBeLessThan(6);
      await postgres.current.exec('postgres', `DROP DATABASE "${database}"`);
    },
  );
});
