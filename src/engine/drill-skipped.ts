import { EntryGraph } from './archive/entry-graph.js';
import type { ArchiveToc, TocEntry } from './archive/toc.js';
import { withClient } from './postgres/client.js';
import { failureOf } from './postgres/connect-errors.js';
import type { PgConnection } from './postgres/connection.js';
import { quoteName } from './postgres/relations.js';

/** What of a backup can't be made here. */
export interface SkippedParts {
  /** Each extension that is not to be had, and what the server said to it. */
  extensions: { name: string; why: string }[];
  /** What only a superuser may make, where the restore is none, as `EVENT TRIGGER watch`. */
  forbidden: string[];
  /** What depends on these, as `TABLE public.places`. */
  dependents: string[];
  /** All entries of the archive that are left out for it, by dump id. */
  entries: ReadonlySet<number>;
}

/** What is said of an object, and the rows of one: without the object there is nothing to say. */
const ABOUT_OTHERS: ReadonlySet<string> = new Set(['ACL', 'COMMENT', 'SECURITY LABEL', 'TABLE DATA', 'SEQUENCE SET']);
/** They are there in every database, and in no archive. */
const ALWAYS_THERE = /^(?:SCHEMA public|DATABASE .*|LARGE OBJECTS? .*)$/;

/**
 * Tries each extension of a backup in an empty database, as whoever restores there would make it.
 * @param empty a database that is dropped afterwards
 * @returns those that can't be had there, with what the server says
 */
export async function unavailableExtensions(
  empty: PgConnection,
  { entries }: ArchiveToc,
  session: { applicationName: string; signal: AbortSignal },
): Promise<{ name: string; why: string }[]> {
  const names = entries.filter(({ desc }) => desc === 'EXTENSION').map(({ tag }) => tag);
  if (names.length === 0) return [];
  return withClient(empty, { ...session, settings: { search_path: 'public' } }, async (client) => {
    const unavailable: { name: string; why: string }[] = [];
    for (const name of names) {
      try {
        await client.query(`CREATE EXTENSION IF NOT EXISTS ${quoteName(name)} CASCADE`);
      } catch (error) {
        if (session.signal.aborted) throw session.signal.reason;
        const { code, message } = failureOf(error);
        if (code === undefined || !/^[0-9A-Z]{5}$/.test(code)) throw error;
        unavailable.push({ name, why: message });
      }
    }
    return unavailable;
  });
}

/**
 * What must be left out of a restore without some extensions, or without a superuser's rights: all that depends on them too, by what
 * pg_dump noted.
 */
export function skippedParts(toc: ArchiveToc, extensions: SkippedParts['extensions'], isSuperuser: boolean): SkippedParts {
  const names = new Set(extensions.map(({ name }) => name));
  const known = new Set(toc.entries.map(({ dumpId }) => dumpId));
  const isForbidden = (entry: TocEntry) => !isSuperuser && needsSuperuser(entry);
  const isRoot = (entry: TocEntry) =>
    isForbidden(entry) ||
    (names.size > 0 && ((entry.desc === 'EXTENSION' && names.has(entry.tag)) || isOfMember(entry, known) || isExclusion(entry)));
  const skipped = new Set(toc.entries.filter(isRoot).map(({ dumpId }) => dumpId));
  for (let before = 0; before < skipped.size;) {
    before = skipped.size;
    for (const entry of toc.entries) if (entry.dependencies.some((dumpId) => skipped.has(dumpId))) skipped.add(entry.dumpId);
  }
  const graph = new EntryGraph(toc);
  const isNamed = (entry: TocEntry) => {
    if (!skipped.has(entry.dumpId) || entry.desc === 'EXTENSION') return false;
    const owner = graph.ownerOf(entry);
    return ABOUT_OTHERS.has(entry.desc) ? entry.desc === 'TABLE DATA' && !owner : !owner || !skipped.has(owner.dumpId);
  };
  const named = toc.entries.filter(isNamed);
  return {
    extensions,
    forbidden: named.filter(isForbidden).map(nameOf),
    dependents: named.filter((entry) => !isForbidden(entry)).map(nameOf),
    entries: skipped,
  };
}

/** pg_dump notes its dependencies with its index, which has no entry: whether it needs an operator class of an extension can't be told. */
function isExclusion({ desc, defn }: TocEntry): boolean {
  return desc === 'CONSTRAINT' && / EXCLUDE USING /.test(defn);
}

const SUPERUSERS_KINDS: ReadonlySet<string> = new Set([
  'ACCESS METHOD',
  'EVENT TRIGGER',
  'FOREIGN DATA WRAPPER',
  'OPERATOR CLASS',
  'OPERATOR FAMILY',
  'PROCEDURAL LANGUAGE',
  'PUBLICATION TABLES IN SCHEMA',
  'SHELL TYPE',
  'SUBSCRIPTION',
  'TEXT SEARCH PARSER',
  'TEXT SEARCH TEMPLATE',
]);
/** Kinds of which only a superuser may make some: those whose SQL says this. */
const SUPERUSERS_SQL: Readonly<Record<string, RegExp>> = {
  CAST: / WITHOUT FUNCTION/,
  FUNCTION: /^ {4}LANGUAGE (?:c|internal)\b|^ {4}LANGUAGE .*\bLEAKPROOF\b/m,
  PROCEDURE: /^ {4}LANGUAGE (?:c|internal)\b/m,
  PUBLICATION: / FOR ALL TABLES\b/,
  TYPE: /^ {4}INPUT = /m,
};

function needsSuperuser({ desc, defn }: TocEntry): boolean {
  return SUPERUSERS_KINDS.has(desc) || (SUPERUSERS_SQL[desc]?.test(defn) ?? false);
}

/**
 * Whether an entry speaks of what an extension has made, such as rights on its functions or rows of its settings: the archive has no entry
 * for that. Which extension it is does not stand in it, so all of these are left out together.
 */
function isOfMember({ desc, tag, dependencies }: TocEntry, known: ReadonlySet<number>): boolean {
  if (!ABOUT_OTHERS.has(desc) || ALWAYS_THERE.test(tag)) return false;
  return dependencies.length > 0 && !dependencies.some((dumpId) => known.has(dumpId));
}

function nameOf({ desc, schema, tag }: TocEntry): string {
  return `${desc} ${schema === null ? '' : `${schema}.`}${tag}`;
}

const NAMED = 10;

/** What was left out and why, as a sentence. */
export function skippedSentence({ extensions, forbidden, dependents }: Omit<SkippedParts, 'entries'>): string {
  const causes = [
    ...extensions.map(({ name, why }) => `the extension ${name} (${why})`),
    ...(forbidden.length === 0 ? [] : [`what only a superuser may make (${listed(forbidden)})`]),
  ];
  const consequences =
    dependents.length === 0 ? 'nothing else depends on that' : `and what depends on that: ${listed(dependents)}`;
  return `Left out: ${causes.join(', ')}; ${consequences}.`;
}

/** How to mend that something was left out. */
export function hintFor({ extensions, forbidden }: Omit<SkippedParts, 'entries'>): string {
  const ways = [
    ...(extensions.length === 0 ? [] : ['install the extensions for the server programs of this machine']),
    ...(forbidden.length === 0 ? [] : ['run a worker as root, in a container of its own']),
  ].join(', and ');
  return `${ways.slice(0, 1).toUpperCase()}${ways.slice(1)}, for drills that prove that too.`;
}

function listed(names: readonly string[]): string {
  const more = names.length - NAMED;
  return `${names.slice(0, NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
