import { join } from 'node:path';
import { selectEntries, type Selection } from './archive/selection.js';
import { writeListFile } from './archive/list-file.js';
import { type ArchiveToc, TABLE_DATA, type TocEntry } from './archive/toc.js';
import type { TableDigest } from './artifact/manifest.js';
import { EngineError } from './errors.js';
import { relationKey } from './postgres/relations.js';
import type { OpenedArchive } from './restore-archive.js';
import { withTemporaryFolder } from './temporary-folder.js';

/** What of an archive is restored. */
export interface Chosen {
  /** Dump ids, or null for everything. */
  dumpIds: Set<number> | null;
  /** Tables whose rows come along. */
  tables: TableDigest[];
  notes: string[];
}

export function isWhole({ schemas, tables, schemaOnly, dataOnly }: Selection): boolean {
  return !schemas?.length && !tables?.length && !schemaOnly && !dataOnly;
}

/**
 * @param exists what the target has already, and is not to be made
 * @throws EngineError SELECTION_MISSING that names what the archive does not have
 */
export function choose(archive: OpenedArchive, selection: Selection, exists?: (entry: TocEntry) => boolean): Chosen {
  if (isWhole(selection)) return { dumpIds: null, tables: archive.tables, notes: [] };
  const { dumpIds, missing, tables, notes } = selectEntries(archive.toc, selection, exists);
  if (missing.length > 0) {
    throw new EngineError(
      'SELECTION_MISSING',
      `The backup does not have ${missing.join(', ')}.`,
      'GET /api/backups/:id/details lists its tables; names are exact, case and all.',
    );
  }
  const chosen = new Set(tables.map(relationKey));
  return { dumpIds, tables: archive.tables.filter((table) => chosen.has(relationKey(table))), notes };
}

/** What is chosen, without some entries. */
export function withoutEntries({ toc }: Pick<OpenedArchive, 'toc'>, chosen: Chosen, leftOut: ReadonlySet<number>): Chosen {
  if (leftOut.size === 0) return chosen;
  const isKept = (dumpId: number) => !leftOut.has(dumpId);
  const dumpIds = [...(chosen.dumpIds ?? toc.entries.map(({ dumpId }) => dumpId))].filter(isKept);
  return { ...chosen, dumpIds: new Set(dumpIds), tables: withoutRowsOf(toc, chosen.tables, leftOut) };
}

/** Tables but for those whose rows are among the entries that are left out. */
export function withoutRowsOf<T extends { schema: string; name: string }>(
  { entries }: ArchiveToc,
  tables: readonly T[],
  leftOut: ReadonlySet<number>,
): T[] {
  const rows = entries.filter(({ desc, dumpId }) => desc === TABLE_DATA && leftOut.has(dumpId));
  const gone = new Set(rows.map(({ schema, tag }) => relationKey({ schema: schema ?? '', name: tag })));
  return tables.filter((table) => !gone.has(relationKey(table)));
}

/** Gives `use` the arguments that make pg_restore take the chosen entries of an archive alone. */
export async function withChoice<T>(
  { dumpIds, toc }: { dumpIds: Set<number> | null; toc: ArchiveToc },
  use: (args: string[]) => Promise<T>,
): Promise<T> {
  if (dumpIds === null) return use([]);
  return withTemporaryFolder(async (folder) => {
    const file = join(folder, 'chosen.list');
    await writeListFile(file, toc, dumpIds);
    return use([`--use-list=${file}`]);
  });
}
