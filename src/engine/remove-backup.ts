import type { ArtifactStore } from './store/artifact-store.js';
import { MANIFEST_NAME, objectKey } from './store/layout.js';

/**
 * Removes the objects of a backup: the manifest first, without which the rest is no backup any more, then each other object. What is
 * missing already is fine. An artifact that can't be removed keeps no other from going; it can be tried again.
 * @throws the first failure, when all was tried; at once when the manifest stays, since what it lists must stay with it
 */
export async function removeBackupObjects(store: ArtifactStore, prefix: string): Promise<void> {
  const manifest = objectKey(prefix, MANIFEST_NAME);
  await store.remove(manifest);
  const keys: string[] = [];
  for await (const { key } of store.list(prefix)) if (key !== manifest) keys.push(key);
  const failures: unknown[] = [];
  for (const key of keys) await store.remove(key).catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
  await store.removeTree(prefix);
}
