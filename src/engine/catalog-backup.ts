import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';
import { createAgeDecryptor } from './artifact/age-decrypt.js';
import { createAgeEncryptor } from './artifact/age-encrypt.js';
import { signManifest, MAX_SIGNATURE_BYTES, verifyManifest } from './artifact/signature.js';
import type { ArtifactStore } from './store/artifact-store.js';
import { catalogPrefix, objectKey } from './store/layout.js';
import { readAll } from './store/read-all.js';

const SUFFIX = '.catalog.zst.age';
const MAX_STORED_BYTES = 256 * 1024 * 1024;
const MAX_PLAIN_BYTES = 1024 * 1024 * 1024;

/** One backup of a catalog, as it lies at a destination. */
export interface StoredCatalog {
  key: string;
  /** When it was made, by its name. */
  at: Date;
}

/** Encrypts, signs and stores a catalog's content; the signature first, so that a file without one is never taken for whole. */
export async function writeCatalogBackup(
  store: ArtifactStore,
  installation: string,
  content: object,
  keys: { recipients: readonly string[]; signingKeyPem: string },
  now: Date,
  signal?: AbortSignal,
): Promise<string> {
  const compressed = await promisify(zstdCompress)(Buffer.from(JSON.stringify(content)));
  const sealed = await collect(compressed, await createAgeEncryptor(keys.recipients));
  const key = objectKey(catalogPrefix(installation), `${now.toISOString().replaceAll(':', '-')}${SUFFIX}`);
  await store.write(`${key}.sig`, [signManifest(sealed, keys.signingKeyPem)], { signal });
  await store.write(key, [sealed], { signal });
  return key;
}

/** The backups of an installation's catalog, the newest first. */
export async function listCatalogBackups(
  store: ArtifactStore,
  installation: string,
  signal?: AbortSignal,
): Promise<StoredCatalog[]> {
  const found: StoredCatalog[] = [];
  for await (const { key } of store.list(catalogPrefix(installation), { signal })) {
    if (!key.endsWith(SUFFIX)) continue;
    const name = key.slice(key.lastIndexOf('/') + 1, -SUFFIX.length);
    const at = new Date(name.replace(/T(\d\d)-(\d\d)-/, 'T$1:$2:'));
    if (!Number.isNaN(at.getTime())) found.push({ key, at });
  }
  return found.sort((a, b) => b.at.getTime() - a.at.getTime());
}

/**
 * Reads a backup of a catalog, when a trusted key has signed its exact bytes.
 * @throws EngineError SIGNATURE_INVALID, OBJECT_MISSING, STORE_FAILED, KEY_INVALID; AgeFailure when no key fits
 */
export async function readCatalogBackup(
  store: ArtifactStore,
  key: string,
  keys: { verifyingKeys: readonly string[]; identities: readonly string[] },
  signal?: AbortSignal,
): Promise<unknown> {
  const sealed = await readAll(store, key, MAX_STORED_BYTES, signal);
  verifyManifest(sealed, await readAll(store, `${key}.sig`, MAX_SIGNATURE_BYTES, signal), keys.verifyingKeys);
  const compressed = await collect(sealed, await createAgeDecryptor(keys.identities));
  return JSON.parse((await promisify(zstdDecompress)(compressed, { maxOutputLength: MAX_PLAIN_BYTES })).toString());
}

/** Removes all but the newest. @returns how many were removed */
export async function pruneCatalogBackups(
  store: ArtifactStore,
  installation: string,
  keep: number,
  signal?: AbortSignal,
): Promise<number> {
  const old = (await listCatalogBackups(store, installation, signal)).slice(keep);
  for (const { key } of old) {
    await store.remove(key, { signal });
    await store.remove(`${key}.sig`, { signal });
  }
  return old.length;
}

async function collect(input: Buffer, through: Transform): Promise<Buffer> {
  const [, output] = await Promise.all([pipeline(Readable.from([input]), through), through.toArray()]);
  return Buffer.concat(output as Buffer[]);
}
