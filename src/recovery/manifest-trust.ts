import { BACKUP_ID } from '../common/identifiers.js';
import type { OpenDestination } from '../destinations/stores.js';
import { type LoadedManifest, loadManifest, readManifestHash } from '../engine/artifact/load-manifest.js';
import type { Manifest } from '../engine/artifact/manifest.js';
import { EngineError } from '../engine/errors.js';
import type { ArtifactStore } from '../engine/store/artifact-store.js';
import { objectKey } from '../engine/store/layout.js';
import { storedBytes } from '../engine/store/segments.js';
import type { OpeningKeys } from '../keys/keyring.js';
import type { FoundGroup } from './found-backups.js';

export type FoundBackup = FoundGroup['backups'][number];

/** A manifest that is trusted, and why. */
export interface TrustedManifest {
  loaded: LoadedManifest;
  scope: 'server' | 'organization';
  isPinned: boolean;
}

/** Whose word counts. */
export interface Trusting {
  destination: OpenDestination;
  /** Null where the server's keys are not to be used. */
  servers: OpeningKeys | null;
  organizations: OpeningKeys;
  /** Why manifests are to be taken in although nothing proves who wrote them. */
  overrideReason: string | undefined;
  signal: AbortSignal;
}

/** @throws EngineError when no key that is trusted has signed it, and nobody has said to take it in all the same */
export async function trustManifest(backup: FoundBackup, work: Trusting): Promise<TrustedManifest> {
  const { store } = work.destination;
  const { prefix, ...ids } = backup;
  if (!BACKUP_ID.test(ids.backup))
    throw new EngineError('MANIFEST_CORRUPT', `${ids.backup} is not the id of a backup.`, 'It was not written by this product.');
  const load = async (keys: OpeningKeys) => loadManifest(store, prefix, keys, ids, work.signal);
  if (work.servers)
    try {
      return { loaded: await load(work.servers), scope: 'server', isPinned: false };
    } catch (error) {
      if (!(error instanceof EngineError) || error.code !== 'SIGNATURE_INVALID') throw error;
    }
  if (work.servers && work.overrideReason !== undefined) {
    const trustedManifestSha256 = await readManifestHash(store, prefix, work.signal);
    return { loaded: await load({ ...work.servers, trustedManifestSha256 }), scope: 'server', isPinned: true };
  }
  return { loaded: await load(work.organizations), scope: 'organization', isPinned: false };
}

/** Level 0 is that every artifact is there in its size. @returns what is wrong, or null */
export async function missingArtifact(
  store: ArtifactStore,
  prefix: string,
  manifest: Manifest,
  signal: AbortSignal,
): Promise<string | null> {
  for (const { name, storedBytes: expected } of manifest.artifacts) {
    const stored = await storedBytes(store, objectKey(prefix, name), expected, { signal });
    if (stored === null) return `${name} was not at the destination when the backup was adopted.`;
    if (stored !== expected) return `${name} had ${stored} bytes instead of ${expected} when the backup was adopted.`;
  }
  return null;
}
