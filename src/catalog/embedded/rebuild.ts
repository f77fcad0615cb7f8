import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from '../../engine/store/local-files.js';
import { migrateCatalog, NewerCatalogError } from '../migrations.js';
import { removeDurably, writeDurably } from './durable-file.js';
import { openPglite } from './pglite.js';
import { verifySnapshot } from './snapshot-file.js';
import { importRows } from './snapshot-rows.js';
import type { Snapshots } from './snapshots.js';

const DATA = 'pgdata';
const DAMAGED = 'pgdata.damaged-';
/** Beside a folder that is only being made: what it holds is worth nothing. */
const FOUNDING = 'pgdata.founding';
const DAMAGED_KEPT = 3;

/** How a catalog was rebuilt. */
export interface Rebuild {
  at: string;
  /** What was wrong with the old one. */
  cause: string;
  /** Where the old one lies; null when there was none. */
  setAside: string | null;
  /** The snapshot that it was rebuilt from, and its time; null when there was no good one. */
  snapshot: string | null;
  snapshotAt: string | null;
  /** Newer snapshots that could not be used, with the reason. */
  refused: string[];
}

/** A rebuild, and what the manifests brought. */
export interface RebuildNote extends Rebuild {
  fromManifests: number;
  broken: number;
}

/** What an operator has to know of it. */
export function rebuiltSentence(note: RebuildNote): string {
  const from =
    note.snapshotAt === null
      ? 'No snapshot of it was whole, so it was made anew'
      : `It was rebuilt from its snapshot of ${note.snapshotAt}`;
  const kept = note.setAside === null ? '' : ` The old one lies in ${note.setAside}.`;
  const broken = note.broken === 0 ? '' : ` ${note.broken} backups have no manifest any more and are marked broken.`;
  return `The embedded catalog was damaged (${note.cause}). ${from} at ${note.at}, and ${note.fromManifests} backups were taken from their manifests.${broken}${kept} Sources, keys, restores and audit entries newer than the snapshot have to be entered anew.`;
}

export function dataFolder(home: string): string {
  return join(home, DATA);
}

/** Removes a folder whose making was cut off. @returns whether there was one */
export async function clearUnfinished(home: string): Promise<boolean> {
  if (!(await readdir(home)).includes(FOUNDING)) return false;
  await rm(dataFolder(home), { recursive: true, force: true });
  await removeDurably(join(home, FOUNDING));
  return true;
}

/** Makes a new, empty catalog; `fill` may put something into it. Cut off, it leaves nothing that could be taken for a catalog. */
export async function foundCatalog(
  home: string,
  fill: (db: Parameters<typeof migrateCatalog>[0]) => Promise<void>,
): Promise<void> {
  await writeDurably(join(home, FOUNDING), '');
  const opened = await openPglite(dataFolder(home));
  try {
    await fill(opened.db);
  } finally {
    await opened.close();
  }
  await removeDurably(join(home, FOUNDING));
}

/** Moves a catalog out of the way, and forgets all but the last three that were. @returns its new path; null when there is none */
export async function setAside(home: string, now: Date): Promise<string | null> {
  const names = await readdir(home);
  if (!names.includes(DATA)) return null;
  const older = names.filter((name) => name.startsWith(DAMAGED)).sort();
  for (const name of older.slice(0, Math.max(0, older.length + 1 - DAMAGED_KEPT)))
    await rm(join(home, name), { recursive: true, force: true });
  const path = join(home, `${DAMAGED}${now.toISOString().replaceAll(':', '-')}`);
  await rename(dataFolder(home), path);
  await syncFolder(home);
  return path;
}

/**
 * Makes a catalog from the newest snapshot that is whole, or an empty one when none is.
 * @throws when the snapshot is of a newer version of the server
 */
export async function rebuildFromSnapshots(
  home: string,
  snapshots: Snapshots,
): Promise<Pick<Rebuild, 'snapshot' | 'snapshotAt' | 'refused'>> {
  const refused: string[] = [];
  for (const name of await snapshots.list()) {
    const file = snapshots.pathOf(name);
    try {
      const header = await verifySnapshot(file);
      await foundCatalog(home, async (db) => {
        await migrateCatalog(db, header.migrations);
        await importRows(db, file, header);
        await migrateCatalog(db);
      });
      return { snapshot: name, snapshotAt: header.at, refused };
    } catch (error) {
      if (error instanceof NewerCatalogError) throw error;
      refused.push(`${name}: ${(error as Error).message}`);
      await clearUnfinished(home);
    }
  }
  await foundCatalog(home, async (db) => void (await migrateCatalog(db)));
  return { snapshot: null, snapshotAt: null, refused };
}
