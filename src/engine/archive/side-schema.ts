import { EngineError } from '../errors.js';
import { archiveCorrupt, archiveUnsupported } from './archive-errors.js';
import { EntryGraph, isRelation } from './entry-graph.js';
import { type EntryChange, rewriteHeader } from './header-writer.js';
import { renameRelations } from './rename-relations.js';
import type { RelationRef, SelectedEntries } from './selection.js';
import { notesOnSideSchema } from './side-schema-notes.js';
import { type ArchiveToc, TABLE_DATA, type TocEntry } from './toc.js';
import { TocReader } from './toc-reader.js';

export interface SideSchema {
  /** Takes the place of the header that was given, before the archive's data. */
  header: Buffer;
  toc: ArchiveToc;
  /** What `writeListFile` takes; nothing else of this header may be restored. */
  dumpIds: Set<number>;
  /** Tables whose rows come along, by their names in the archive; in the side schema they have the same names. */
  tables: RelationRef[];
  notes: string[];
}

/** Kinds that are made anew in the side schema, apart from relations. */
const MOVED_PARTS: ReadonlySet<string> = new Set([
  'CHECK CONSTRAINT',
  'CONSTRAINT',
  'DEFAULT',
  'FK CONSTRAINT',
  'INDEX',
  'MATERIALIZED VIEW DATA',
  'POLICY',
  'ROW SECURITY',
  'RULE',
  'SEQUENCE OWNED BY',
  'SEQUENCE SET',
  'STATISTICS',
  TABLE_DATA,
]);
const REMARKS: ReadonlySet<string> = new Set(['ACL', 'COMMENT', 'SECURITY LABEL']);
const JOINS: ReadonlySet<string> = new Set(['TABLE ATTACH', 'INDEX ATTACH']);

/**
 * Writes an archive's header anew so that the selected tables, views and sequences are restored into another schema, beside
 * the living ones: with their columns' defaults, keys, indexes, statistics, policies, rights, comments and rows. All else that
 * they use (types, functions, extensions) is the database's own as it is now. Triggers stay out, as their functions would
 * work on living tables; foreign keys lead only to tables that are restored beside.
 *
 * The schema itself has to be made before, by whoever restores.
 *
 * @param header of the archive, or what another rewriting made of it.
 * @param selected for an empty database, with structure (not dataOnly).
 * @throws EngineError TARGET_REFUSED when two relations would have the same name, or nothing can be restored so;
 *   ARCHIVE_CORRUPT for bytes that are no whole header, or SQL that pg_dump does not write
 */
export function toSideSchema(header: Buffer, selected: SelectedEntries, sideSchema: string): SideSchema {
  const toc = parse(header);
  const graph = new EntryGraph(toc);
  const moved = movedRelations(graph, selected);
  if (moved.size === 0) {
    throw new EngineError(
      'TARGET_REFUSED',
      'Nothing of what was chosen can be restored into a side schema: that takes tables, views or sequences with their structure.',
      'Choose tables, or restore into another database.',
    );
  }
  const kept = new Set(toc.entries.filter((entry) => selected.dumpIds.has(entry.dumpId) && isKept(graph, moved, entry)));
  const names = namesOf(graph, kept);
  const changes = new Map([...kept].map((entry) => [entry.dumpId, changeOf(entry, names, sideSchema)]));
  const rewritten = rewriteHeader(header, ({ dumpId }) => changes.get(dumpId));
  const data = [...kept].filter(({ desc }) => desc === TABLE_DATA);
  return {
    header: rewritten,
    toc: parse(rewritten),
    dumpIds: new Set(changes.keys()),
    tables: data.map(({ schema, tag }) => ({ schema: schema ?? '', name: tag })),
    notes: notesOnSideSchema(graph, { selected: selected.dumpIds, kept, sideSchema }),
  };
}

function parse(header: Buffer): ArchiveToc {
  const toc = new TocReader().write(header);
  if (!toc) throw archiveCorrupt('it ends within its table of contents');
  return toc;
}

/** What was asked for, parents in inheritance and tables whose rows are values, and the sequences that defaults draw from. */
function movedRelations(graph: EntryGraph, { dumpIds, whole }: SelectedEntries): Set<TocEntry> {
  const canMove = ({ desc, dumpId }: TocEntry): boolean => desc !== 'FOREIGN TABLE' && dumpIds.has(dumpId);
  const waiting = graph.entries.filter((entry) => isRelation(entry) && whole.has(entry.dumpId) && canMove(entry));
  const moved = new Set<TocEntry>();
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    if (moved.has(next)) continue;
    moved.add(next);
    const parts = graph.parts(next).filter(({ desc, dumpId }) => desc === 'DEFAULT' && dumpIds.has(dumpId));
    const parent = graph.partitionedBy(next);
    waiting.push(
      ...(next.desc === 'TABLE' ? graph.dependencies(next).filter((other) => other.desc === 'TABLE' && other !== parent) : []),
      ...[next, ...parts].flatMap((entry) => graph.dependencies(entry)).filter(({ desc }) => desc === 'SEQUENCE'),
      ...graph.parts(next).filter((part) => part.desc === 'SEQUENCE' && canMove(part)),
    );
  }
  return moved;
}

function isKept(graph: EntryGraph, moved: ReadonlySet<TocEntry>, entry: TocEntry): boolean {
  if (isRelation(entry)) return moved.has(entry);
  const relations = graph.dependencies(entry).filter(isRelation);
  if (JOINS.has(entry.desc)) return relations.every((relation) => moved.has(relation));
  const owner = graph.ownerOf(entry);
  if (!owner) return false;
  if (REMARKS.has(entry.desc)) return isKept(graph, moved, owner);
  if (!moved.has(owner) || !MOVED_PARTS.has(entry.desc)) return false;
  if (entry.desc === 'RULE') return entry.tag.endsWith(' _RETURN');
  return entry.desc !== 'FK CONSTRAINT' || relations.every((relation) => moved.has(relation));
}

/** @throws EngineError TARGET_REFUSED when two schemas have the same name for something that comes along */
function namesOf(graph: EntryGraph, kept: ReadonlySet<TocEntry>): Map<string, Set<string>> {
  const bySchema = new Map<string, Set<string>>();
  const homes = new Map<string, string>();
  for (const entry of kept) {
    const name = ownName(graph, entry);
    if (name === null) continue;
    const schema = entry.schema ?? '';
    // Statistics have names of their own kind.
    const key = `${entry.desc === 'STATISTICS'} ${name}`;
    const home = homes.get(key);
    if (home !== undefined && home !== schema) throw namedTwice(name, home, schema);
    homes.set(key, schema);
    bySchema.set(schema, (bySchema.get(schema) ?? new Set()).add(name));
  }
  return bySchema;
}

/** The name under which SQL finds it; null for what has no name of its own in the schema. */
function ownName(graph: EntryGraph, entry: TocEntry): string | null {
  if (isRelation(entry) || entry.desc === 'INDEX' || entry.desc === 'STATISTICS') return entry.tag;
  if (entry.desc !== 'CONSTRAINT') return null;
  // The index of a key has the key's name; the tag is `table key`.
  return entry.tag.slice((graph.ownerOf(entry)?.tag.length ?? -1) + 1);
}

function changeOf(entry: TocEntry, names: Map<string, Set<string>>, schema: string): EntryChange {
  const rename = (sql: string): string => {
    const renamed = renameRelations(sql, names, schema, entry.desc === 'SEQUENCE SET');
    // What does not name the copy would work on the living table.
    if (renamed.count === 0 && sql.trim() !== '') {
      throw archiveUnsupported(`the SQL of ${entry.desc} ${entry.tag} does not name what it is for`);
    }
    return renamed.sql;
  };
  return {
    schema,
    defn: rename(entry.defn),
    dropStmt: rename(entry.dropStmt),
    ...(entry.copyStmt === null ? {} : { copyStmt: rename(entry.copyStmt) }),
  };
}

function namedTwice(name: string, first: string, second: string): EngineError {
  return new EngineError(
    'TARGET_REFUSED',
    `One side schema can't hold both ${first}.${name} and ${second}.${name}.`,
    'Restore them one schema at a time, or into another database.',
  );
}
