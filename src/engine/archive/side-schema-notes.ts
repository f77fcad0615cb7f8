import type { EntryGraph } from './entry-graph.js';
import { namesInNote } from './selection-notes.js';
import type { TocEntry } from './toc.js';

interface Kept {
  /** Dump ids of all that was selected. */
  selected: ReadonlySet<number>;
  /** What is made anew in the side schema. */
  kept: ReadonlySet<TocEntry>;
  sideSchema: string;
}

/** Kinds of objects that stay where they are, and that a selection for an empty database brings. */
const USED_AS_THEY_ARE: ReadonlySet<string> = new Set([
  'AGGREGATE',
  'COLLATION',
  'DOMAIN',
  'EXTENSION',
  'FUNCTION',
  'OPERATOR',
  'OPERATOR CLASS',
  'PROCEDURE',
  'TEXT SEARCH CONFIGURATION',
  'TYPE',
]);

/** What a restore into a side schema leaves out of a selection, as sentences. */
export function notesOnSideSchema(graph: EntryGraph, { selected, kept, sideSchema }: Kept): string[] {
  const left = graph.entries.filter((entry) => selected.has(entry.dumpId) && !kept.has(entry));
  const ofKept = (desc: string): string[] =>
    left.flatMap((entry) => {
      const owner = graph.ownerOf(entry);
      return entry.desc === desc && owner && kept.has(owner) ? [`${owner.schema}.${entry.tag.replace(' ', ': ')}`] : [];
    });
  const note = (names: readonly string[], sentence: (names: string) => string): string[] =>
    names.length === 0 ? [] : [sentence(namesInNote(names))];
  return [
    ...note(ofKept('TRIGGER'), (names) => `Triggers are left out, as their functions work on the living tables: ${names}.`),
    ...note(ofKept('RULE'), (names) => `Rules are left out, as they work on the living tables: ${names}.`),
    ...note(
      ofKept('FK CONSTRAINT'),
      (names) => `Foreign keys to tables that are not restored into ${sideSchema} are left out: ${names}.`,
    ),
    ...note(
      left.filter(({ desc }) => desc === 'FOREIGN TABLE').map(({ schema, tag }) => `${schema}.${tag}`),
      (names) => `Foreign tables are left out, since they hold no rows of their own: ${names}.`,
    ),
    ...(left.some(({ desc }) => USED_AS_THEY_ARE.has(desc))
      ? [`Types, functions and extensions are not restored: ${sideSchema} uses those of the database as they are now.`]
      : []),
    ...(graph.entries.some(({ desc, defn }) => desc === 'PUBLICATION' && / FOR ALL TABLES\b/.test(defn))
      ? [`A publication for all tables publishes those in ${sideSchema}, too.`]
      : []),
  ];
}
