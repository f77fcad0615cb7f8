import { createHash } from 'node:crypto';
import { EngineError } from '../errors.js';
import type { ArtifactStore } from '../store/artifact-store.js';
import { MANIFEST_NAME, objectKey, SIGNATURE_NAME, type BackupIds } from '../store/layout.js';
import { readAll } from '../store/read-all.js';
import { decodeManifest, manifestCorrupt } from './manifest-codec.js';
import type { Manifest } from './manifest.js';
import { MAX_SIGNATURE_BYTES, signatureInvalid, verifyManifest } from './signature.js';

/** About a million tables. */
const MAX_MANIFEST_BYTES = 256 * 1024 * 1024;

export interface LoadedManifest {
  manifest: Manifest;
  /** SHA-256 (hex) of its exact bytes, which the source's next manifest holds. */
  sha256: string;
  /** The id of the key that signed it. */
  signedBy: string;
}

/**
 * Reads a backup's manifest and believes it only when a trusted key signed its exact bytes.
 * @param prefix the backup's folder
 * @param publicKeys the signing keys (SPKI PEM) that are trusted
 * @param expectedIds whose it must be: a genuine manifest in another backup's place is refused
 * @throws EngineError OBJECT_MISSING (no manifest: no backup), SIGNATURE_INVALID, MANIFEST_CORRUPT, STORE_FAILED
 */
export async function loadManifest(
  store: ArtifactStore,
  prefix: string,
  publicKeys: readonly string[],
  expectedIds?: Partial<BackupIds>,
  signal?: AbortSignal,
): Promise<LoadedManifest> {
  const bytes = await readAll(store, objectKey(prefix, MANIFEST_NAME), MAX_MANIFEST_BYTES, signal);
  const signature = await readSignature(store, prefix, signal);
  const signedBy = verifyManifest(bytes, signature, publicKeys);
  const manifest = decodeManifest(bytes);
  for (const [part, expected] of Object.entries(expectedIds ?? {})) {
    const found = manifest.ids[part as keyof BackupIds];
    if (found !== expected) throw manifestCorrupt(`it belongs to the ${part} ${found}, not to ${expected}`);
  }
  return { manifest, sha256: createHash('sha256').update(bytes).digest('hex'), signedBy };
}

async function readSignature(store: ArtifactStore, prefix: string, signal?: AbortSignal): Promise<Buffer> {
  try {
    return await readAll(store, objectKey(prefix, SIGNATURE_NAME), MAX_SIGNATURE_BYTES, signal);
  } catch (error) {
    if (error instanceof EngineError && error.code === 'OBJECT_MISSING') throw signatureInvalid('its signature file is missing');
    throw error;
  }
}
