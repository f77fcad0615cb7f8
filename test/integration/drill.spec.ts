import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StagedBackup } from '../../src/engine/backup.js';
import { differencesOf } from '../../src/engine/drill-equal.js';
import { openArchive } from '../../src/engine/restore-archive.js';
import { type Verification, verifyBackup } from '../../src/engine/verify.js';
import { EngineRuns } from '../support/engine-runs.js';
import { usePostgres } from '../support/postgres.js';

const postgres = usePostgres();
const programs = { binDirs: [], requirePatched: false };
/** A drill hands its work to another user, which only root can do; elsewhere it says so. */
const ofRoot = process.getuid?.() === 0 ? describe : describe.skip;
let runs: EngineRuns;

beforeAll(async () => {
  runs = await EngineRuns.open();
  await postgres.current.exec('postgres', 'CREATE ROLE "odd; role"; CREATE ROLE reader');
});
afterAll(() => runs.close());

const sourceOf = (staged: StagedBackup) => ({
  ids: staged.ids,
  store: runs.store,
  verifyingKeys: [runs.signing.publicKeyPem],
  identities: [runs.age.identity],
  programs,
  signal: new AbortController().signal,
});
const verify = (staged: StagedBackup, level = 4): Promise<Verification> =>
  verifyBackup({ ...sourceOf(staged), runId: 'verification_1', level, assertions: [], onProgress: () => undefined });
/** How many throwaway servers this process has. */
async function clusters(): Promise<number> {
  const folders = (await readdir(tmpdir())).filter((name) => name.startsWith('backstay-cluster-'));
  const marks = await Promise.all(folders.map((name) => readFile(join(tmpdir(), name, 'owner.json'), 'utf8').catch(() => '{}')));
  return marks.filter((mark) => (JSON.parse(mark) as { owner?: { pid: number } }).owner?.pid === process.pid).length;
}

/** What a comparison could cry wolf over. */
const HONEST = [
  // Inherited columns that a restore lays out anew.
  `CREATE TABLE parent (a int, b text); CREATE TABLE child (c int) INHERITS (parent); ALTER TABLE parent ADD COLUMN d text DEFAULT 'x'`,
  `INSERT INTO parent SELECT n, 'p' FROM generate_series(1, 50) n; INSERT INTO child SELECT n, 'c', n FROM generate_series(1, 50) n`,
  // Rows in another order than they were written in.
  `CREATE TABLE moved (id int PRIMARY KEY, body text) WITH (fillfactor = 20); INSERT INTO moved SELECT n, repeat('x', 50) FROM generate_series(1, 500) n`,
  `UPDATE moved SET body = body || id WHERE id % 3 = 0; DELETE FROM moved WHERE id % 7 = 0; INSERT INTO moved SELECT n, 'new' FROM generate_series(501, 600) n`,
  // Expressions that PostgreSQL writes in another way each time.
  `CREATE TABLE orders (state varchar(10) NOT NULL CHECK (state IN ('new', 'paid', 'sent')), amount numeric CHECK (amount BETWEEN 1 AND 10))`,
  `CREATE VIEW paid AS SELECT * FROM orders WHERE state IN ('paid', 'sent'); INSERT INTO orders VALUES ('new', 3), ('paid', 4)`,
  `CREATE INDEX ON orders ((lower(state))) WHERE state IN ('new', 'paid')`,
  // Partitions, unlogged tables, empty rows, backslashes, no columns.
  `CREATE TABLE parts (k int, v text) PARTITION BY RANGE (k); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)`,
  String.raw`CREATE TABLE parts_2 PARTITION OF parts DEFAULT; INSERT INTO parts SELECT n, E'\.' FROM generate_series(1, 20) n`,
  String.raw`CREATE UNLOGGED TABLE quick AS SELECT 1 AS n; CREATE TABLE blank (t text); INSERT INTO blank VALUES (''), (''), (E'a
b'), (NULL)`,
  `CREATE TABLE none ()`,
  // Extensions, roles and settings.
  `CREATE EXTENSION hstore; CREATE EXTENSION pg_trgm; CREATE TABLE tags (t hstore); INSERT INTO tags VALUES ('a=>1')`,
  `ALTER TABLE tags OWNER TO "odd; role"; GRANT SELECT ON tags TO reader; CREATE POLICY p ON tags TO reader USING (true)`,
  `ALTER DEFAULT PRIVILEGES FOR ROLE reader GRANT SELECT ON TABLES TO "odd; role"`,
  `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Kathmandu''', current_database());
     EXECUTE format('ALTER DATABASE %I SET bytea_output = ''escape''', current_database()); END $$`,
  String.raw`CREATE TABLE b AS SELECT '\xdeadbeef'::bytea AS b, now() AS at; COMMENT ON DATABASE honest IS 'of the whole'`,
].join(';\n');

ofRoot('a drill of a sound backup', () => {
  it('proves the awkward sample equal, behind walls, and leaves nothing', async () => {
    const database = await postgres.current.createSampleDatabase();
    const before = await clusters();
    const { provenLevel, checks, failure, impossible, drill } = await verify(
      await runs.backUp(postgres.current.connection(database)),
    );
    expect({ failure, impossible }).toEqual({ failure: null, impossible: null });
    expect(provenLevel).toBe(4);
    expect(checks.filter(({ level }) => level >= 3).map(({ name, ok }) => [name, ok])).toEqual([
      ['restore drill', true],
      ['tables equal', true],
      ['sequences equal', true],
      ['large objects equal', true],
      ['schema equal', true],
    ]);
    expect(drill).toMatchObject({ tables: 33, restoreMs: expect.any(Number), isolation: { ownUser: true } });
    expect(await clusters()).toBe(before);
  });

  it.each([
    ['inheritance, moved rows, rewritten expressions, partitions, extensions, roles and settings', 'honest', HONEST, ''],
    ['LATIN1', 'latin', `CREATE TABLE "Ünï" (t text); INSERT INTO "Ünï" VALUES ('é'), ('ÿ')`, `ENCODING 'LATIN1' LOCALE 'C'`],
  ])('does not cry wolf over %s', async (_, name, sql, options) => {
    const database = await postgres.current.createDatabase(name, options);
    await postgres.current.exec(database, sql);
    const { provenLevel, checks, failure, impossible } = await verify(await runs.backUp(postgres.current.connection(database)));
    expect({ bad: checks.filter(({ ok }) => !ok), failure, impossible }).toEqual({ bad: [], failure: null, impossible: null });
    expect(provenLevel).toBe(4);
  });

  it('that this machine lacks something for says so, and says nothing of the backup', async () => {
    const database = await postgres.current.createDatabase();
    const staged = await runs.backUp(postgres.current.connection(database), {}, { type: 'config', components: ['config'] });
    const { provenLevel, failure, impossible } = await verify(staged);
    expect({ provenLevel, failure, code: impossible?.code }).toEqual({ provenLevel: 2, failure: null, code: 'DRILL_IMPOSSIBLE' });
  });
});

/** What a restore could lose or change without pg_restore saying a word: the statement, and what has to be named. */
const LOSSES: readonly (readonly [statement: string, named: RegExp])[][] = [
  [
    ['DELETE FROM items WHERE id = 7', /table public\.items: 199 rows instead of 200/],
    ['DROP TABLE notes', /schema TABLE public\.notes: It was not restored/],
    ['CREATE TABLE uninvited (n int)', /schema TABLE public\.uninvited: It is only in/],
    ['DROP INDEX items_body', /schema INDEX public\.items_body: It was not/],
    ['ALTER TABLE items DROP CONSTRAINT items_pkey', /schema CONSTRAINT public\.items items_pkey: It was not/],
    ['ALTER TABLE items DROP CONSTRAINT positive', /(CHECK CONSTRAINT|TABLE) public\.items/],
    ['ALTER TABLE items ALTER body DROP DEFAULT', /(TABLE|DEFAULT) public\.items/],
    ['ALTER TABLE items ALTER body DROP NOT NULL', /TABLE public\.items: Another definition/],
    ['DROP TRIGGER touched ON items', /schema TRIGGER public\.items touched: It was not/],
    ['DROP POLICY mine ON items', /schema POLICY public\.items mine: It was not/],
    ['ALTER TABLE items DISABLE ROW LEVEL SECURITY', /schema ROW SECURITY public\.items/],
    ["SELECT setval('counter', 5)", /sequence public\.counter/],
    ['SELECT lo_unlink(4711)', /large objects/],
    ['REVOKE SELECT ON items FROM reader', /schema ACL public\.TABLE items: It was not/],
    ['ALTER SEQUENCE counter OWNER TO reader', /SEQUENCE public\.counter: Another owner/],
    ['DROP VIEW shown', /schema VIEW public\.shown: It was not/],
    [
      'CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$',
      /FUNCTION public\.touch\(\): Another definition/,
    ],
    ["COMMENT ON TABLE items IS 'other'", /COMMENT public\.TABLE items: Another definition/],
    ["ALTER TYPE mood ADD VALUE 'odd'", /TYPE public\.mood: Another definition/],
  ],
  [
    ["UPDATE items SET body = body || '!' WHERE id = 7", /table public\.items: 200 rows on both sides/],
    ['TRUNCATE notes', /table public\.notes: 0 rows/],
    ["SELECT lo_put(4711, 0, 'X')", /large objects/],
    ['DROP SEQUENCE counter', /sequence public\.counter/],
    ['ALTER TABLE items DISABLE TRIGGER touched', /schema TRIGGER public\.items touched: Another definition/],
  ],
  [['INSERT INTO items VALUES (999)', /table public\.items: 201 rows/]],
];

describe('what a restored database lacks', () => {
  let staged: StagedBackup;
  let restored: string;

  beforeAll(async () => {
    const database = await postgres.current.createDatabase();
    await postgres.current.exec(
      database,
      `CREATE TYPE mood AS ENUM ('good', 'bad');
       CREATE TABLE items (id int CONSTRAINT items_pkey PRIMARY KEY, body text NOT NULL DEFAULT 'none', n int CONSTRAINT positive CHECK (n > 0));
       INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 200) n; CREATE INDEX items_body ON items (body);
       CREATE TABLE notes AS SELECT n FROM generate_series(1, 9) n; CREATE SEQUENCE counter; SELECT setval('counter', 42);
       CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
       CREATE TRIGGER touched BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION touch();
       ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON items USING (id > 0); GRANT SELECT ON items TO reader;
       CREATE VIEW shown AS SELECT id FROM items; COMMENT ON TABLE items IS 'kept'; SELECT lo_from_bytea(4711, 'content')`,
    );
    staged = await runs.backUp(postgres.current.connection(database));
    restored = `${database}_copy`;
    await runs.restore(staged, { mode: 'new-database', server: postgres.current.connection(), database: restored });
  });

  it('is nothing after a good restore', async () => {
    expect(
      await differencesOf(sourceOf(staged), await openArchive(sourceOf(staged)), postgres.current.connection(restored)),
    ).toEqual([]);
  });

  it.each(LOSSES.map((losses, index) => [index + 1, losses] as const))(
    'is found and named, each thing: batch %i',
    async (index, losses) => {
      const database = `lost_${index}`;
      await postgres.current.exec('postgres', `CREATE DATABASE "${database}" TEMPLATE "${restored}"`);
      for (const [statement] of losses) await postgres.current.exec(database, statement);
      const found = await differencesOf(
        sourceOf(staged),
        await openArchive(sourceOf(staged)),
        postgres.current.connection(database),
      );
      const told = found.map(({ kind, name, detail }) => `${kind} ${name}: ${detail}`).join('\n');
      for (const [, named] of losses) expect(told).toMatch(named);
    },
  );
});

ofRoot('a hostile dump', () => {
  it('runs in the drill as nobody of ours, without a network', async () => {
    const database = await postgres.current.createDatabase();
    await postgres.current.exec(
      database,
      `CREATE TABLE seen (line text);
       CREATE FUNCTION look() RETURNS boolean LANGUAGE plpgsql AS $f$
         BEGIN
           IF current_setting('application_name') NOT LIKE 'backstay:%' OR current_setting('data_directory') NOT LIKE '%backstay-cluster-%' THEN RETURN true; END IF;
           CREATE TEMP TABLE IF NOT EXISTS out (line text);
           COPY pg_temp.out FROM PROGRAM 'id -u; cat /proc/net/route 2>/dev/null | wc -l; cat ${runs.folder}/* /root/.npmrc /etc/shadow 2>/dev/null | wc -c';
           IF (SELECT string_agg(trim(line), ',') FROM pg_temp.out) NOT LIKE '%,0' THEN RAISE EXCEPTION 'reached: %', (SELECT string_agg(line, ',') FROM pg_temp.out); END IF;
           RETURN true;
         END $f$;
       CREATE TABLE trap (n int CHECK (public.look())); INSERT INTO trap VALUES (1)`,
    );
    const { provenLevel, failure } = await verify(await runs.backUp(postgres.current.connection(database)), 3);
    expect({ provenLevel, failure: failure?.message ?? null }).toEqual({ provenLevel: 3, failure: null });
  });
});
