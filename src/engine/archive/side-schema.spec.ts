import { describe, expect, it } from '@jest/globals';
import { ENCODING_ENTRY, SECTION, tableData, type WrittenEntry, writeHeader } from '../../../test/support/archive-writer.js';
import { ARCHIVE_VERSIONS } from './archive-header.js';
import { renameRelations } from './rename-relations.js';
import { type Selection, selectEntries } from './selection.js';
import { type SideSchema, toSideSchema } from './side-schema.js';
import { TocReader } from './toc-reader.js';

const NAMES = new Map([
  ['a', new Set(['t', 'T"2', 'seq'])],
  ['o\'c "x" \\', new Set(['s'])],
]);
const renamed = (sql: string, isSetval = false): string => renameRelations(sql, NAMES, 'side "1"', isSetval).sql;

describe('putting another schema before names in SQL', () => {
  it.each([
    ['CREATE TABLE a.t (id integer);', 'CREATE TABLE "side ""1""".t (id integer);'],
    ['ALTER TABLE ONLY a."T""2" ADD', 'ALTER TABLE ONLY "side ""1"""."T""2" ADD'],
    ['COMMENT ON COLUMN a.t.a IS', 'COMMENT ON COLUMN "side ""1""".t.a IS'],
    ['FOREIGN KEY (x) REFERENCES a.t(id)', 'FOREIGN KEY (x) REFERENCES "side ""1""".t(id)'],
    ['FROM ("a".t JOIN b.t ON ((t.a = a.x)))', 'FROM ("side ""1""".t JOIN b.t ON ((t.a = a.x)))'],
    ["DEFAULT nextval('a.seq'::regclass)", `DEFAULT nextval('"side ""1""".seq'::regclass)`],
    ["nextval('a.seq'::pg_catalog.regclass)", `nextval('"side ""1""".seq'::pg_catalog.regclass)`],
    [`nextval('"o''c ""x"" \\".s'::regclass)`, `nextval('"side ""1""".s'::regclass)`],
  ])('changes %s', (sql, expected) => {
    expect(renamed(sql)).toBe(expected);
  });

  it.each([
    'CHECK (a.t(id) > 0)',
    "COMMENT ON TABLE b.t IS 'a.t and ''a.t''';",
    "DEFAULT 'a.seq'::text",
    "CHECK (x <> 'see a.seq'::regclass)",
    'SELECT x.a.t, A, "A".t, a.tt, a . t, 1.t',
    'AS $$ SELECT FROM a.t $$',
    '"a.t"',
  ])('leaves %s', (sql) => {
    expect(renamed(sql)).toBe(sql);
  });

  it('finds a sequence whose value is set, which has no cast', () => {
    expect(renamed("SELECT pg_catalog.setval('a.seq', 9, true);", true)).toBe(
      `SELECT pg_catalog.setval('"side ""1""".seq', 9, true);`,
    );
  });
});

function entry(dumpId: number, desc: string, tag: string, dependencies: number[], defn: string, schema = 'a'): WrittenEntry {
  return { dumpId, desc, tag, schema, dependencies, defn, dropStmt: `DROP … ${schema}.${desc === 'TABLE' ? tag : 't'};` };
}

const POST = { section: SECTION.postData };
const ENTRIES: WrittenEntry[] = [
  ENCODING_ENTRY,
  entry(5, 'FUNCTION', 'f()', [], 'CREATE FUNCTION a.f() …'),
  entry(10, 'TABLE', 't', [], 'CREATE TABLE a.t (id integer CHECK (a.f() > id));'),
  entry(20, 'TABLE', 'child', [10], 'CREATE TABLE b.child () INHERITS (a.t);', 'b'),
  { ...tableData(11, 't', '(id)', 'a'), dependencies: [10] },
  { ...tableData(21, 'child', '(id)', 'b'), dependencies: [20] },
  { ...entry(30, 'CONSTRAINT', 't pkey', [10], 'ALTER TABLE ONLY a.t ADD CONSTRAINT pkey PRIMARY KEY (id);'), ...POST },
  { ...entry(31, 'COMMENT', 'CONSTRAINT pkey ON t', [30], "COMMENT ON CONSTRAINT pkey ON a.t IS 'of a.t';"), dropStmt: '' },
  { ...entry(32, 'TRIGGER', 't trg', [10, 5], 'CREATE TRIGGER trg BEFORE INSERT ON a.t EXECUTE FUNCTION a.f();'), ...POST },
];

describe.each(ARCHIVE_VERSIONS)('putting tables of an archive of version %s into a side schema', (version) => {
  const headerOf = (entries: WrittenEntry[]): Buffer => writeHeader({ version, entries });
  function beside(selection: Selection, entries = ENTRIES): SideSchema {
    const header = headerOf(entries);
    const toc = new TocReader().write(header);
    if (!toc) throw new Error('The header is cut');
    return toSideSchema(header, selectEntries(toc, selection), 'restored_1');
  }
  const found = ({ toc }: SideSchema, dumpId: number) => toc.entries.find((each) => each.dumpId === dumpId);

  it('changes every entry that is to be restored, and no other', () => {
    const side = beside({ tables: [{ schema: 'a', name: 't' }] });
    expect([...side.dumpIds]).toEqual([10, 11, 30, 31]);
    expect(side.tables).toEqual([{ schema: 'a', name: 't' }]);
    expect(found(side, 10)).toMatchObject({
      schema: 'restored_1',
      defn: 'CREATE TABLE "restored_1".t (id integer CHECK (a.f() > id));',
      dropStmt: 'DROP … "restored_1".t;',
    });
    expect(found(side, 11)).toMatchObject({ schema: 'restored_1', copyStmt: 'COPY "restored_1".t (id) FROM stdin;\n' });
    expect(found(side, 31)?.defn).toBe(`COMMENT ON CONSTRAINT pkey ON "restored_1".t IS 'of a.t';`);
    expect(found(side, 20)).toMatchObject({ schema: 'b', defn: 'CREATE TABLE b.child () INHERITS (a.t);' });
  });

  it('leaves out triggers and says so', () => {
    expect(beside({ tables: [{ schema: 'a', name: 't' }] }).notes).toEqual([
      'Triggers are left out, as their functions work on the living tables: a.t: trg.',
      'Types, functions and extensions are not restored: restored_1 uses those of the database as they are now.',
    ]);
  });

  it('lets a child inherit from an empty copy, never from the living parent', () => {
    const side = beside({ tables: [{ schema: 'b', name: 'child' }] });
    expect(side.dumpIds).toContain(10);
    expect(side.dumpIds).not.toContain(11);
    expect(found(side, 20)?.defn).toBe('CREATE TABLE "restored_1".child () INHERITS ("restored_1".t);');
  });

  it('refuses two tables of one name', () => {
    const twice = [...ENTRIES.slice(0, 3), entry(12, 'TABLE', 't', [], 'CREATE TABLE b.t ();', 'b')];
    expect(() => beside({ schemas: ['a', 'b'] }, twice)).toThrow(/can't hold both a\.t and b\.t/);
  });

  it('refuses SQL that would work on a living table', () => {
    const strange = [...ENTRIES.slice(0, 3), entry(30, 'CONSTRAINT', 't pkey', [10], 'ALTER TABLE t ADD PRIMARY KEY (id);')];
    expect(() => beside({ tables: [{ schema: 'a', name: 't' }] }, strange)).toThrow(
      /CONSTRAINT t pkey does not name what it is for/,
    );
  });

  it('refuses what holds no table with its structure', () => {
    expect(() => beside({ schemas: ['none'] })).toThrow(/Nothing of what was chosen/);
    expect(() => beside({ schemas: ['a'], dataOnly: true })).toThrow(/Nothing of what was chosen/);
  });
});
