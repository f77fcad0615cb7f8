import { createHash } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import {
  ENCODING_ENTRY,
  END_MARK,
  int,
  largeObjectData,
  sampleArchive,
  tableData,
  text,
  writeHeader,
  writeLargeObjects,
  writePieces,
  writeRows,
} from '../../../test/support/archive-writer.js';
import { EngineError } from '../errors.js';
import { ARCHIVE_VERSIONS } from './archive-header.js';
import { ArchiveReader, type ArchiveSummary } from './archive-reader.js';

function read(...chunks: Buffer[]): ArchiveSummary {
  const reader = new ArchiveReader();
  for (const chunk of chunks) reader.write(chunk);
  reader.end();
  return reader.summary();
}

function sha256(bytes: Buffer | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function failure(act: () => unknown): EngineError {
  try {
    act();
  } catch (error) {
    if (error instanceof EngineError && error.code === 'ARCHIVE_CORRUPT') return error;
    throw error;
  }
  throw new Error('It did not fail');
}

describe.each(ARCHIVE_VERSIONS)('reading an archive of version %s', (version) => {
  const sample = sampleArchive(version);

  it('counts and hashes the rows of each table as COPY gives them', () => {
    const { tables, bytes, headerBytes } = read(sample.bytes);
    expect(bytes).toBe(sample.bytes.length);
    expect(headerBytes).toBe(sample.header.length);
    const common = { schema: 'public' };
    expect(tables).toEqual([
      {
        ...common,
        name: 'users',
        rows: 4,
        bytes: sample.users.length,
        sha256: sha256(sample.users),
        dumpId: 11,
        columns: ['id', 'name', 'note'],
        copyStmt: 'COPY public.users (id, name, note) FROM stdin;\n',
      },
      {
        ...common,
        name: 'empty',
        rows: 0,
        bytes: 0,
        sha256: sha256(''),
        dumpId: 13,
        columns: ['id'],
        copyStmt: 'COPY public.empty (id) FROM stdin;\n',
      },
    ]);
  });

  it('hashes large objects in the order of their ids, whatever their groups', () => {
    const records = sample.largeObjects.map(([oid, content]) => {
      const head = Buffer.alloc(12);
      head.writeUInt32BE(oid, 0);
      head.writeBigUInt64BE(BigInt(content.length), 4);
      return Buffer.concat([head, createHash('sha256').update(content).digest()]);
    });
    expect(read(sample.bytes).largeObjects).toEqual({ count: 2, bytes: 16, sha256: sha256(Buffer.concat(records)) });
  });

  it('reads the header and the table of contents', () => {
    const { entries, ...head } = read(sample.bytes).toc;
    expect(head).toEqual({
      version,
      intSize: 4,
      offSize: 8,
      createdAt: '2025-12-22T14:30:03',
      databaseName: 'shop',
      serverVersion: '16.4 (Debian)',
      dumpVersion: '16.4',
    });
    expect(entries.find((entry) => entry.dumpId === 10)).toEqual({
      dumpId: 10,
      hadDumper: false,
      catalogOid: { tableoid: 1259, oid: 16_010 },
      tag: 'users',
      desc: 'TABLE',
      section: 'pre-data',
      defn: 'CREATE TABLE …',
      dropStmt: '',
      copyStmt: null,
      schema: 'public',
      tablespace: null,
      tableAccessMethod: 'heap',
      relkind: version === '1.16' ? 'r' : null,
      owner: 'ann',
      dependencies: [2],
      dataOffset: null,
    });
    expect(new Set(entries.map((entry) => entry.section))).toEqual(new Set(['pre-data', 'none', 'data', 'post-data']));
  });

  it('gives the same from single bytes, from two pieces cut anywhere, and with empty pieces between', () => {
    const whole = JSON.stringify(read(sample.bytes));
    expect(JSON.stringify(read(...Array.from(sample.bytes, (byte) => Buffer.from([byte]))))).toBe(whole);
    for (let cut = 0; cut <= sample.bytes.length; cut += 1) {
      const summary = JSON.stringify(read(sample.bytes.subarray(0, cut), Buffer.alloc(0), sample.bytes.subarray(cut)));
      if (summary !== whole) expect([cut, summary]).toEqual([cut, whole]);
    }
  });

  it('calls every early end an error', () => {
    for (let length = 0; length < sample.bytes.length; length += 1) {
      expect(failure(() => read(sample.bytes.subarray(0, length))).message).toMatch(/ends/);
    }
  });

  it('refuses what follows the last block', () => {
    expect(failure(() => read(sample.bytes, Buffer.from([0]))).message).toMatch(/unknown type 0/);
    expect(failure(() => read(sample.bytes, Buffer.from([1]))).message).toMatch(/ends within the block/);
  });

  it('refuses compressed data', () => {
    const header = writeHeader({ version, entries: [], compression: version === '1.14' ? -1 : 3 });
    expect(failure(() => read(header)).message).toMatch(version === '1.14' ? /gzip/ : /zstd/);
  });

  it('tells of its progress', () => {
    const events: string[] = [];
    const reader = new ArchiveReader({
      onToc: (toc) => events.push(`${toc.entries.length} entries, ${reader.tablesTotal} tables`),
      onTable: (table, index) => events.push(`${index}: ${table.name}, ${reader.tablesDone} done`),
    });
    expect(reader.tablesTotal).toBeNull();
    reader.write(sample.bytes);
    expect(events).toEqual([`${version === '1.16' ? 11 : 9} entries, 2 tables`, '0: users, 1 done', '1: empty, 2 done']);
  });
});

const version = '1.15';
const oneTable = writeHeader({ version, entries: [ENCODING_ENTRY, tableData(11, 'users', '(id)')] });

function notingPlace(place: number): Buffer {
  const offset = { state: 2, value: BigInt(place) };
  return writeHeader({ version, entries: [{ ...tableData(11, 'users', '(id)'), offset }] });
}

describe('reading rows', () => {
  it('counts rows alike however the pieces divide them, and knows the mark wherever it is cut', () => {
    const rows = Buffer.from('1\n22\n\\.\\n\n333\n');
    const marked = Buffer.concat([rows, END_MARK]);
    for (let cut = 1; cut < marked.length; cut += 1) {
      const block = [Buffer.from([1]), int(11), writePieces([marked.subarray(0, cut), marked.subarray(cut)])];
      const [table] = read(oneTable, ...block).tables;
      expect([cut, table?.rows, table?.sha256]).toEqual([cut, 4, sha256(rows)]);
    }
  });

  it('reads rows of every length around its buffers, some of megabytes', () => {
    const lengths = [1, 7, 8, 9, 299, 300, 301, 65_535, 262_143, 262_144, 262_145, 262_150, 3_000_000];
    const rows = lengths.flatMap((length) => [Buffer.from(`${'x'.repeat(length - 1)}\n`), Buffer.from('short\n')]);
    const archive = Buffer.concat([oneTable, writeRows(11, rows)]);
    for (const size of [65_536, 100_003, archive.length]) {
      const chunks = Array.from({ length: Math.ceil(archive.length / size) }, (_, index) =>
        Buffer.from(archive.subarray(index * size, (index + 1) * size)),
      );
      expect(read(...chunks).tables).toMatchObject([{ rows: rows.length, sha256: sha256(Buffer.concat(rows)) }]);
    }
  });

  it('refuses rows without the mark that ends them', () => {
    const block = Buffer.concat([Buffer.from([1]), int(11), writePieces(['1\n', '2\n'])]);
    expect(failure(() => read(oneTable, block)).message).toMatch(/rows of table "public"."users" lack the mark/);
  });

  it('refuses pieces of negative and absurd length without waiting for their bytes', () => {
    const block = Buffer.concat([Buffer.from([1]), int(11)]);
    for (const length of [int(-5), Buffer.from([0, 0, 0, 0, 0x80]), Buffer.from([1, 0, 0, 0, 0]), Buffer.from([7, 1, 0, 0, 0])]) {
      failure(() => new ArchiveReader().write(Buffer.concat([oneTable, block, length])));
      const inTwo = new ArchiveReader();
      inTwo.write(Buffer.concat([oneTable, block, length.subarray(0, 3)]));
      failure(() => inTwo.write(length.subarray(3)));
      const afterRow = Buffer.concat([oneTable, block, text('1\n'), length]);
      failure(() => new ArchiveReader().write(afterRow));
    }
  });
});

describe('reading blocks', () => {
  it('refuses a block twice, of an unknown entry, of an entry without data, and of the wrong type', () => {
    const rows = writeRows(11, ['1\n']);
    expect(failure(() => read(oneTable, rows, rows)).message).toMatch(/"users" twice/);
    expect(failure(() => read(oneTable, writeRows(99, []))).message).toMatch(/unknown entry 99/);
    expect(failure(() => read(oneTable, writeRows(1, []))).message).toMatch(/unknown entry 1/);
    expect(failure(() => read(oneTable, writeLargeObjects(11, []))).message).toMatch(/has not the type/);
  });

  it('holds the places that a seekable archive notes against where the blocks are', () => {
    const place = notingPlace(0).length;
    expect(read(notingPlace(place), writeRows(11, ['1\n'])).toc.entries).toMatchObject([{ dataOffset: place }]);
    expect(failure(() => read(notingPlace(place + 1), writeRows(11, ['1\n']))).message).toMatch(/instead of/);
  });

  it('refuses a large object that comes twice', () => {
    const header = writeHeader({ version, entries: [largeObjectData(20)] });
    const twice = writeLargeObjects(20, [
      [7, []],
      [7, [Buffer.from('x')]],
    ]);
    expect(failure(() => read(header, twice)).message).toMatch(/large object 7 twice/);
  });

  it('gives the same hash for large objects in any order, and another for other contents', () => {
    const header = writeHeader({ version, entries: [largeObjectData(20)] });
    const objects = Array.from({ length: 200 }, (_, index) => [index + 1, [Buffer.from(`object ${index}`)]] as const);
    const sorted = read(header, writeLargeObjects(20, objects)).largeObjects;
    expect(read(header, writeLargeObjects(20, objects.toReversed())).largeObjects).toEqual(sorted);
    const moved = objects.map(([oid], index) => [oid, objects[(index + 1) % 200]?.[1] ?? []] as const);
    expect(read(header, writeLargeObjects(20, moved)).largeObjects).toMatchObject({ count: 200, bytes: sorted?.bytes });
    expect(read(header, writeLargeObjects(20, moved)).largeObjects?.sha256).not.toBe(sorted?.sha256);
  });

  it('tells no large objects from large objects that are none', () => {
    expect(read(oneTable, writeRows(11, [])).largeObjects).toBeNull();
    const header = writeHeader({ version, entries: [largeObjectData(20)] });
    expect(read(header, writeLargeObjects(20, [])).largeObjects).toEqual({ count: 0, bytes: 0, sha256: sha256('') });
  });

  it('has no summary before the end', () => {
    const reader = new ArchiveReader();
    reader.write(Buffer.concat([oneTable, writeRows(11, [])]));
    expect(() => reader.summary()).toThrow(/read to its end/);
  });
});
