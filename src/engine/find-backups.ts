import type { ArtifactStore } from './store/artifact-store.js';
import { backupPrefix, type BackupIds, MANIFEST_NAME, parseKey } from './store/layout.js';

/** A folder with a manifest. */
export interface FoundBackup {
  ids: BackupIds;
  prefix: string;
}

/** Finds every manifest in a store, and whose it is by its place; in the order of their folders. */
export async function findBackups(store: ArtifactStore, signal: AbortSignal): Promise<FoundBackup[]> {
  const found: FoundBackup[] = [];
  for await (const { key } of store.list('', { signal })) {
    const parsed = parseKey(key);
    if (parsed?.attempt !== null || parsed.name !== MANIFEST_NAME) continue;
    const { installation, organization, source, backup } = parsed;
    found.push({ ids: { installation, organization, source, backup }, prefix: backupPrefix(parsed) });
  }
  return found.sort((a, b) => (a.prefix < b.prefix ? -1 : 1));
}
