import type { ArchiveVersion } from './archive-header.js';
import { archiveCorrupt, archiveUnsupported } from './archive-errors.js';
import type { FieldKind, StoredOffset } from './record-reader.js';

type TocSection = 'none' | 'pre-data' | 'data' | 'post-data';

/** One object of the database, or the data of one, as pg_dump lists it at the head of an archive. */
export interface TocEntry {
  dumpId: number;
  /** The archive holds a data block for it. */
  hadDumper: boolean;
  /** Its identity in the source's catalogs; zeros where it has none. */
  catalogOid: { tableoid: number; oid: number };
  /** Its name, e.g. that of the table. */
  tag: string;
  /** Its kind, e.g. `TABLE`, `TABLE DATA`, `BLOBS`, `FK CONSTRAINT`. */
  desc: string;
  section: TocSection;
  /** SQL that makes it; may hold secrets (user mappings, subscriptions). */
  defn: string;
  dropStmt: string;
  /** `COPY … FROM stdin;` of a table's data. */
  copyStmt: string | null;
  schema: string | null;
  tablespace: string | null;
  tableAccessMethod: string | null;
  /** pg_class.relkind as a letter; only archives of version 1.16 have it. */
  relkind: string | null;
  owner: string;
  /** Dump ids; some may not be in the archive. */
  dependencies: number[];
  /** Where its data block begins in the archive; null when pg_dump wrote to a pipe, as it can't go back to note it. */
  dataOffset: number | null;
}

export interface ArchiveToc {
  version: ArchiveVersion;
  intSize: number;
  offSize: number;
  /** Local time of the machine that dumped, without a zone: `2025-12-22T14:30:00`. */
  createdAt: string;
  databaseName: string;
  /** As the server gives it, e.g. `15.20 (Debian 15.20-1)`. */
  serverVersion: string;
  /** The version of pg_dump. */
  dumpVersion: string;
  entries: TocEntry[];
}

export const TABLE_DATA = 'TABLE DATA';
export const LARGE_OBJECT_DATA = 'BLOBS';

const SECTIONS: readonly (TocSection | undefined)[] = [undefined, 'none', 'pre-data', 'data', 'post-data'];
const OFFSET_NOT_SET = 1;
const OFFSET_SET = 2;
const NO_DATA = 3;

type Text = string | null;
/** The values of one stored entry, in their order. */
export type EntryValues = [
  dumpId: number,
  hadDumper: number,
  tableoid: Text,
  oid: Text,
  tag: Text,
  desc: Text,
  section: number,
  defn: Text,
  dropStmt: Text,
  copyStmt: Text,
  schema: Text,
  tablespace: Text,
  tableAccessMethod: Text,
  relkind: number | null,
  owner: Text,
  withOids: Text,
  dependencies: string[],
  position: StoredOffset,
];

/** How an entry is stored (see `WriteToc` in pg_backup_archiver.c): the fields of `EntryValues`. */
export function entryFields(version: ArchiveVersion): FieldKind[] {
  return [
    ...(['int', 'int', 'word', 'text', 'text', 'word', 'int', 'text', 'text', 'text', 'word', 'word', 'word'] as const),
    version === '1.16' ? 'int' : 'absent',
    ...(['word', 'word', 'texts', 'offset'] as const),
  ];
}

/**
 * Makes an entry of its stored values.
 * @throws EngineError ARCHIVE_CORRUPT where a value is one that pg_dump never writes, or where the entry's data has a form
 * that can't be counted (INSERT statements).
 */
export function toTocEntry(values: EntryValues): TocEntry {
  const [dumpId, hadDumper, tableoid, oid, tag, desc, section, defn, dropStmt, copyStmt, schema] = values;
  const [tablespace, tableAccessMethod, relkind, owner, , dependencies, position] = values.slice(11) as Tail;
  const broken = (what: string): Error => archiveCorrupt(`entry ${dumpId} of its table of contents ${what}`);

  if (dumpId <= 0) throw broken('has an impossible number');
  if (hadDumper !== 0 && hadDumper !== 1) throw broken('does not say whether it has data');
  if (tag === null || desc === null) throw broken('has no name');
  const sectionName = SECTIONS[section];
  if (sectionName === undefined) throw broken(`belongs to the unknown section ${section}`);

  const entry: TocEntry = {
    dumpId,
    hadDumper: hadDumper === 1,
    catalogOid: { tableoid: toNumber(tableoid ?? '0', broken), oid: toNumber(oid ?? '0', broken) },
    tag,
    desc,
    section: sectionName,
    defn: defn ?? '',
    dropStmt: dropStmt ?? '',
    copyStmt: copyStmt === '' ? null : copyStmt,
    schema: schema === '' ? null : schema,
    tablespace: tablespace === '' ? null : tablespace,
    tableAccessMethod: tableAccessMethod === '' ? null : tableAccessMethod,
    relkind: relkind === null || relkind === 0 ? null : toLetter(relkind, broken),
    owner: owner ?? '',
    dependencies: dependencies.map((dependency) => toNumber(dependency, broken)),
    dataOffset: position.state === OFFSET_SET ? Number(position.offset) : null,
  };
  checkData(entry, position.state, broken);
  return entry;
}

type Broken = (what: string) => Error;
type Tail = [Text, Text, number | null, Text, Text, string[], StoredOffset];

function checkData(entry: TocEntry, offsetState: number, broken: Broken): void {
  if (offsetState < OFFSET_NOT_SET || offsetState > NO_DATA) throw broken(`has the unknown data state ${offsetState}`);
  if (entry.hadDumper !== (offsetState !== NO_DATA)) throw broken('contradicts itself about having data');
  if (!entry.hadDumper) return;
  if (entry.desc !== TABLE_DATA && entry.desc !== LARGE_OBJECT_DATA) throw broken('has data of an unknown kind');
  if (entry.section !== 'data') throw broken('has data but stands outside the data section');
  if (entry.desc === TABLE_DATA && entry.copyStmt === null) {
    throw archiveUnsupported(`the rows of table "${entry.tag}" are INSERT statements (--inserts, --rows-per-insert)`);
  }
}

function toNumber(text: string, broken: Broken): number {
  if (!/^\d{1,10}$/.test(text)) throw broken('has a number that is none');
  return Number(text);
}

function toLetter(code: number, broken: Broken): string {
  if (code < 0x41 || code > 0x7a) throw broken(`has the unknown relation kind ${code}`);
  return String.fromCharCode(code);
}
