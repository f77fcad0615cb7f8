import type { Abortable, ArtifactStore } from './store/artifact-store.js';
import { lockSegments } from './store/segments.js';
import { MANIFEST_NAME, objectKey, SIGNATURE_NAME } from './store/layout.js';

/**
 * Locks the objects of a whole backup until a date: artifacts, signature, and last the manifest, so that a locked manifest stands for a
 * locked backup. Can be repeated; longer locks stay. @param artifacts names of the artifacts @throws EngineError
 */
export async function lockBackup(
  store: ArtifactStore,
  prefix: string,
  artifacts: readonly string[],
  until: Date,
  options: Abortable = {},
): Promise<void> {
  for (const name of artifacts) await lockSegments(store, objectKey(prefix, name), until, options);
  for (const name of [SIGNATURE_NAME, MANIFEST_NAME]) await store.lock(objectKey(prefix, name), until, options);
}

/** Until when a backup is locked at a destination, as the store says; null when it is not. @throws EngineError */
export function backupLockedUntil(store: ArtifactStore, prefix: string, options: Abortable = {}): Promise<Date | null> {
  return store.lockedUntil(objectKey(prefix, MANIFEST_NAME), options);
}
