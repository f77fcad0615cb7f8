import type { ArchiveVersion } from '../../src/engine/archive/archive-header.js';

/** An entry of the table of contents, with what a test does not care about left out. */
export interface WrittenEntry {
  dumpId: number;
  tag: string;
  desc: string;
  hadDumper?: number;
  section?: number;
  defn?: string | null;
  dropStmt?: string;
  copyStmt?: string | null;
  schema?: string | null;
  owner?: string;
  relkind?: string;
  dependencies?: number[];
  /** State and place of the data block: 1 = not noted, 2 = noted, 3 = no data. */
  offset?: { state: number; value: bigint };
}

export interface WrittenHeader {
  version: ArchiveVersion;
  entries: readonly WrittenEntry[];
  compression?: number;
  offSize?: 4 | 8;
  format?: number;
  databaseName?: Buffer;
  encoding?: BufferEncoding;
}

export const SECTION = { none: 1, preData: 2, data: 3, postData: 4 } as const;
export const END_MARK = Buffer.from('\\.\n\n\n');

export function int(value: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes.writeUInt8(value < 0 ? 1 : 0, 0);
  bytes.writeUInt32LE(Math.abs(value), 1);
  return bytes;
}

export function text(value: string | Buffer | null, encoding: BufferEncoding = 'utf8'): Buffer {
  if (value === null) return int(-1);
  const bytes = typeof value === 'string' ? Buffer.from(value, encoding) : value;
  return Buffer.concat([int(bytes.length), bytes]);
}

/** Header and table of contents, as pg_dump writes them. */
export function writeHeader(header: WrittenHeader): Buffer {
  const { version, offSize = 8, compression = 0, encoding = 'utf8' } = header;
  const minor = Number(version.split('.')[1]);
  const created = [3, 30, 14, 22, 11, 125, 0];
  return Buffer.concat([
    Buffer.from('PGDMP'),
    Buffer.from([1, minor, 0, 4, offSize, header.format ?? 1]),
    version === '1.14' ? int(compression) : Buffer.from([compression]),
    ...created.map((field) => int(field)),
    text(header.databaseName ?? 'shop'),
    text('16.4 (Debian)'),
    text('16.4'),
    int(header.entries.length),
    ...header.entries.map((entry) => writeEntry(entry, version, offSize, encoding)),
  ]);
}

function writeEntry(entry: WrittenEntry, version: ArchiveVersion, offSize: 4 | 8, encoding: BufferEncoding): Buffer {
  const hadDumper = entry.hadDumper ?? 0;
  const { state, value } = entry.offset ?? { state: hadDumper ? 1 : 3, value: 0n };
  const position = Buffer.alloc(8);
  position.writeBigUInt64LE(value);
  return Buffer.concat([
    int(entry.dumpId),
    int(hadDumper),
    text('1259'),
    text(String(16_000 + entry.dumpId)),
    text(entry.tag, encoding),
    text(entry.desc),
    int(entry.section ?? (hadDumper ? SECTION.data : SECTION.preData)),
    text(entry.defn ?? '', encoding),
    text(entry.dropStmt ?? '', encoding),
    text(entry.copyStmt ?? null, encoding),
    text(entry.schema ?? null, encoding),
    text(null),
    text(entry.desc === 'TABLE' ? 'heap' : null),
    ...(version === '1.16' ? [int(entry.relkind?.charCodeAt(0) ?? 0)] : []),
    text(entry.owner ?? 'ann', encoding),
    text('false'),
    ...(entry.dependencies ?? []).map((dependency) => text(String(dependency))),
    text(null),
    Buffer.from([state]),
    position.subarray(0, offSize),
  ]);
}

/** Content as a series of pieces. */
export function writePieces(pieces: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat([...pieces.map((piece) => text(piece)), int(0)]);
}

/** A block of rows. pg_dump before 18 writes one piece a row and one for the mark. */
export function writeRows(dumpId: number, rows: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat([Buffer.from([1]), int(dumpId), writePieces([...rows, END_MARK])]);
}

export function writeLargeObjects(
  dumpId: number,
  objects: readonly (readonly [oid: number, pieces: readonly Buffer[]])[],
): Buffer {
  return Buffer.concat([
    Buffer.from([3]),
    int(dumpId),
    // Object ids are unsigned and written as if they were signed.
    ...objects.flatMap(([oid, pieces]) => [int(oid > 0x7fffffff ? oid - 2 ** 32 : oid), writePieces(pieces)]),
    int(0),
  ]);
}

export const ENCODING_ENTRY: WrittenEntry = {
  dumpId: 1,
  tag: 'ENCODING',
  desc: 'ENCODING',
  defn: "SET client_encoding = 'UTF8';\n",
};

export function tableData(dumpId: number, name: string, columns: string, schema = 'public'): WrittenEntry {
  const copyStmt = `COPY ${schema}.${name} ${columns} FROM stdin;\n`;
  return { dumpId, hadDumper: 1, tag: name, desc: 'TABLE DATA', schema, copyStmt, dependencies: [dumpId - 1] };
}

export function largeObjectData(dumpId: number): WrittenEntry {
  return { dumpId, hadDumper: 1, tag: 'BLOBS', desc: 'BLOBS' };
}

export interface SampleArchive {
  bytes: Buffer;
  header: Buffer;
  /** The rows of the table `users`, as COPY gives them. */
  users: Buffer;
  largeObjects: [oid: number, content: Buffer][];
}

/** A small archive with two tables, one of them empty, and large objects in one group (in two since 1.16). */
export function sampleArchive(version: ArchiveVersion): SampleArchive {
  const grouped = version === '1.16';
  const users = ['1\tann\t\\N\n', '2\tbob\tline\\nbreak\n', '3\tÜnï\t\n', '\n'];
  const header = writeHeader({
    version,
    entries: [
      ENCODING_ENTRY,
      { dumpId: 2, tag: 'public', desc: 'SCHEMA', section: SECTION.none },
      { dumpId: 10, tag: 'users', desc: 'TABLE', schema: 'public', defn: 'CREATE TABLE …', relkind: 'r', dependencies: [2] },
      { dumpId: 12, tag: 'empty', desc: 'TABLE', schema: 'public', defn: 'CREATE TABLE …', relkind: 'r' },
      tableData(11, 'users', '(id, name, note)'),
      tableData(13, 'empty', '(id)'),
      { dumpId: 14, tag: 'users_id_seq', desc: 'SEQUENCE SET', schema: 'public', section: SECTION.data, defn: 'SELECT …' },
      ...(grouped ? [{ dumpId: 19, tag: '16500', desc: 'BLOB METADATA', defn: '16500\n' }] : []),
      largeObjectData(20),
      ...(grouped ? [largeObjectData(21)] : []),
      {
        dumpId: 30,
        tag: 'users users_pkey',
        desc: 'CONSTRAINT',
        schema: 'public',
        section: SECTION.postData,
        dependencies: [10],
      },
    ],
  });
  const photo = Buffer.from('\x00photo\n\xff', 'latin1');
  const empty = Buffer.alloc(0);
  const blocks = grouped
    ? [writeLargeObjects(20, [[4_000_000_000, [photo, photo]]]), writeLargeObjects(21, [[16_500, []]])]
    : [
        writeLargeObjects(20, [
          [16_500, []],
          [4_000_000_000, [photo, photo]],
        ]),
      ];
  return {
    bytes: Buffer.concat([header, writeRows(11, users), writeRows(13, []), ...blocks]),
    header,
    users: Buffer.from(users.join('')),
    largeObjects: [
      [16_500, empty],
      [4_000_000_000, Buffer.concat([photo, photo])],
    ],
  };
}
