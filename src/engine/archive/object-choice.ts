import { type EntryGraph, isRelation } from './entry-graph.js';
import type { TocEntry } from './toc.js';

const READS_OTHERS: ReadonlySet<string> = new Set(['VIEW', 'MATERIALIZED VIEW']);
/** Parts that come along only under a condition: see `ObjectChoice.finish`. */
const CONDITIONAL: ReadonlySet<string> = new Set([
  'FK CONSTRAINT',
  'MATERIALIZED VIEW DATA',
  'PUBLICATION TABLE',
  'SEQUENCE OWNED BY',
  'STATISTICS DATA',
  'TABLE DATA',
]);
const JOINS: ReadonlySet<string> = new Set(['TABLE ATTACH', 'INDEX ATTACH', 'CAST', 'TRANSFORM']);
const KEYS: ReadonlySet<string> = new Set(['INDEX', 'CONSTRAINT']);

/** Grows from the objects that were asked for to all that a restore of them needs. */
export class ObjectChoice {
  /** Everything that is restored. */
  readonly chosen = new Set<TocEntry>();
  /** Relations that come along whole, rows and all. */
  readonly whole = new Set<TocEntry>();
  /** Relations that come along whole because a view that was asked for reads them. */
  readonly readByViews = new Set<TocEntry>();
  /** Foreign keys that were left out, and the tables that they refer to and that have no rows in the restore. */
  readonly keysLeftOut: { key: TocEntry; table: TocEntry; refersTo: TocEntry[] }[] = [];

  constructor(
    readonly graph: EntryGraph,
    /** Whether the target has an object already. */
    readonly exists: (entry: TocEntry) => boolean,
  ) {}

  /** A table, view or sequence with its rows; partitions go with their table, and what a view reads goes with the view. */
  addWhole(relation: TocEntry): void {
    const waiting = [relation];
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      if (this.whole.has(next)) continue;
      this.whole.add(next);
      waiting.push(...this.graph.partitions(next));
      for (const read of this.#readBy(next)) {
        if (!this.whole.has(read)) this.readByViews.add(read);
        waiting.push(read);
      }
    }
  }

  /** An object with all that it needs and all that belongs to it, without rows where it is a table. */
  add(...objects: TocEntry[]): void {
    const waiting = [...objects];
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      if (this.chosen.has(next) || this.#isThere(next)) continue;
      this.chosen.add(next);
      waiting.push(...this.#needsOf(next), ...this.graph.parts(next).filter(({ desc }) => !CONDITIONAL.has(desc)));
    }
  }

  /** Adds what joins objects that are chosen by now, and the rows of those that come along whole. */
  finish(): void {
    this.add(...this.whole);
    for (const entry of this.graph.entries) {
      if (JOINS.has(entry.desc) && this.#joinsChosen(entry)) this.add(entry);
      const owner = this.graph.ownerOf(entry);
      if (!owner || !this.chosen.has(owner)) continue;
      if (entry.desc === 'FK CONSTRAINT') this.#addForeignKey(entry, owner);
      // Where a default of another table uses the sequence, its own table need not be there.
      else if (entry.desc === 'SEQUENCE OWNED BY' && this.#hasItsTable(owner)) this.add(entry);
      else if (hasRows(entry) && this.whole.has(owner)) this.add(entry);
    }
  }

  #readBy(relation: TocEntry): TocEntry[] {
    if (!READS_OTHERS.has(relation.desc)) return [];
    const definitions = [relation, ...this.graph.parts(relation).filter(isViewRule)];
    const read = definitions.flatMap((definition) => this.graph.dependencies(definition));
    return read.filter((other) => isRelation(other) && other !== relation);
  }

  #needsOf(entry: TocEntry): TocEntry[] {
    if (hasRows(entry) && this.graph.ownerOf(entry)) return [];
    const needs = this.graph.dependencies(entry).filter((other) => this.#isNeeded(entry, other));
    return [...needs, ...this.graph.namedInBody(entry)];
  }

  #isNeeded(entry: TocEntry, other: TocEntry): boolean {
    // A partition is made as a table like any other, and attached later.
    if (entry.desc === 'TABLE' || entry.desc === 'FOREIGN TABLE') return other !== this.graph.partitionedBy(entry);
    // The same holds for its indexes and keys.
    if (KEYS.has(entry.desc) && KEYS.has(other.desc)) return this.graph.ownerOf(entry) === this.graph.ownerOf(other);
    // A sequence stands alone until OWNED BY, unless it is made by making a column an identity.
    if (entry.desc === 'SEQUENCE' && isRelation(other)) return entry.defn.trimStart().startsWith('ALTER TABLE');
    return true;
  }

  /** Whether the target has the object, or that which it belongs to. */
  #isThere(entry: TocEntry): boolean {
    if (this.whole.has(entry)) return false;
    if (this.exists(entry)) return true;
    const owner = this.graph.ownerOf(entry);
    return owner !== undefined && !this.whole.has(owner) && this.exists(owner);
  }

  #joinsChosen(entry: TocEntry): boolean {
    const joined = this.graph.dependencies(entry);
    const [some, rest] = [joined.filter((other) => this.chosen.has(other)), joined.filter((other) => !this.chosen.has(other))];
    return some.length > 0 && rest.every((other) => this.#isThere(other));
  }

  #hasItsTable(sequence: TocEntry): boolean {
    const table = this.graph.ownerOf(sequence);
    return table !== undefined && (this.chosen.has(table) || this.#isThere(table));
  }

  #addForeignKey(key: TocEntry, table: TocEntry): void {
    const others = this.graph.dependencies(key).filter((other) => isRelation(other) && other !== table);
    const hasItsRows = (other: TocEntry): boolean => this.whole.has(other) || this.#isThere(other);
    // A table without rows violates no key.
    const isEnough = this.whole.has(table) ? hasItsRows : (other: TocEntry) => this.chosen.has(other) || hasItsRows(other);
    const missing = others.filter((other) => !isEnough(other));
    if (missing.length === 0) this.add(key);
    else if (this.whole.has(table)) this.keysLeftOut.push({ key, table, refersTo: missing });
  }
}

function hasRows({ desc }: TocEntry): boolean {
  return desc === 'TABLE DATA' || desc === 'MATERIALIZED VIEW DATA' || desc === 'STATISTICS DATA';
}

/** The query of a view that is written apart from it, as it needs what is made later. */
function isViewRule({ desc, tag }: TocEntry): boolean {
  return desc === 'RULE' && tag.endsWith(' _RETURN');
}
