import { withoutSecrets } from './schema-secrets.js';
import type { ArchiveToc, TocEntry } from './toc.js';

/** Entries that are no objects of the schema: data, and what is said of the database as a whole. */
const NO_OBJECTS: ReadonlySet<string> = new Set([
  'BLOBS',
  'BLOB',
  'BLOB METADATA',
  'DATABASE',
  'DATABASE PROPERTIES',
  'ENCODING',
  'MATERIALIZED VIEW DATA',
  'SEARCHPATH',
  'SEQUENCE SET',
  'STATISTICS DATA',
  'STDSTRINGS',
  'TABLE DATA',
]);

const ASPECTS = ['definition', 'owner', 'tablespace', 'access method'] as const;
type SchemaAspect = (typeof ASPECTS)[number];

/** One object of the schema that only one of two archives has, or that both have in another form. */
export interface SchemaChange {
  change: 'added' | 'removed' | 'changed';
  /** pg_dump's word for it: TABLE, INDEX, POLICY, ACL … */
  kind: string;
  /** Null for what belongs to no schema. */
  schema: string | null;
  /** pg_dump's name for it; parts of a table begin with the table's name. */
  name: string;
  /** What differs; empty unless changed. */
  aspects: SchemaAspect[];
  /** The SQL that makes it, without secrets; null where the archive has no such object. */
  base: string | null;
  head: string | null;
}

/** What differs between the schemas of two archives, entry by entry of their tables of contents, by kind, schema and name. */
export function schemaDifference(base: ArchiveToc, head: ArchiveToc): { changes: SchemaChange[]; unchanged: number } {
  const [before, after] = [objectsOf(base), objectsOf(head)];
  const changes: SchemaChange[] = [];
  let unchanged = 0;
  for (const [key, entries] of before) {
    const others = after.get(key);
    const aspects = others ? differing(entries, others) : [];
    if (others && aspects.length === 0) unchanged++;
    else changes.push(changeOf(others ? 'changed' : 'removed', aspects, entries, others));
  }
  for (const [key, entries] of after) if (!before.has(key)) changes.push(changeOf('added', [], undefined, entries));
  return { changes: changes.sort(byKindAndName), unchanged };
}

/** Several entries may have one name (overloaded operators, for one): they are compared together. */
function objectsOf(toc: ArchiveToc): Map<string, TocEntry[]> {
  const objects = new Map<string, TocEntry[]>();
  for (const entry of toc.entries) {
    if (NO_OBJECTS.has(entry.desc)) continue;
    const key = `${entry.desc}\0${entry.schema ?? ''}\0${entry.tag}`;
    const same = objects.get(key);
    if (same) same.push(entry);
    else objects.set(key, [entry]);
  }
  return objects;
}

const VALUE_OF: Readonly<Record<SchemaAspect, (entry: TocEntry) => string>> = {
  definition: ({ defn }) => defn,
  owner: ({ owner }) => owner,
  tablespace: ({ tablespace }) => tablespace ?? '',
  'access method': ({ tableAccessMethod }) => tableAccessMethod ?? '',
};

function differing(base: readonly TocEntry[], head: readonly TocEntry[]): SchemaAspect[] {
  return ASPECTS.filter((aspect) => valuesOf(aspect, base) !== valuesOf(aspect, head));
}

function valuesOf(aspect: SchemaAspect, entries: readonly TocEntry[]): string {
  const [only, ...others] = entries.map(VALUE_OF[aspect]);
  return others.length === 0 ? (only ?? '') : [only, ...others].sort().join('\0');
}

function changeOf(
  change: SchemaChange['change'],
  aspects: SchemaAspect[],
  base: readonly TocEntry[] | undefined,
  head: readonly TocEntry[] | undefined,
): SchemaChange {
  const { desc, schema, tag } = (head ?? base ?? [])[0] as TocEntry;
  return { change, kind: desc, schema, name: tag, aspects, base: textOf(base), head: textOf(head) };
}

function textOf(entries: readonly TocEntry[] | undefined): string | null {
  if (!entries) return null;
  const texts = entries.map((entry) => {
    const owner = entry.owner === '' ? '' : `/* owner: ${entry.owner} */\n`;
    const tablespace = entry.tablespace === null ? '' : `/* tablespace: ${entry.tablespace} */\n`;
    const method = entry.tableAccessMethod === null ? '' : `/* access method: ${entry.tableAccessMethod} */\n`;
    return `${owner}${tablespace}${method}${withoutSecrets(entry).trimEnd()}\n`;
  });
  return texts.sort().join('\n');
}

function byKindAndName(a: SchemaChange, b: SchemaChange): number {
  return compare(a.schema ?? '', b.schema ?? '') || compare(a.kind, b.kind) || compare(a.name, b.name);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
