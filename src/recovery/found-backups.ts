import { findBackups } from '../engine/find-backups.js';
import type { ArtifactStore } from '../engine/store/artifact-store.js';
import type { BackupIds } from '../engine/store/layout.js';

/** The backups of one organization of one installation, at one destination. */
export interface FoundGroup {
  installation: string;
  organization: string;
  backups: (BackupIds & { prefix: string })[];
}

/** Finds every manifest at a destination, by whose they are. */
export async function findGroups(store: ArtifactStore, signal: AbortSignal): Promise<FoundGroup[]> {
  const groups = new Map<string, FoundGroup>();
  for (const { ids, prefix } of await findBackups(store, signal)) {
    const { installation, organization } = ids;
    const name = `${installation}/${organization}`;
    const group = groups.get(name) ?? { installation, organization, backups: [] };
    groups.set(name, group);
    group.backups.push({ ...ids, prefix });
  }
  return [...groups.values()];
}

/** Whether `from` means this group: by installation, organization, or both. */
export function isMeant({ installation, organization }: FoundGroup, from: string): boolean {
  return [installation, organization, `${installation}/${organization}`].includes(from);
}
