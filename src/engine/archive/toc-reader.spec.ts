import { describe, expect, it } from '@jest/globals';
import {
  ENCODING_ENTRY,
  int,
  SECTION,
  tableData,
  text,
  type WrittenEntry,
  writeHeader,
} from '../../../test/support/archive-writer.js';
import { EngineError } from '../errors.js';
import type { ArchiveToc } from './toc.js';
import { TocReader } from './toc-reader.js';

const version = '1.16';

function read(bytes: Buffer, limit?: number): ArchiveToc | null {
  return new TocReader(limit).write(bytes);
}

function readEntry(entry: Partial<WrittenEntry>): ArchiveToc | null {
  return read(writeHeader({ version, entries: [{ ...tableData(11, 'users', '(id)'), ...entry }] }));
}

function inEncoding(name: string, bytes: Buffer): ArchiveToc | null {
  const defn = `SET client_encoding = '${name}';\n`;
  const entries = [{ ...ENCODING_ENTRY, defn }, tableData(11, bytes.toString('latin1'), '(id)')];
  return read(writeHeader({ version, databaseName: bytes, entries, encoding: 'latin1' }));
}

function named(name: string): object {
  return { databaseName: name, entries: [{}, { tag: name }] };
}

function expectRefusal(act: () => unknown, message: RegExp): void {
  let caught: unknown;
  try {
    act();
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(EngineError);
  expect(caught).toMatchObject({ code: 'ARCHIVE_CORRUPT', message: expect.stringMatching(message) });
}

describe('reading the header of an archive', () => {
  const header = writeHeader({ version, entries: [] });
  const changed = (at: number, byte: number): Buffer => {
    const bytes = Buffer.from(header);
    bytes[at] = byte;
    return bytes;
  };

  it('refuses what is no custom archive of a known version', () => {
    expectRefusal(() => read(Buffer.from('-- PostgreSQL database dump')), /does not begin with PGDMP/);
    expectRefusal(() => read(changed(6, 13)), /version 1\.13/);
    expectRefusal(() => read(changed(6, 17)), /version 1\.17/);
    expectRefusal(() => read(changed(5, 2)), /version 2\.16/);
    expectRefusal(() => read(changed(8, 8)), /integers have 8 bytes/);
    expectRefusal(() => read(changed(9, 3)), /offsets have 3 bytes/);
    expectRefusal(() => read(changed(10, 3)), /format tar/);
  });

  it('refuses a creation time that is none', () => {
    const seconds = header.indexOf(Buffer.concat([int(3), int(30), int(14)]));
    expectRefusal(() => read(changed(seconds + 1, 61)), /creation time/);
  });

  it('reads offsets of four bytes', () => {
    const toc = read(writeHeader({ version, entries: [ENCODING_ENTRY, tableData(11, 'users', '(id)')], offSize: 4 }));
    expect(toc).toMatchObject({ offSize: 4, entries: [{ tag: 'ENCODING' }, { tag: 'users' }] });
  });
});

describe('reading a table of contents', () => {
  it('reads names in the encoding of the dump', () => {
    expect(inEncoding('UTF8', Buffer.from('Ünï�'))).toMatchObject(named('Ünï�'));
    expect(inEncoding('LATIN1', Buffer.from('Ünï\x80', 'latin1'))).toMatchObject(named('Ünï\x80'));
    expect(inEncoding('LATIN9', Buffer.from([0xa4]))).toMatchObject(named('€'));
    expect(inEncoding('WIN1251', Buffer.from([0xc4, 0xe0]))).toMatchObject(named('Да'));
    expect(inEncoding('EUC_JP', Buffer.from([0xc6, 0xfc]))).toMatchObject(named('日'));
    expect(inEncoding('SQL_ASCII', Buffer.from('Ünï'))).toMatchObject(named('Ünï'));
    expect(inEncoding('SQL_ASCII', Buffer.from([0xdc]))).toMatchObject(named('Ü'));
  });

  it('refuses entries that contradict themselves', () => {
    expectRefusal(() => readEntry({ dumpId: 0 }), /impossible number/);
    expectRefusal(() => readEntry({ dumpId: -3 }), /impossible number/);
    expectRefusal(() => readEntry({ hadDumper: 2 }), /whether it has data/);
    expectRefusal(() => readEntry({ section: 0 }), /unknown section 0/);
    expectRefusal(() => readEntry({ section: 5 }), /unknown section 5/);
    expectRefusal(() => readEntry({ section: SECTION.postData }), /outside the data section/);
    expectRefusal(() => readEntry({ offset: { state: 0, value: 0n } }), /data state 0/);
    expectRefusal(() => readEntry({ offset: { state: 3, value: 0n } }), /contradicts itself/);
    expectRefusal(() => readEntry({ hadDumper: 0, offset: { state: 1, value: 0n } }), /contradicts itself/);
    expectRefusal(() => readEntry({ desc: 'VIEW' }), /unknown kind/);
    expectRefusal(() => readEntry({ relkind: '\x01' }), /relation kind/);
    expectRefusal(() => readEntry({ dependencies: [-1] }), /number that is none/);
  });

  it('refuses rows that were dumped as INSERT statements', () => {
    expectRefusal(() => readEntry({ copyStmt: null }), /INSERT statements/);
    expectRefusal(() => readEntry({ copyStmt: '' }), /INSERT statements/);
  });

  it('refuses an entry that comes twice', () => {
    expectRefusal(() => read(writeHeader({ version, entries: [ENCODING_ENTRY, ENCODING_ENTRY] })), /entry 1 twice/);
  });

  it('never trusts a count or a length', () => {
    const empty = writeHeader({ version, entries: [] });
    const beforeCount = empty.subarray(0, empty.length - 5);
    expectRefusal(() => read(Buffer.concat([beforeCount, int(-1)])), /claims -1 entries/);
    expect(read(Buffer.concat([beforeCount, int(0x7fffffff)]))).toBeNull();
    const entry = Buffer.concat([beforeCount, int(1), int(7), int(0)]);
    expectRefusal(() => read(Buffer.concat([entry, int(-2)])), /length -2/);
    expectRefusal(() => read(Buffer.concat([entry, int(0x7fffffff)])), /more than 536870912 bytes/);
    expect(read(Buffer.concat([entry, int(400 * 1024 * 1024)]))).toBeNull();
  });

  it('stops at its limit', () => {
    const header = writeHeader({ version, entries: [ENCODING_ENTRY] });
    expect(read(header, header.length)).not.toBeNull();
    expectRefusal(() => read(header, header.length - 1), /more than \d+ bytes/);
  });

  it('puts a text of megabytes together from small pieces in linear time', () => {
    const defn = 'SELECT 1; '.repeat(800_000);
    const bytes = writeHeader({ version, entries: [{ dumpId: 5, tag: 'f', desc: 'FUNCTION', defn }] });
    const reader = new TocReader();
    let toc: ArchiveToc | null = null;
    for (let at = 0; at < bytes.length; at += 100) toc = reader.write(bytes.subarray(at, at + 100));
    expect(toc?.entries[0]?.defn).toBe(defn);
    expect(reader.headerBytes).toBe(bytes.length);
  });

  it('leaves to the reader of data what follows in the same chunk', () => {
    const reader = new TocReader();
    const header = writeHeader({ version, entries: [ENCODING_ENTRY] });
    expect(reader.write(header.subarray(0, 50))).toBeNull();
    expect(reader.write(Buffer.concat([header.subarray(50), text('data')]))).not.toBeNull();
    expect([reader.headerBytes, reader.restBytes]).toEqual([header.length, 9]);
  });
});
