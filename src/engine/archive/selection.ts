import { EngineError } from '../errors.js';
import { EntryGraph, isRelation } from './entry-graph.js';
import { ObjectChoice } from './object-choice.js';
import { notesOn } from './selection-notes.js';
import { type ArchiveToc, TABLE_DATA, type TocEntry } from './toc.js';

export interface RelationRef {
  schema: string;
  name: string;
}

/** What of a backup is to be restored; without schemas and tables the whole database. */
export interface Selection {
  schemas?: readonly string[];
  /** Tables, and views, materialized views, foreign tables and sequences just so. */
  tables?: readonly RelationRef[];
  /** No rows, no values of sequences, no large objects. */
  schemaOnly?: boolean;
  /** Nothing but rows, values of sequences and (of the whole database) large objects. */
  dataOnly?: boolean;
}

export interface SelectedEntries {
  /** What `writeListFile` takes. */
  dumpIds: Set<number>;
  /** Dump ids of tables, views and sequences that come along whole: those asked for, their partitions, what views read. */
  whole: Set<number>;
  /** What was asked for and the archive does not have, e.g. `schema "sales"`, `table "shop"."ordres"`. */
  missing: string[];
  /** Tables whose rows come along, those of partitions under the partition's own name; in the archive's order. */
  tables: RelationRef[];
  /** What the user should know of it, as sentences. */
  notes: string[];
}

const ROWS: ReadonlySet<string> = new Set([TABLE_DATA, 'MATERIALIZED VIEW DATA', 'SEQUENCE SET']);
/** `BLOB METADATA` since PostgreSQL 17. */
const LARGE_OBJECTS: ReadonlySet<string> = new Set(['BLOB', 'BLOB METADATA', 'BLOBS']);
/** They belong to what is not in a schema, whatever they name. */
const NEVER_BY_SCHEMA: ReadonlySet<string> = new Set([
  'INDEX ATTACH',
  'PUBLICATION TABLE',
  'PUBLICATION TABLES IN SCHEMA',
  'TABLE ATTACH',
]);

/**
 * Chooses the entries of an archive that a restore of some schemas or tables needs into a database that has nothing of them:
 * the tables with their rows, all that belongs to them (defaults, sequences, keys, indexes, statistics, triggers, rules,
 * policies, rights, comments, partitions), and what they can't be without (types, functions, extensions, schemas, parents in
 * inheritance; these tables without rows). What a chosen view reads comes along with its rows. A foreign key comes along
 * when the rows that it refers to do. Memberships in publications and, but for the whole database, large objects stay out.
 *
 * @param exists whether the target has an object already, which is then taken as it is there; left out: it has none.
 * @throws EngineError TARGET_REFUSED when both schemaOnly and dataOnly are asked for
 */
export function selectEntries(
  toc: ArchiveToc,
  selection: Selection,
  exists: (entry: TocEntry) => boolean = () => false,
): SelectedEntries {
  const { schemas = [], tables = [], schemaOnly = false, dataOnly = false } = selection;
  if (schemaOnly && dataOnly) {
    throw new EngineError(
      'TARGET_REFUSED',
      'schemaOnly and dataOnly exclude each other.',
      'Ask for one of them, or for neither.',
    );
  }
  const graph = new EntryGraph(toc);
  if (schemas.length === 0 && tables.length === 0) {
    const isWanted = wholeDatabase(graph, schemaOnly, dataOnly);
    return { ...selected(toc.entries.filter(isWanted)), whole: idsOf(toc.entries.filter(isRelation)), missing: [], notes: [] };
  }
  const choice = new ObjectChoice(graph, exists);
  const missing = [...addSchemas(choice, schemas), ...addTables(choice, tables)];
  choice.finish();
  const entries = toc.entries.filter((entry) => choice.chosen.has(entry) && isOfPart(choice, entry, schemaOnly, dataOnly));
  return { ...selected(entries), whole: idsOf([...choice.whole]), missing, notes: notesOn(choice, { schemaOnly, dataOnly }) };
}

function selected(entries: readonly TocEntry[]): Pick<SelectedEntries, 'dumpIds' | 'tables'> {
  const data = entries.filter(({ desc }) => desc === TABLE_DATA);
  return {
    dumpIds: idsOf(entries),
    tables: data.map(({ schema, tag }) => ({ schema: schema ?? '', name: tag })),
  };
}

function idsOf(entries: readonly TocEntry[]): Set<number> {
  return new Set(entries.map(({ dumpId }) => dumpId));
}

/** @returns those that are missing */
function addSchemas(choice: ObjectChoice, schemas: readonly string[]): string[] {
  const { entries } = choice.graph;
  return [...new Set(schemas)]
    .filter((name) => {
      const own = entries.filter((entry) => isOfSchema(choice.graph, entry, name));
      for (const entry of own) {
        if (isRelation(entry)) choice.addWhole(entry);
        else choice.add(entry);
      }
      return own.length === 0;
    })
    .map((name) => `schema ${quote(name)}`);
}

function isOfSchema(graph: EntryGraph, entry: TocEntry, schema: string): boolean {
  if (entry.desc === 'SCHEMA') return entry.tag === schema;
  if (entry.desc === 'EXTENSION') return extensionSchema(entry) === schema;
  if (entry.schema !== schema || NEVER_BY_SCHEMA.has(entry.desc)) return false;
  // What belongs to another object comes with that one.
  return isRelation(entry) || graph.ownerOf(entry) === undefined;
}

function addTables(choice: ObjectChoice, tables: readonly RelationRef[]): string[] {
  const { graph } = choice;
  return tables.flatMap(({ schema, name }) => {
    const relation = graph.relation(schema, name);
    if (relation) {
      choice.addWhole(relation);
      return [];
    }
    // The table of an extension is made by it: the archive has its rows alone.
    const rows = graph.entries.find((entry) => entry.desc === TABLE_DATA && entry.schema === schema && entry.tag === name);
    if (rows) choice.add(rows);
    return rows ? [] : [`table ${quote(schema)}.${quote(name)}`];
  });
}

function isOfPart(choice: ObjectChoice, entry: TocEntry, schemaOnly: boolean, dataOnly: boolean): boolean {
  if (schemaOnly) return !ROWS.has(entry.desc) && entry.desc !== 'STATISTICS DATA';
  if (!dataOnly) return true;
  if (entry.desc !== 'SEQUENCE SET') return ROWS.has(entry.desc);
  const sequence = choice.graph.ownerOf(entry);
  const table = sequence && choice.graph.ownerOf(sequence);
  return table === undefined || choice.whole.has(table) || choice.whole.has(sequence as TocEntry);
}

function wholeDatabase(graph: EntryGraph, schemaOnly: boolean, dataOnly: boolean): (entry: TocEntry) => boolean {
  const isLargeObject = (entry: TocEntry): boolean => LARGE_OBJECTS.has((graph.ownerOf(entry) ?? entry).desc);
  return (entry) => {
    if (dataOnly) return ROWS.has(entry.desc) || isLargeObject(entry);
    return !schemaOnly || !(ROWS.has(entry.desc) || entry.desc === 'STATISTICS DATA' || isLargeObject(entry));
  };
}

/** Of `CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public;`; the tag has the extension's name only. */
function extensionSchema({ defn }: TocEntry): string | null {
  const written = / WITH SCHEMA (?:"((?:[^"]|"")+)"|([^\s";]+));/.exec(defn);
  return written?.[1]?.replaceAll('""', '"') ?? written?.[2] ?? null;
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
