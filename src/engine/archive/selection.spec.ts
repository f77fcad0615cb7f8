import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import {
  ENCODING_ENTRY,
  largeObjectData,
  SECTION,
  tableData,
  type WrittenEntry,
  writeHeader,
} from '../../../test/support/archive-writer.js';
import { ARCHIVE_VERSIONS } from './archive-header.js';
import { writeListFile } from './list-file.js';
import { type SelectedEntries, selectEntries, type Selection } from './selection.js';
import { TocReader } from './toc-reader.js';
import type { ArchiveToc } from './toc.js';

/** An entry in the schema `a`. */
function entry(
  dumpId: number,
  desc: string,
  tag: string,
  dependencies: number[] = [],
  more: Partial<WrittenEntry> = {},
): WrittenEntry {
  return { dumpId, desc, tag, schema: 'a', dependencies, ...more };
}

const ENTRIES: WrittenEntry[] = [
  ENCODING_ENTRY,
  entry(2, 'SCHEMA', 'a', [], { schema: null }),
  entry(3, 'ACL', 'SCHEMA a', [2], { schema: null }),
  entry(4, 'EXTENSION', 'hstore', [], { schema: null, defn: 'CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA "b ""c""";\n' }),
  entry(5, 'FUNCTION', 'check_it(integer)', [2], {
    defn: 'CREATE FUNCTION a.check_it(integer) AS $$ SELECT a.helper($1), a."t 2" $$;',
  }),
  entry(6, 'FUNCTION', 'helper(integer)', [2]),
  entry(7, 'FUNCTION', 'unused(integer)', [2]),
  entry(10, 'TABLE', 't', [2, 5], { defn: 'CREATE TABLE a.t (id integer, other regclass);' }),
  entry(12, 'TABLE', 't 2', [2]),
  entry(14, 'TABLE', 'part', [2, 12]),
  entry(16, 'TABLE ATTACH', 'part', [14, 12]),
  entry(17, 'SEQUENCE', 't_id_seq', [2, 10], { defn: 'CREATE SEQUENCE a.t_id_seq' }),
  entry(18, 'SEQUENCE OWNED BY', 't_id_seq', [17]),
  entry(19, 'DEFAULT', 't id', [17, 10]),
  entry(20, 'DEFAULT', 't 2 id', [12, 17]),
  entry(21, 'VIEW', 'v', [2]),
  entry(22, 'MATERIALIZED VIEW', 'm', [2, 21]),
  entry(23, 'TABLE', 'settings', [4], { schema: 'x' }),
  { ...tableData(11, 't', '(id, other)', 'a'), dependencies: [10] },
  { ...tableData(15, 'part', '(id)', 'a'), dependencies: [14] },
  { ...tableData(31, 'config', '(id)', 'b'), dependencies: [4] },
  largeObjectData(32),
  entry(33, 'SEQUENCE SET', 't_id_seq', [17], { section: SECTION.data }),
  entry(40, 'CONSTRAINT', 't t_pkey', [10], { section: SECTION.postData }),
  entry(41, 'CONSTRAINT', 't 2 t2_pkey', [12], { section: SECTION.postData }),
  entry(42, 'CONSTRAINT', 'part part_pkey', [14, 41], { section: SECTION.postData }),
  entry(43, 'INDEX ATTACH', 'part_pkey', [42, 41, 14, 12], { section: SECTION.postData }),
  entry(44, 'FK CONSTRAINT', 't t_fkey', [12, 10, 41], {
    section: SECTION.postData,
    defn: 'ALTER TABLE a.t ADD FOREIGN KEY (id) REFERENCES a."t 2"(id)',
  }),
  entry(45, 'RULE', 'v _RETURN', [10, 40, 21], {
    section: SECTION.postData,
    defn: 'CREATE OR REPLACE VIEW a.v AS SELECT id FROM a.t',
  }),
  entry(46, 'POLICY', 't 2 p', [10, 12], {
    section: SECTION.postData,
    defn: 'CREATE POLICY p ON a."t 2" USING (EXISTS (SELECT FROM a.t))',
  }),
  entry(47, 'COMMENT', 'POLICY p ON a."t 2"', [46], { section: SECTION.none }),
  entry(48, 'PUBLICATION', 'changes', [], { schema: null, section: SECTION.postData }),
  entry(49, 'PUBLICATION TABLE', 'changes t', [10, 48], { section: SECTION.postData }),
  entry(50, 'MATERIALIZED VIEW DATA', 'm', [22], { section: SECTION.postData }),
];

describe.each(ARCHIVE_VERSIONS)('choosing what to restore of an archive of version %s', (version) => {
  const toc = tocOf(writeHeader({ version, entries: ENTRIES }));
  const select = (selection: Selection): SelectedEntries => selectEntries(toc, selection);
  const ids = ({ dumpIds }: SelectedEntries): number[] => [...dumpIds].sort((left, right) => left - right);
  const table = (name: string, schema = 'a'): Selection => ({ tables: [{ schema, name }] });

  it('takes everything when nothing is chosen', () => {
    const all = select({});
    expect(ids(all)).toEqual(ENTRIES.map(({ dumpId }) => dumpId).sort((left, right) => left - right));
    expect(all.tables.map(({ name }) => name)).toEqual(['t', 'part', 'config']);
  });

  it('takes structure or rows of everything', () => {
    const data = [11, 15, 31, 32, 33, 50];
    expect(ids(select({ dataOnly: true }))).toEqual(data);
    const structure = ENTRIES.map(({ dumpId }) => dumpId).filter((dumpId) => !data.includes(dumpId));
    expect(ids(select({ schemaOnly: true }))).toEqual(structure.sort((left, right) => left - right));
    expect(() => select({ schemaOnly: true, dataOnly: true })).toThrow(/exclude each other/);
  });

  it('takes a table with what belongs to it and what it needs, as far as functions in functions', () => {
    expect(ids(select(table('t')))).toEqual([2, 3, 5, 6, 10, 11, 17, 18, 19, 33, 40]);
  });

  it('says what it leaves out, and where rows may not fit', () => {
    expect(select(table('t')).notes).toEqual([
      'Rows that name objects (columns of type regclass and the like) need those objects at the target: a.t.',
      'The foreign key t_fkey of a.t is left out: the rows that it refers to, in a.t 2, were not asked for.',
      'Not added to the publications that they were in: a.t.',
      'function a.check_it(integer) names what was not asked for: a.t 2.',
      'Large objects come back only with the whole database: columns that hold their numbers may point to nothing.',
    ]);
  });

  it('takes a foreign key when both its tables come along, or when the target has the other', () => {
    const both: Selection = { tables: ['t', 't 2'].map((name) => ({ schema: 'a', name })) };
    expect(select(both).dumpIds).toContain(44);
    const beside = selectEntries(toc, table('t'), ({ desc, tag }) => (desc === 'TABLE' && tag === 't 2') || desc === 'SCHEMA');
    expect(ids(beside)).toEqual([5, 6, 10, 11, 17, 18, 19, 33, 40, 44]);
  });

  it('takes partitions with their table, and a partition alone as a table of its own', () => {
    expect(ids(select(table('t 2')))).toEqual(expect.arrayContaining([12, 14, 15, 16, 41, 42, 43, 46, 47]));
    const alone = select(table('part'));
    expect(ids(alone)).toEqual([2, 3, 14, 15, 42]);
    expect(alone.notes[0]).toMatch(/^a\.part is a partition of a\.t 2, which was not asked for/);
  });

  it('takes the rows of what a materialized view reads through views, with the query that stands apart', () => {
    const chosen = select(table('m'));
    expect(ids(chosen)).toEqual(expect.arrayContaining([10, 11, 21, 22, 45, 50]));
    expect(chosen.tables).toEqual([{ schema: 'a', name: 't' }]);
    expect(chosen.notes).toContain('Restored with their rows, as views that were asked for read them: a.t.');
    expect(ids(select({ ...table('m'), schemaOnly: true }))).not.toContain(50);
  });

  it('takes the structure of a table that a policy reads, and no rows of it', () => {
    const chosen = select(table('t 2'));
    expect(chosen.dumpIds).toContain(10);
    expect(chosen.dumpIds).not.toContain(11);
    expect(chosen.notes[0]).toBe('Restored without rows, since what was asked for needs them but they were not asked for: a.t.');
  });

  it('takes a schema with what is in it, extensions among them, and what these need from elsewhere', () => {
    expect(ids(select({ schemas: ['a'] }))).toEqual(
      ENTRIES.filter(({ dumpId, schema }) => schema === 'a' && dumpId !== 49)
        .map(({ dumpId }) => dumpId)
        .concat(2, 3, 11, 15)
        .filter((id, at, all) => all.indexOf(id) === at)
        .sort((left, right) => left - right),
    );
    expect(ids(select({ schemas: ['b "c"'] }))).toEqual([4]);
    expect(ids(select({ schemas: ['x'] }))).toEqual([4, 23]);
  });

  it('takes the rows that an archive has of the table of an extension', () => {
    expect(ids(select(table('config', 'b')))).toEqual([4, 31]);
  });

  it('takes rows alone', () => {
    const chosen = select({ ...table('t'), dataOnly: true });
    expect(ids(chosen)).toEqual([11, 33]);
    expect(chosen.tables).toEqual([{ schema: 'a', name: 't' }]);
    expect(chosen.notes).toContainEqual(expect.stringMatching(/not in that of foreign keys; tables with some: a\.t\.$/));
  });

  it('names what the archive does not have', () => {
    expect(select({ schemas: ['a', 'gone'], tables: [{ schema: 'a', name: 'g"one' }] }).missing).toEqual([
      'schema "gone"',
      'table "a"."g""one"',
    ]);
  });
});

describe('the list for pg_restore', () => {
  it('has the numbers alone, in the order of the archive, in a file for its owner only', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'backstay-list-'));
    try {
      const path = join(folder, 'list');
      await writeListFile(path, tocOf(writeHeader({ version: '1.14', entries: ENTRIES })), new Set([40, 11, 2, 31]));
      expect(await readFile(path, 'utf8')).toBe('2;\n11;\n31;\n40;\n');
      expect((await stat(path)).mode & 0o777).toBe(0o600);
      await expect(writeListFile(path, { entries: [] } as unknown as ArchiveToc, new Set())).rejects.toThrow(/EEXIST/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

function tocOf(header: Buffer): ArchiveToc {
  const toc = new TocReader().write(header);
  if (!toc) throw new Error('The header is cut');
  return toc;
}
