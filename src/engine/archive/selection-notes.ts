import { isRelation } from './entry-graph.js';
import type { ObjectChoice } from './object-choice.js';
import { splitStatements } from './sql-statements.js';
import { TABLE_DATA, type TocEntry } from './toc.js';

const NAMES_IN_A_NOTE = 20;
const ROUTINES: ReadonlySet<string> = new Set(['FUNCTION', 'PROCEDURE']);

/** Types whose values are written as the names of objects, which must exist when the rows arrive. */
const OBJECT_NAMES = /^reg(?:class|proc|procedure|oper|operator|type|config|dictionary|role|namespace|collation)$/;

/** What a restore of some schemas or tables leaves out or adds to what was asked for, as sentences. */
export function notesOn(choice: ObjectChoice, { schemaOnly, dataOnly }: { schemaOnly: boolean; dataOnly: boolean }): string[] {
  const rows = [
    ...(schemaOnly ? [] : [...noteViews(choice), ...noteObjectNames(choice)]),
    ...(schemaOnly || dataOnly ? [] : noteEmptyTables(choice)),
  ];
  const structure = [
    ...notePartitions(choice),
    ...noteForeignKeys(choice),
    ...notePublications(choice),
    ...noteRoutines(choice),
    ...noteUserMappings(choice),
  ];
  return [
    ...rows,
    ...noteChildren(choice),
    ...(dataOnly ? noteChecksAtTarget(choice) : structure),
    ...(schemaOnly ? [] : noteLargeObjects(choice)),
  ];
}

function noteViews({ readByViews }: ObjectChoice): string[] {
  const tables = [...readByViews].filter(({ desc }) => desc === 'TABLE');
  return tables.length === 0 ? [] : [`Restored with their rows, as views that were asked for read them: ${namesOf(tables)}.`];
}

function noteObjectNames({ whole }: ObjectChoice): string[] {
  const tables = [...whole].filter(({ desc, defn }) => desc === 'TABLE' && hasObjectNames(defn));
  return tables.length === 0
    ? []
    : [`Rows that name objects (columns of type regclass and the like) need those objects at the target: ${namesOf(tables)}.`];
}

function hasObjectNames(defn: string): boolean {
  return splitStatements(defn).some(({ tokens }) =>
    tokens.some(({ kind, value }, at) => kind === 'word' && OBJECT_NAMES.test(value) && tokens[at - 1]?.value !== ':'),
  );
}

function noteEmptyTables({ chosen, whole, graph }: ObjectChoice): string[] {
  const empty = [...chosen].filter(
    (entry) => entry.desc === 'TABLE' && !whole.has(entry) && graph.parts(entry).some(({ desc }) => desc === TABLE_DATA),
  );
  return empty.length === 0
    ? []
    : [`Restored without rows, since what was asked for needs them but they were not asked for: ${namesOf(empty)}.`];
}

function notePartitions({ chosen, whole, graph }: ObjectChoice): string[] {
  return [...whole].flatMap((table) => {
    const parent = graph.partitionedBy(table);
    if (!parent || chosen.has(parent)) return [];
    return [
      `${nameOf(table)} is a partition of ${nameOf(parent)}, which was not asked for: it becomes a table of its own, without the foreign keys and triggers that it has from there.`,
    ];
  });
}

function noteChildren({ whole, graph }: ObjectChoice): string[] {
  const children = graph.entries.filter(
    (entry) =>
      entry.desc === 'TABLE' &&
      !whole.has(entry) &&
      graph.dependencies(entry).some((parent) => whole.has(parent) && parent.desc === 'TABLE' && inherits(entry)),
  );
  return children.length === 0 ? [] : [`Left out, although they inherit from what was asked for: ${namesOf(children)}.`];
}

function noteForeignKeys({ keysLeftOut }: ObjectChoice): string[] {
  return keysLeftOut.map(({ key, table, refersTo }) => {
    const name = key.tag.slice(table.tag.length + 1);
    return `The foreign key ${name} of ${nameOf(table)} is left out: the rows that it refers to, in ${namesOf(refersTo)}, were not asked for.`;
  });
}

function notePublications({ whole, graph }: ObjectChoice): string[] {
  const published = [...whole].filter((table) => graph.parts(table).some(({ desc }) => desc === 'PUBLICATION TABLE'));
  return published.length === 0 ? [] : [`Not added to the publications that they were in: ${namesOf(published)}.`];
}

function noteRoutines({ chosen, graph }: ObjectChoice): string[] {
  return [...chosen].flatMap((routine) => {
    if (!ROUTINES.has(routine.desc)) return [];
    const absent = [...new Set(graph.relationsInBody(routine))].filter((relation) => !chosen.has(relation));
    return absent.length === 0 ? [] : [`${nameOf(routine)} names what was not asked for: ${namesOf(absent)}.`];
  });
}

function noteUserMappings({ chosen, graph }: ObjectChoice): string[] {
  const servers = [...chosen].filter(({ desc }) => desc === 'SERVER');
  const hasMappings = graph.entries.some(({ desc }) => desc === 'USER MAPPING');
  return servers.length > 0 && hasMappings ? [`The user mappings are left out of: ${namesOf(servers)}.`] : [];
}

function noteChecksAtTarget({ whole, graph }: ObjectChoice): string[] {
  const referring = [...whole].filter((table) => graph.parts(table).some(({ desc }) => desc === 'FK CONSTRAINT'));
  return referring.length === 0
    ? []
    : [`Rows arrive in the backup's order, not in that of foreign keys; tables with some: ${namesOf(referring)}.`];
}

function noteLargeObjects({ graph }: ObjectChoice): string[] {
  return graph.entries.some(({ desc }) => desc === 'BLOBS')
    ? ['Large objects come back only with the whole database: columns that hold their numbers may point to nothing.']
    : [];
}

function inherits({ defn }: TocEntry): boolean {
  return /\)\s*INHERITS \(/.test(defn);
}

function namesOf(entries: readonly TocEntry[]): string {
  return namesInNote(entries.map(nameOf));
}

/** The first names of a list, and how many more there are. */
export function namesInNote(names: readonly string[]): string {
  const more = names.length - NAMES_IN_A_NOTE;
  return names.slice(0, NAMES_IN_A_NOTE).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function nameOf(entry: TocEntry): string {
  const name = entry.schema === null ? entry.tag : `${entry.schema}.${entry.tag}`;
  return isRelation(entry) ? name : `${entry.desc.toLowerCase()} ${name}`;
}
