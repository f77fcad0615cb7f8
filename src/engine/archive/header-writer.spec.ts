import { describe, expect, it } from '@jest/globals';
import {
  ENCODING_ENTRY,
  sampleArchive,
  tableData,
  type WrittenEntry,
  writeHeader,
} from '../../../test/support/archive-writer.js';
import { ARCHIVE_VERSIONS, type ArchiveVersion } from './archive-header.js';
import { ArchiveReader } from './archive-reader.js';
import { type EntryChange, rewriteHeader } from './header-writer.js';
import { TocReader } from './toc-reader.js';
import type { ArchiveToc } from './toc.js';

function read(header: Buffer): ArchiveToc {
  const toc = new TocReader().write(header);
  if (!toc) throw new Error('The header is cut');
  return toc;
}

function summary(archive: Buffer): unknown {
  const reader = new ArchiveReader();
  reader.write(archive);
  reader.end();
  const { tables, largeObjects } = reader.summary();
  return { tables, largeObjects };
}

function withPlace(place: bigint, defn: string): WrittenEntry[] {
  return [
    { dumpId: 10, tag: 'users', desc: 'TABLE', defn, relkind: 'r' },
    { ...tableData(11, 'users', '(id)'), offset: { state: 2, value: place } },
    { ...tableData(12, 'later', '(id)'), offset: { state: 1, value: 0n } },
  ];
}

function inLatin1(version: ArchiveVersion, owner: string, defn: string): Buffer {
  const encoding = { ...ENCODING_ENTRY, defn: "SET client_encoding = 'LATIN1';\n" };
  return writeHeader({ version, encoding: 'latin1', entries: [encoding, { dumpId: 2, tag: 'Ünï', desc: 'TABLE', owner, defn }] });
}

const nothing = (): undefined => undefined;

describe.each(ARCHIVE_VERSIONS)('rewriting the header of an archive of version %s', (version) => {
  const { header, bytes } = sampleArchive(version);
  const change = (changes: Record<number, EntryChange>): Buffer => rewriteHeader(header, ({ dumpId }) => changes[dumpId]);

  it('gives the same bytes where nothing changes', () => {
    expect(rewriteHeader(header, nothing)).toEqual(header);
    expect(rewriteHeader(header, ({ owner, defn }) => ({ owner, defn, drop: false }))).toEqual(header);
    const empty = writeHeader({ version, entries: [] });
    expect(rewriteHeader(empty, nothing)).toEqual(empty);
  });

  it('changes what it is told to change and nothing else', () => {
    const before = read(header);
    const after = read(change({ 10: { owner: '', defn: 'CREATE TABLE „Ünï“' }, 30: { owner: 'bob' } }));
    const expected = before.entries.map((entry) => {
      if (entry.dumpId === 10) return { ...entry, owner: '', defn: 'CREATE TABLE „Ünï“' };
      return entry.dumpId === 30 ? { ...entry, owner: 'bob' } : entry;
    });
    expect(after).toEqual({ ...before, entries: expected });
  });

  it('can put the data of a table elsewhere', () => {
    const elsewhere = { schema: 'Üb er', copyStmt: 'COPY "Üb er".users (id) FROM stdin;\n', dropStmt: 'DROP …' };
    const after = read(change({ 11: elsewhere }));
    expect(after.entries.find(({ dumpId }) => dumpId === 11)).toMatchObject({ ...elsewhere, tag: 'users', desc: 'TABLE DATA' });
    expect(after.entries.filter(({ dumpId }) => dumpId !== 11)).toEqual(
      read(header).entries.filter(({ dumpId }) => dumpId !== 11),
    );
  });

  it('writes the very bytes that pg_dump would have written', () => {
    const entries: WrittenEntry[] = [
      ENCODING_ENTRY,
      { dumpId: 2, tag: 'gone', desc: 'ACL', dependencies: [1, 7] },
      { dumpId: 3, tag: 'kept', desc: 'TABLE', defn: 'long', owner: 'bob', relkind: 'r', dependencies: [2] },
      tableData(4, 'kept', '(id)'),
    ];
    const wanted = [entries[0], { ...entries[2], defn: 'a statement', owner: '' }, entries[3]] as WrittenEntry[];
    const rewritten = rewriteHeader(writeHeader({ version, entries }), ({ dumpId }) => {
      if (dumpId === 3) return { defn: 'a statement', owner: '' };
      return { drop: dumpId === 2 };
    });
    expect(rewritten).toEqual(writeHeader({ version, entries: wanted }));
  });

  it('can undo any change of any entry', () => {
    for (const { dumpId, owner, defn } of read(header).entries) {
      const there = change({ [dumpId]: { owner: `${owner} and more`, defn: '' } });
      expect(there).not.toEqual(header);
      expect(rewriteHeader(there, (entry) => (entry.dumpId === dumpId ? { owner, defn } : undefined))).toEqual(header);
    }
  });

  it('leaves an archive whose data reads as before', () => {
    const rewritten = change({ 2: { drop: true }, 10: { owner: '' }, 30: { drop: true } });
    expect(read(rewritten).entries.filter(({ dumpId }) => dumpId === 2 || dumpId === 30)).toEqual([]);
    expect(read(rewritten).entries).toHaveLength(read(header).entries.length - 2);
    expect(summary(Buffer.concat([rewritten, bytes.subarray(header.length)]))).toEqual(summary(bytes));
  });

  it.each([4, 8] as const)('moves the noted places of data, of %d bytes, with the length of the header', (offSize) => {
    const write = (place: bigint, defn: string): Buffer => writeHeader({ version, offSize, entries: withPlace(place, defn) });
    const rewrite = (defn: string): Buffer =>
      rewriteHeader(write(5_000n, 'four'), ({ dumpId }) => (dumpId === 10 ? { defn } : undefined));
    expect(rewrite('fourteen')).toEqual(write(5_004n, 'fourteen'));
    expect(rewrite('')).toEqual(write(4_996n, ''));
    expect(rewrite('five')).toEqual(write(5_000n, 'five'));
  });

  it('refuses to drop an entry with data', () => {
    expect(() => change({ 11: { drop: true } })).toThrow(/Entry 11 has data/);
    expect(() => change({ 20: { drop: true } })).toThrow(/Entry 20 has data/);
  });

  it('refuses a cut header and one with data behind it', () => {
    expect(() => rewriteHeader(header.subarray(0, -1), nothing)).toThrow(/ends within its table of contents/);
    expect(() => rewriteHeader(bytes, nothing)).toThrow(/More than the header/);
  });

  it('keeps to the encoding of the archive', () => {
    const rewritten = rewriteHeader(inLatin1(version, 'é', 'ß'), ({ dumpId }) =>
      dumpId === 2 ? { owner: 'ÿ', defn: 'Äß' } : undefined,
    );
    expect(rewritten).toEqual(inLatin1(version, 'ÿ', 'Äß'));
  });
});
