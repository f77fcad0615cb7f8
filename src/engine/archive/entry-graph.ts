import { literalsOf, qualifiedNames } from './qualified-names.js';
import type { ArchiveToc, TocEntry } from './toc.js';

/** Kinds that have rows or columns and may be asked for by name. */
const RELATIONS: ReadonlySet<string> = new Set(['TABLE', 'FOREIGN TABLE', 'VIEW', 'MATERIALIZED VIEW', 'SEQUENCE']);
/** Kinds that are nothing without a relation or domain that they stand on. */
const PARTS: ReadonlySet<string> = new Set([
  'CHECK CONSTRAINT',
  'CONSTRAINT',
  'DEFAULT',
  'FK CONSTRAINT',
  'INDEX',
  'MATERIALIZED VIEW DATA',
  'POLICY',
  'PUBLICATION TABLE',
  'ROW SECURITY',
  'RULE',
  'SEQUENCE OWNED BY',
  'SEQUENCE SET',
  'STATISTICS',
  'STATISTICS DATA',
  'TABLE DATA',
  'TRIGGER',
]);
/** Kinds that speak of any one object. */
const REMARKS: ReadonlySet<string> = new Set(['ACL', 'COMMENT', 'SECURITY LABEL']);
const ROUTINES: ReadonlySet<string> = new Set(['FUNCTION', 'PROCEDURE', 'AGGREGATE']);
const TYPES: ReadonlySet<string> = new Set(['TYPE', 'DOMAIN', 'SHELL TYPE']);

export function isRelation({ desc }: TocEntry): boolean {
  return RELATIONS.has(desc);
}

/** How an archive's entries hang together: by the dependencies that pg_dump noted, and by what only their SQL tells. */
export class EntryGraph {
  readonly entries: readonly TocEntry[];
  readonly #byId: ReadonlyMap<number, TocEntry>;
  readonly #owners = new Map<number, TocEntry>();
  readonly #parts = new Map<number, TocEntry[]>();
  readonly #relations = new Map<string, TocEntry>();
  readonly #partitions = new Map<number, number[]>();
  readonly #parents = new Map<number, number>();
  #named: Map<string, TocEntry[]> | undefined;

  constructor({ entries }: ArchiveToc) {
    this.entries = entries;
    this.#byId = new Map(entries.map((entry) => [entry.dumpId, entry]));
    for (const entry of entries) {
      if (isRelation(entry)) this.#relations.set(keyOf(entry.schema, entry.tag), entry);
      if (entry.desc === 'TABLE ATTACH') this.#addPartition(entry);
    }
    for (const entry of entries) {
      const owner = this.#findOwner(entry);
      if (!owner) continue;
      this.#owners.set(entry.dumpId, owner);
      append(this.#parts, owner.dumpId, entry);
    }
  }

  relation(schema: string | null, name: string): TocEntry | undefined {
    return this.#relations.get(keyOf(schema, name));
  }

  /** What an entry depends on and the archive holds, each once. */
  dependencies(entry: TocEntry): TocEntry[] {
    return [...new Set(entry.dependencies)].flatMap((dumpId) => this.#byId.get(dumpId) ?? []);
  }

  /** Indexes, triggers, rights, comments, data and the like that belong to an object. */
  parts({ dumpId }: TocEntry): readonly TocEntry[] {
    return this.#parts.get(dumpId) ?? [];
  }

  /** The tables that are attached to a partitioned one. */
  partitions({ dumpId }: TocEntry): TocEntry[] {
    return (this.#partitions.get(dumpId) ?? []).flatMap((partition) => this.#byId.get(partition) ?? []);
  }

  /** The table that a partition is attached to. */
  partitionedBy({ dumpId }: TocEntry): TocEntry | undefined {
    return this.#byId.get(this.#parents.get(dumpId) ?? 0);
  }

  /** The object that an index, trigger, right, comment … belongs to; undefined for an object of its own. */
  ownerOf({ dumpId }: TocEntry): TocEntry | undefined {
    return this.#owners.get(dumpId);
  }

  /**
   * Functions and types that the bodies of a function name with their schema. Nothing notes these as dependencies, and yet
   * an index or check that calls the function needs them at once.
   */
  namedInBody(entry: TocEntry): TocEntry[] {
    if (!this.#named) this.#named = this.#nameRoutinesAndTypes();
    const named = this.#named;
    return bodyNames(entry).flatMap(({ schema, name }) => named.get(keyOf(schema, name)) ?? []);
  }

  /** Relations that the body of a function names with their schema. */
  relationsInBody(entry: TocEntry): TocEntry[] {
    return bodyNames(entry).flatMap(({ schema, name }) => this.relation(schema, name) ?? []);
  }

  #findOwner(entry: TocEntry): TocEntry | undefined {
    if (entry.desc === 'SEQUENCE') return this.dependencies(entry).find(({ desc }) => RELATIONS.has(desc));
    if (REMARKS.has(entry.desc)) return this.dependencies(entry).find(({ desc }) => !REMARKS.has(desc));
    if (!PARTS.has(entry.desc)) return undefined;
    const bearers = this.dependencies(entry).filter(({ desc }) => RELATIONS.has(desc) || desc === 'DOMAIN');
    // A default names a sequence, a policy or trigger another table: the first that the statement names is the one it is made on.
    const candidates = entry.desc === 'DEFAULT' ? bearers.filter(({ desc }) => desc !== 'SEQUENCE') : bearers;
    if (candidates.length <= 1) return candidates[0];
    for (const { schema, name } of qualifiedNames(entry.defn)) {
      const owner = candidates.find((candidate) => candidate.schema === schema && candidate.tag === name);
      if (owner) return owner;
    }
    return candidates[0];
  }

  #addPartition(attach: TocEntry): void {
    const tables = this.dependencies(attach).filter(({ desc }) => desc === 'TABLE' || desc === 'FOREIGN TABLE');
    const partition = tables.find(({ schema, tag }) => schema === attach.schema && tag === attach.tag);
    const parent = tables.find((table) => table !== partition);
    if (!partition || !parent) return;
    append(this.#partitions, parent.dumpId, partition.dumpId);
    this.#parents.set(partition.dumpId, parent.dumpId);
  }

  #nameRoutinesAndTypes(): Map<string, TocEntry[]> {
    const named = new Map<string, TocEntry[]>();
    for (const entry of this.entries) {
      // A routine's tag is `name(types)`; names are without quotes there.
      if (ROUTINES.has(entry.desc)) append(named, keyOf(entry.schema, entry.tag.slice(0, entry.tag.indexOf('('))), entry);
      if (TYPES.has(entry.desc)) append(named, keyOf(entry.schema, entry.tag), entry);
    }
    return named;
  }
}

function bodyNames({ desc, defn }: TocEntry): { schema: string; name: string }[] {
  return desc === 'FUNCTION' || desc === 'PROCEDURE' ? literalsOf(defn).flatMap(qualifiedNames) : [];
}

function append<Key, Value>(map: Map<Key, Value[]>, key: Key, value: Value): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

/** A name can't hold a NUL. */
function keyOf(schema: string | null, name: string): string {
  return `${schema ?? ''}\0${name}`;
}
