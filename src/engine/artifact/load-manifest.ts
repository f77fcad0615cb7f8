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

/** Who is believed, and what is known of the manifest beforehand. */
export interface ManifestTrust {
  /** The signing keys (SPKI PEM) that are trusted. */
  verifyingKeys: readonly string[];
  /** SHA-256 of the one manifest that is trusted without a signature. */
  trustedManifestSha256?: string | undefined;
  /** SHA-256 that it must have: the catalog remembers which manifest it has written. */
  expectedManifestSha256?: string | undefined;
}

export interface LoadedManifest {
  manifest: Manifest;
  /** SHA-256 (hex) of its exact bytes, which the source's next manifest holds. */
  sha256: string;
  /** The id of the key that signed it; null when it is trusted by its hash alone. */
  signedBy: string | null;
}

/**
 * Reads a backup's manifest and believes it only when a trusted key signed its exact bytes.
 * @param prefix the backup's folder
 * @param trust the trusted signing keys, or more that is known
 * @param expectedIds whose it must be: a genuine manifest in another backup's place is refused
 * @throws EngineError OBJECT_MISSING (no manifest: no backup), SIGNATURE_INVALID, MANIFEST_CORRUPT, STORE_FAILED
 */
export async function loadManifest(
  store: ArtifactStore,
  prefix: string,
  trust: readonly string[] | ManifestTrust,
  expectedIds?: Partial<BackupIds>,
  signal?: AbortSignal,
): Promise<LoadedManifest> {
  const { verifyingKeys, trustedManifestSha256, expectedManifestSha256 } = isTrust(trust) ? trust : { verifyingKeys: trust };
  const bytes = await readAll(store, objectKey(prefix, MANIFEST_NAME), MAX_MANIFEST_BYTES, signal);
  const found = createHash('sha256').update(bytes).digest('hex');
  const signedBy =
    found === trustedManifestSha256 ? null : verifyManifest(bytes, await readSignature(store, prefix, signal), verifyingKeys);
  if (expectedManifestSha256 !== undefined && expectedManifestSha256 !== found)
    throw manifestCorrupt(`it is another one (SHA-256 ${found}) than the one that was written (${expectedManifestSha256})`);
  const manifest = decodeManifest(bytes);
  for (const [part, expected] of Object.entries(expectedIds ?? {})) {
    const named = manifest.ids[part as keyof BackupIds];
    if (named !== expected) throw manifestCorrupt(`it belongs to the ${part} ${named}, not to ${expected}`);
  }
  return { manifest, sha256: found, signedBy };
}

/** SHA-256 (hex) of a manifest's bytes, whoever wrote them. @throws EngineError OBJECT_MISSING, STORE_FAILED */
export async function readManifestHash(store: ArtifactStore, prefix: string, signal?: AbortSignal): Promise<string> {
  const bytes = await readAll(store, objectKey(prefix, MANIFEST_NAME), MAX_MANIFEST_BYTES, signal);
  return createHash('sha256').update(bytes).digest('hex');
}

function isTrust(trust: readonly string[] | ManifestTrust): trust is ManifestTrust {
  return 'verifyingKeys' in trust;
}

async function readSignature(store: ArtifactStore, prefix: string, signal?: AbortSignal): Promise<Buffer> {
  try {
    return await readAll(store, objectKey(prefix, SIGNATURE_NAME), MAX_SIGNATURE_BYTES, signal);
  } catch (error) {
    if (error instanceof EngineError && error.code === 'OBJECT_MISSING') throw signatureInvalid('its signature file is missing');
    throw error;
  }
}
