import { mkdir, mkdtemp, chmod, chown, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { extract } from 'tar-stream';
import { readArtifactPlain } from '../../src/engine/artifact/artifact-reader.js';
import type { BackupRequest, StagedBackup } from '../../src/engine/backup.js';
import { chooseClientPrograms, type ClientPrograms, findClientPrograms } from '../../src/engine/postgres/client-programs.js';
import { withPgEnvironment } from '../../src/engine/postgres/environment.js';
import { startProgram } from '../../src/engine/postgres/run-program.js';
import { backupPrefix, objectKey } from '../../src/engine/store/layout.js';
import { copyPlainly, type DatabasePortrait, differencesOf, portray } from '../support/compare-databases.js';
import { EngineRuns } from '../support/engine-runs.js';
import { TestPostgres, usePostgres } from '../support/postgres.js';

// A database comes back as a plain `pg_dump | pg_restore` brings it: each case is restored both ways, and the two are compared.

const postgres = usePostgres({ max_locks_per_transaction: '1024' });
let engine: EngineRuns;
let programs: ClientPrograms;
let count = 0;

beforeAll(async () => {
  engine = await EngineRuns.open();
  programs = chooseClientPrograms(await findClientPrograms({ binDirs: [] }), postgres.current.cluster.major);
});
afterAll(() => engine.close());

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;
const connectionTo = (database: string) => postgres.current.connection(database);
const portrait = (database: string) => portray(connectionTo(database), programs);

/** SQL that makes an empty database of the same encoding and locale. */
async function likeness(database: string): Promise<string> {
  const [row] = await postgres.current.query<{ options: string }>(
    'postgres',
    `SELECT format('ENCODING %L LC_COLLATE %L LC_CTYPE %L', pg_encoding_to_char(encoding), datcollate, datctype)
         || CASE WHEN j ->> 'datlocprovider' = 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', coalesce(j ->> 'daticulocale', j ->> 'datlocale')) ELSE '' END AS options
       FROM pg_database CROSS JOIN to_jsonb(pg_database) j WHERE datname = $1`,
    [database],
  );
  return row?.options ?? '';
}

async function emptyLike(database: string): Promise<string> {
  return postgres.current.createDatabase(`other_${++count}`, await likeness(database));
}

interface Tried {
  staged: StagedBackup;
  /** Name of the database that the engine restored. */
  restored: string;
  reference: DatabasePortrait;
  /** What plain pg_restore complained of. */
  complaints: string;
}

/** Backs a database up, restores it by the given mode and plainly, and expects no difference between the two. */
async function expectAsPlain(
  database: string,
  { mode = 'new-database', target = `copy_${++count}` }: { mode?: 'new-database' | 'url'; target?: string } = {},
): Promise<Tried> {
  const staged = await engine.backUp(connectionTo(database));
  const restored = mode === 'url' ? await emptyLike(database) : target;
  const outcome = await engine.restore(
    staged,
    mode === 'url'
      ? { mode, connection: connectionTo(restored) }
      : { mode, server: connectionTo('postgres'), database: restored },
  );
  const plain = await emptyLike(database);
  const complaints = await copyPlainly(connectionTo(database), connectionTo(plain), programs);
  const reference = await portrait(plain);
  expect(differencesOf(reference, await portrait(restored))).toEqual([]);
  expect(outcome).toMatchObject({ countsEqual: true, differences: [], warnings: [] });
  for (const used of [plain, restored]) await postgres.current.exec('postgres', `DROP DATABASE ${quoted(used)}`);
  return { staged, restored, reference, complaints };
}

async function made(sql: string, { name = `case_${++count}`, options = '' } = {}): Promise<string> {
  await postgres.current.createDatabase(name, options);
  await postgres.current.exec(name, sql);
  return name;
}

describe('the awkward sample', () => {
  let sample: string;
  beforeAll(async () => {
    sample = await postgres.current.createSampleDatabase('sample');
  });

  it.each(['new-database', 'url'] as const)('comes back whole by %s, with every row of the source', async (mode) => {
    const { reference, complaints } = await expectAsPlain(sample, { mode });
    expect(complaints).toBe('');
    const source = await portrait(sample);
    expect(source.tables.size).toBeGreaterThan(30);
    // Plain pg_dump brings no content of materialized views: they are computed anew, and the same.
    expect(differencesOf({ ...source, schema: '' }, { ...reference, schema: '' })).toEqual([]);
  });

  it('is told apart from a database in which one value, one sequence or one large object differs', async () => {
    const source = await portrait(sample);
    const changed = await emptyLike(sample);
    await copyPlainly(connectionTo(sample), connectionTo(changed), programs);
    await postgres.current.exec(
      changed,
      `UPDATE shop.products SET title = title || '!' WHERE id = 7; SELECT setval('shop.untouched', 5); SELECT lo_put(770002, 0, '\\x01'); DROP VIEW shop.open_orders;`,
    );
    expect(differencesOf(source, await portrait(changed))).toEqual([
      expect.stringContaining('shop.products'),
      expect.stringContaining('shop.untouched'),
      expect.stringContaining('770002'),
      expect.stringContaining('the schema differs'),
    ]);
  });
});

describe('settings of the database', () => {
  const settings: [string, string][] = [
    ['timezone', "'Asia/Kolkata'"],
    ['datestyle', "'SQL, DMY'"],
    ['intervalstyle', "'iso_8601'"],
    ['bytea_output', "'escape'"],
    ['extra_float_digits', '-15'],
    ['search_path', '"$user", public, "a,b", "it\'s ""here"""'],
    ['default_transaction_read_only', 'on'],
    ['default_transaction_isolation', "'serializable'"],
    ['statement_timeout', "'5ms'"],
    ['lock_timeout', "'5ms'"],
    ['idle_in_transaction_session_timeout', "'5ms'"],
    ['row_security', 'off'],
    ['session_replication_role', "'replica'"],
    ['standard_conforming_strings', 'off'],
    ['backslash_quote', 'off'],
    ['quote_all_identifiers', 'on'],
    ['my.setting', `'it''s \\ "x"'`],
    ['temp_tablespaces', `''`],
    ['client_encoding', "'LATIN1'"],
    ['lc_monetary', "'C'"],
    ['xmloption', "'document'"],
    ['default_table_access_method', "'heap'"],
    ['check_function_bodies', 'on'],
  ];

  it('change neither what is backed up nor whether it can be restored, and come with a new database', async () => {
    const database = await made(`
      CREATE TABLE moments AS SELECT i AS id, timestamptz '2024-03-31 00:59:59.123456+00' + i * interval '1 hour' AS at, i * interval '1 day 02:03:04' AS during,
        i / 3.0::float8 AS f8, (i / 7.0)::real AS f4, decode(md5(i::text), 'hex') AS bytes, i::money AS cash, 'Grüße € ' || i AS words FROM generate_series(1, 300) AS i;
      CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children (id int REFERENCES parents); INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1);
      CREATE FUNCTION backslashes() RETURNS text LANGUAGE sql AS $$ SELECT E'a\\\\b\\'c' $$;`);
    const plainSettings = await portrait(database);
    await postgres.current.exec('postgres', 'CREATE ROLE visitor');
    for (const [name, value] of settings) {
      await postgres.current.exec('postgres', `ALTER DATABASE ${database} SET ${name} TO ${value}`);
    }
    await postgres.current.exec(
      'postgres',
      // The second is of every database, and no copy's business.
      `ALTER ROLE visitor IN DATABASE ${database} SET work_mem TO '8MB'; ALTER ROLE visitor SET work_mem TO '7MB';`,
    );
    const read = (of: string) =>
      postgres.current.query(
        'postgres',
        `SELECT setrole::regrole::text AS role, array(SELECT unnest(setconfig) ORDER BY 1) AS settings FROM pg_db_role_setting
           WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = $1) ORDER BY 1`,
        [of],
      );
    const staged = await engine.backUp(connectionTo(database));
    const target = `settings_${++count}`;
    const outcome = await engine.restore(staged, { mode: 'new-database', server: connectionTo('postgres'), database: target });
    expect(outcome).toMatchObject({ countsEqual: true, warnings: [] });
    expect(await read(target)).toEqual(await read(database));
    await postgres.current.exec('postgres', `ALTER DATABASE ${target} RESET ALL`);
    expect(differencesOf(plainSettings, await portrait(target))).toEqual([]);

    const empty = await emptyLike(database);
    for (const [name, value] of settings) {
      await postgres.current.exec('postgres', `ALTER DATABASE ${empty} SET ${name} TO ${value}`);
    }
    await engine.restore(staged, { mode: 'url', connection: connectionTo(empty) });
    await postgres.current.exec('postgres', `ALTER DATABASE ${empty} RESET ALL`);
    expect(differencesOf(plainSettings, await portrait(empty))).toEqual([]);
  });
});

describe('encodings', () => {
  const words = `
    CREATE SCHEMA "Größe"; CREATE TABLE "Größe"."Straße" ("Üb" text PRIMARY KEY, ß text CHECK (ß <> 'é'));
    INSERT INTO "Größe"."Straße" SELECT 'ä' || i || 'ÿ', 'ñ' || chr(160 + i % 96) FROM generate_series(1, 200) AS i;
    COMMENT ON TABLE "Größe"."Straße" IS 'Maß «ça»'; CREATE SEQUENCE "Größe"."zähler"; SELECT setval('"Größe"."zähler"', 77);
    CREATE VIEW "Größe".ansicht AS SELECT 'für' || "Üb" AS "Öl" FROM "Größe"."Straße";`;

  it.each([
    ['LATIN1', "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"],
    ['LATIN9', "ENCODING 'LATIN9' LC_COLLATE 'C' LC_CTYPE 'C'"],
    ['WIN1252', "ENCODING 'WIN1252' LC_COLLATE 'C' LC_CTYPE 'C'"],
  ])('%s comes back by both modes, names and all', async (_, options) => {
    const database = await made(words.replace('160 + i % 96', '192 + i % 64'), { options });
    const { staged } = await expectAsPlain(database);
    expect(staged.tables.map(({ schema, name }) => `${schema}.${name}`)).toEqual(['Größe.Straße']);
    await expectAsPlain(database, { mode: 'url' });
  });

  it('SQL_ASCII comes back with values that are no UTF-8', async () => {
    const database = await made(
      `CREATE TABLE bytes AS SELECT i AS id, convert_from(decode(to_hex(128 + i % 128) || 'c328', 'hex'), 'SQL_ASCII') AS word FROM generate_series(1, 200) AS i;
       CREATE TABLE "né" AS SELECT 1 AS "ü";`,
      { options: "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'" },
    );
    const { staged } = await expectAsPlain(database);
    expect(staged.tables).toMatchObject([
      { name: 'bytes', rows: 200 },
      { name: 'né', rows: 1 },
    ]);
    await expectAsPlain(database, { mode: 'url' });
  });

  it('SQL_ASCII with a name that is no UTF-8 is refused with a sentence', async () => {
    const database = await made(
      `DO $$ BEGIN EXECUTE format('CREATE TABLE %I (a int)', convert_from('\\x6ee96d', 'SQL_ASCII')); END $$;`,
      { options: "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'" },
    );
    await expect(engine.backUp(connectionTo(database))).rejects.toMatchObject({
      code: 'DUMP_FAILED',
      hint: expect.stringContaining('a name in it is not UTF-8'),
    });
  });

  it('a database with a locale of ICU comes back with it', async () => {
    const options = "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'de-DE-u-kn-true'";
    const probe = await postgres.current.createDatabase('icu', options).catch((error: unknown) => String(error));
    // Built without ICU, or older than 15: then there is no such database that could be lost.
    if (probe !== 'icu') return expect(probe).toMatch(/ICU|syntax|option|provider/i);
    await postgres.current.exec('icu', words);
    const { reference } = await expectAsPlain('icu');
    expect(reference.kind).toContain('de-DE-u-kn');
  });
});

describe('names', () => {
  const longest = `${'ä'.repeat(31)}z`;
  const longestNext = `${'ä'.repeat(31)}y`;

  it.each([
    ['a"b;--', 'x"; DROP DATABASE postgres; --'],
    ['Ünï', 'Ünï 2'],
    [longest, longestNext],
    ["host=evil' \\ dbname=postgres", "it's\\"],
    ['-d', '--help'],
    ['postgresql://evil/x', '$(id) `id` %s *'],
    [' two\nlines\t', ' '],
  ])('of the database %j and its target %j mean nothing but themselves', async (source, target) => {
    await made('CREATE TABLE kept AS SELECT 42 AS answer', { name: source });
    const { staged } = await expectAsPlain(source, { target });
    expect(staged.manifest.source.database).toBe(source);
    await postgres.current.exec('postgres', `DROP DATABASE ${quoted(source)}`);
  });

  it('of schemas, tables, columns and roles are kept, with their owners and rights', async () => {
    const names = ['a"b;--', 'Ünï', longest, "o'clock \\ $1", 'two\nlines', ' ', 'SELECT', 'pg_x', '--', 'a.b', '*'];
    for (const name of names.filter((name) => !name.startsWith('pg_'))) {
      await postgres.current.exec('postgres', `CREATE ROLE ${quoted(name)}`);
    }
    const database = await made(
      names
        .map((name) => {
          const owner = name.startsWith('pg_') ? 'postgres' : quoted(name);
          const [schema, q] = [name.startsWith('pg_') ? 'public' : quoted(name), quoted(name)];
          return `${schema === 'public' ? '' : `CREATE SCHEMA ${schema} AUTHORIZATION ${owner};`}
            CREATE TABLE ${schema}.${q} (${q} serial PRIMARY KEY, "x""${name.replaceAll('"', '""').slice(0, 20)}" text DEFAULT 'd');
            INSERT INTO ${schema}.${q} DEFAULT VALUES; ALTER TABLE ${schema}.${q} OWNER TO ${owner}; GRANT SELECT ON ${schema}.${q} TO ${quoted('Ünï')} WITH GRANT OPTION;
            ALTER DEFAULT PRIVILEGES FOR ROLE ${owner} IN SCHEMA ${schema} GRANT SELECT ON TABLES TO ${quoted(longest)};
            CREATE POLICY ${q} ON ${schema}.${q} TO ${owner} USING (true); SELECT lo_create(880000 + ${names.indexOf(name)});
            ALTER LARGE OBJECT ${880000 + names.indexOf(name)} OWNER TO ${owner};`;
        })
        .join('\n'),
    );
    const { staged } = await expectAsPlain(database);
    expect(staged.manifest.totals).toEqual({ tableCount: names.length, rowCount: names.length });
    await expectAsPlain(database, { mode: 'url' });
  });
});

describe('every kind of object', () => {
  it('that a restore gets wrong easily comes back', async () => {
    await postgres.current.exec('postgres', 'CREATE ROLE reader; CREATE ROLE writer IN ROLE reader;');
    const database = await made(`
      CREATE SCHEMA rules; CREATE SCHEMA data;
      CREATE FUNCTION rules.is_even(n int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT n % 2 = 0';
      CREATE DOMAIN data.even AS int CHECK (rules.is_even(VALUE)); CREATE DOMAIN data.small_even AS data.even CHECK (VALUE < 1000) DEFAULT 4;
      CREATE TYPE data.pair AS (a data.small_even, b text); CREATE DOMAIN data.pairs AS data.pair[] CHECK (array_length(VALUE, 1) < 5);
      CREATE TABLE data.evens (id int GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 5), n data.small_even, ps data.pairs, twice int GENERATED ALWAYS AS (id * 2) STORED);
      INSERT INTO data.evens (n, ps) SELECT 2 * i, ARRAY[ROW(2, 'x')::data.pair] FROM generate_series(1, 100) AS i;
      CREATE TABLE data.base (a int, b text); CREATE TABLE data.derived (c int, a int, b text) INHERITS (data.base); ALTER TABLE data.base ADD COLUMN late int DEFAULT 9;
      ALTER TABLE data.derived DROP COLUMN c; INSERT INTO data.derived VALUES (1, 'x', 3); INSERT INTO data.base VALUES (2, 'y', 4);
      CREATE TABLE data.half (d int) INHERITS (data.base, data.derived); INSERT INTO data.half VALUES (1, 'z', 5, 6);
      CREATE TABLE data.parted (k int, v text, PRIMARY KEY (k)) PARTITION BY RANGE (k); CREATE TABLE data.parted_1 (v text, junk int, k int NOT NULL);
      ALTER TABLE data.parted_1 DROP COLUMN junk; ALTER TABLE data.parted ATTACH PARTITION data.parted_1 FOR VALUES FROM (MINVALUE) TO (100);
      CREATE TABLE data.parted_2 PARTITION OF data.parted FOR VALUES FROM (100) TO (MAXVALUE) PARTITION BY HASH (k);
      CREATE TABLE data.parted_2a PARTITION OF data.parted_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE data.parted_2b PARTITION OF data.parted_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
      INSERT INTO data.parted SELECT i, 'v' || i FROM generate_series(1, 300) AS i;
      CREATE TABLE data.hen (id int PRIMARY KEY, egg int); CREATE TABLE data.egg (id int PRIMARY KEY, hen int NOT NULL REFERENCES data.hen);
      INSERT INTO data.hen VALUES (1, 1), (2, 1); INSERT INTO data.egg VALUES (1, 2); ALTER TABLE data.hen ADD FOREIGN KEY (egg) REFERENCES data.egg;
      CREATE UNLOGGED TABLE data.fast (k int PRIMARY KEY); INSERT INTO data.fast VALUES (1), (2);
      CREATE MATERIALIZED VIEW data.m1 AS SELECT count(*) AS n FROM data.evens; CREATE MATERIALIZED VIEW data.m2 AS SELECT n + 1 AS n FROM data.m1;
      CREATE MATERIALIZED VIEW data.a_m0 AS SELECT n * 2 AS n FROM data.m2; CREATE MATERIALIZED VIEW data.empty AS SELECT 1 WITH NO DATA; CREATE UNIQUE INDEX ON data.m1 (n);
      CREATE TABLE data.hidden (id int, owner text); INSERT INTO data.hidden SELECT i, 'somebody' FROM generate_series(1, 50) AS i;
      ALTER TABLE data.hidden ENABLE ROW LEVEL SECURITY; ALTER TABLE data.hidden FORCE ROW LEVEL SECURITY; CREATE POLICY none ON data.hidden TO reader USING (false);
      ALTER TABLE data.hidden OWNER TO writer; GRANT USAGE ON SCHEMA data TO reader; GRANT SELECT (id), UPDATE (owner) ON data.hidden TO reader;
      ALTER DEFAULT PRIVILEGES FOR ROLE writer GRANT EXECUTE ON FUNCTIONS TO reader; ALTER DEFAULT PRIVILEGES FOR ROLE writer REVOKE ALL ON TYPES FROM PUBLIC;
      CREATE EXTENSION IF NOT EXISTS postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1');
      CREATE USER MAPPING FOR reader SERVER far OPTIONS (user 'u', password 'p''w'); CREATE FOREIGN TABLE data.far_away (id int) SERVER far;
      CREATE PUBLICATION everything FOR ALL TABLES; CREATE PUBLICATION hens FOR TABLE data.hen (id) WHERE (id > 1);
      CREATE FUNCTION data.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no more tables'; END $$;
      CREATE FUNCTION data.trip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never'; END $$;
      CREATE TRIGGER trip BEFORE INSERT OR UPDATE ON data.hen FOR EACH ROW EXECUTE FUNCTION data.trip(); ALTER TABLE data.hen ENABLE ALWAYS TRIGGER trip;
      CREATE RULE away AS ON INSERT TO data.egg DO INSTEAD NOTHING;
      CREATE STATISTICS data.stats (mcv) ON a, b FROM data.base; COMMENT ON STATISTICS data.stats IS 'kept'; COMMENT ON CONSTRAINT hen_egg_fkey ON data.hen IS 'the circle''s end';
      CREATE COLLATION data.plain (provider = libc, locale = 'POSIX'); CREATE TABLE data.sorted (t text COLLATE data.plain PRIMARY KEY); INSERT INTO data.sorted VALUES ('b'), ('A');
      CREATE INDEX ON data.evens ((twice + 1)) WHERE n > 10; ALTER TABLE data.evens ALTER COLUMN ps SET STORAGE MAIN, ALTER COLUMN n SET STATISTICS 77;
      CREATE TABLE data.typed OF data.pair; INSERT INTO data.typed VALUES (2, 'typed'); CREATE SEQUENCE data.odd AS smallint START 7 CYCLE OWNED BY data.evens.n; SELECT nextval('data.odd');
      CREATE EVENT TRIGGER watch ON ddl_command_start WHEN TAG IN ('CREATE TABLE', 'CREATE INDEX', 'ALTER TABLE') EXECUTE FUNCTION data.watch();`);
    const { staged, complaints } = await expectAsPlain(database);
    expect(complaints).toBe('');
    expect(staged.manifest.omissions.map(({ name, reason }) => [name, reason])).toEqual([
      ['a_m0', 'materialized-view-is-refreshed'],
      ['empty', 'unpopulated-materialized-view'],
      ['far_away', 'foreign-table'],
      ['m1', 'materialized-view-is-refreshed'],
      ['m2', 'materialized-view-is-refreshed'],
    ]);
    await expectAsPlain(database, { mode: 'url' });
  });

  it('of every extension that this server offers comes back', async () => {
    // Needs other software on the machine, or more than the database itself.
    const known =
      /^(?!.*(plperl|plpython|pltcl|_plperl|_plpython|jsonb_pl|hstore_pl|ltree_pl|bool_pl|sepgsql|adminpack|xml2|uuid-ossp)).*$/;
    const rows = await postgres.current.query<{ name: string }>(
      'postgres',
      'SELECT name FROM pg_available_extensions ORDER BY name',
    );
    const names = rows.map(({ name }) => name).filter((name) => known.test(name));
    const database = await made(
      `CREATE SCHEMA tools; ${names.map((name) => `CREATE EXTENSION IF NOT EXISTS ${quoted(name)} CASCADE;`).join(' ')}`,
    );
    const { staged } = await expectAsPlain(database);
    expect(staged.manifest.source.extensions.map(({ name }) => name)).toEqual(expect.arrayContaining(names));
    await expectAsPlain(database, { mode: 'url' });
  });

  it('of an extension is left to the extension, and said to be', async () => {
    const database = await made(
      `CREATE EXTENSION pg_trgm; CREATE TABLE of_extension AS SELECT 1 AS a; ALTER EXTENSION pg_trgm ADD TABLE of_extension; CREATE TABLE own AS SELECT 2 AS a;`,
    );
    const { staged } = await expectAsPlain(database);
    expect(staged.manifest.omissions).toEqual([
      { schema: 'public', name: 'of_extension', kind: 'table', reason: 'extension-member' },
    ]);
  });

  it('in a tablespace comes back without it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'backstay-space-'));
    await chmod(folder, 0o700);
    if (process.getuid?.() === 0) await chown(folder, 65_534, 65_534);
    try {
      await postgres.current.exec('postgres', `CREATE TABLESPACE roomy LOCATION '${folder}'`);
      const database = await made(
        'CREATE TABLE here (id int PRIMARY KEY USING INDEX TABLESPACE roomy) TABLESPACE roomy; INSERT INTO here VALUES (1);',
      );
      const { staged } = await expectAsPlain(database);
      expect(staged.manifest.source.tablespaces).toEqual(['roomy']);
      await postgres.current.exec('postgres', `DROP DATABASE ${database}`);
      await postgres.current.exec('postgres', 'DROP TABLESPACE roomy');
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('with an unqualified function in a CHECK fails as plainly as with pg_restore, and leaves nothing', async () => {
    const database = await made(`CREATE FUNCTION inner_check(n int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT n > 0';
      CREATE FUNCTION outer_check(n int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN inner_check(n); END $$;
      CREATE TABLE checked (n int CHECK (outer_check(n))); INSERT INTO checked VALUES (1), (2);`);
    const plain = await emptyLike(database);
    expect(await copyPlainly(connectionTo(database), connectionTo(plain), programs)).toMatch(
      /inner_check\(integer\) does not exist/,
    );
    const staged = await engine.backUp(connectionTo(database));
    const target = `checked_${++count}`;
    await expect(
      engine.restore(staged, { mode: 'new-database', server: connectionTo('postgres'), database: target }),
    ).rejects.toMatchObject({ code: 'RESTORE_FAILED', message: expect.stringContaining('inner_check(integer) does not exist') });
    const left = await postgres.current.query(
      'postgres',
      `SELECT datname FROM pg_database WHERE datname = $1 OR datname LIKE 'backstay%'`,
      [target],
    );
    expect(left).toEqual([]);
  });
});

describe('many and large', () => {
  it('5,000 large objects come back, each with its owner and rights', async () => {
    const database =
      await made(`CREATE ROLE clerk; SELECT lo_from_bytea(100000 + i, decode(repeat(md5(i::text), i % 40), 'hex')) FROM generate_series(1, 5000) AS i;
      DO $$ BEGIN FOR i IN 1..50 LOOP EXECUTE format('ALTER LARGE OBJECT %s OWNER TO clerk', 100000 + i * 7); EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO PUBLIC', 100000 + i * 11); END LOOP; END $$;
      SELECT lo_from_bytea(4294967295, 'the highest'); SELECT lo_from_bytea(2147483648, 'beyond the sign');`);
    const { staged } = await expectAsPlain(database, { mode: 'url' });
    expect(staged.manifest.largeObjects.count).toBe(5002);
  });

  it('single values of 66 MB pass in bounded memory', async () => {
    const database =
      await made(`CREATE TABLE big (id int, content text); ALTER TABLE big ALTER COLUMN content SET STORAGE EXTERNAL;
      INSERT INTO big SELECT i, repeat(md5(i::text) || E'\\n', 2000000) FROM generate_series(1, 2) AS i;`);
    let peak = 0;
    const before = process.memoryUsage().rss;
    const staged = await engine.backUp(
      connectionTo(database),
      {},
      { onProgress: () => (peak = Math.max(peak, process.memoryUsage().rss)) },
    );
    expect(staged.tables).toMatchObject([{ name: 'big', rows: 2 }]);
    expect(staged.tables[0]?.bytes).toBeGreaterThan(130_000_000);
    expect(peak - before).toBeLessThan(150_000_000);
    const target = `big_${++count}`;
    await engine.restore(staged, { mode: 'new-database', server: connectionTo('postgres'), database: target });
    expect(differencesOf(await portrait(database), await portrait(target))).toEqual([]);
  });

  it('10,000 tables come back', async () => {
    // Without a column that can grow a table has no TOAST, and all this takes half as long.
    const database = await made(
      `DO $$ BEGIN FOR i IN 1..10000 LOOP EXECUTE format('CREATE TABLE t%s (id int, at date)', i); END LOOP;
         FOR i IN 100..10000 BY 100 LOOP EXECUTE format('INSERT INTO t%s SELECT g, date ''2024-01-01'' + g FROM generate_series(1, 5) g', i); END LOOP; END $$;`,
    );
    const staged = await engine.backUp(connectionTo(database));
    expect(staged.manifest.totals).toEqual({ tableCount: 10_000, rowCount: 500 });
    const target = `many_${++count}`;
    const outcome = await engine.restore(staged, { mode: 'new-database', server: connectionTo('postgres'), database: target });
    expect(outcome).toMatchObject({ countsEqual: true, warnings: [] });
    expect(differencesOf(await portrait(database), await portrait(target))).toEqual([]);
  }, 300_000);

  it('a server with room for too few locks is told of before the dump, with the setting to raise', async () => {
    const small = await TestPostgres.start({ max_locks_per_transaction: '10', max_connections: '10' });
    try {
      const database = await small.createDatabase();
      const tables = (from: number) =>
        `DO $$ BEGIN FOR i IN ${from}..${from + 99} LOOP EXECUTE format('CREATE TABLE t%s ()', i); END LOOP; END $$`;
      for (let from = 1; from < 1000; from += 100) await small.exec(database, tables(from));
      await expect(engine.backUp(small.connection(database))).rejects.toMatchObject({
        code: 'LOCKS_EXHAUSTED',
        message: expect.stringMatching(/locks 1000 relations.*max_locks_per_transaction from 10 to \d+/),
      });
    } finally {
      await small.stop();
    }
  });
});

describe('exclusions', () => {
  it('are exact names: a pattern matches nothing but itself, and what is left out is listed', async () => {
    const database =
      await made(`CREATE SCHEMA "pub*"; CREATE TABLE "pub*".inside AS SELECT 1 AS a; CREATE TABLE kept AS SELECT 2 AS a; CREATE TABLE "kep?" AS SELECT 3 AS a;
      CREATE TABLE "Kept" AS SELECT 4 AS a; CREATE TABLE left_out AS SELECT 5 AS a; CREATE TABLE "left.out" AS SELECT 6 AS a;`);
    const source: Partial<BackupRequest['source']> = {
      excludeSchemas: ['pub*'],
      excludeTables: [
        { schema: 'public', name: 'kep?' },
        { schema: 'public', name: 'left_out' },
        { schema: 'public', name: 'left.out' },
        { schema: 'p*', name: 'K*' },
      ],
    };
    const staged = await engine.backUp(connectionTo(database), source);
    expect(staged.tables.map(({ name }) => name)).toEqual(['Kept', 'kept']);
    expect(staged.manifest.omissions.map(({ schema, name, reason }) => [schema, name, reason])).toEqual([
      ['pub*', 'inside', 'excluded'],
      ['public', 'kep?', 'excluded'],
      ['public', 'left.out', 'excluded'],
      ['public', 'left_out', 'excluded'],
    ]);
    const target = `excluded_${++count}`;
    const outcome = await engine.restore(staged, { mode: 'new-database', server: connectionTo('postgres'), database: target });
    expect(outcome.countsEqual).toBe(true);
    const restored = await portrait(target);
    expect([...restored.tables.keys()].map((name) => name.split(' ')[0]).sort()).toEqual(['public."Kept"', 'public.kept']);
  });
});

describe('the component config', () => {
  it('holds roles that restore on a fresh cluster, settings, and the listed files', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'backstay-config-'));
    const fresh = await TestPostgres.start();
    try {
      await mkdir(join(folder, 'etc', 'sub'), { recursive: true });
      await writeFile(join(folder, 'etc', 'app.conf'), 'a = 1\n');
      await writeFile(join(folder, 'etc', 'sub', 'Ünï'), Buffer.from([0, 1, 255]));
      await writeFile(join(folder, 'etc', 'empty'), '');
      await postgres.current.exec(
        'postgres',
        `CREATE ROLE "chief ""x""" LOGIN CREATEDB PASSWORD 'never-shown'; CREATE ROLE helper NOLOGIN IN ROLE "chief ""x"""; ALTER ROLE helper SET work_mem TO '9MB';`,
      );
      const database = await made('CREATE TABLE t (); ALTER TABLE t OWNER TO helper; CREATE EXTENSION pg_trgm;');
      await postgres.current.exec('postgres', `ALTER DATABASE ${database} SET timezone TO 'Asia/Tokyo'`);
      const staged = await engine.backUp(
        connectionTo(database),
        { configPaths: [join(folder, 'etc')] },
        { type: 'config', components: ['config'], configRoots: [folder] },
      );
      const globals = await plain(staged, 'globals.sql.zst.age', (stream) => text(stream));
      expect(globals).not.toContain('never-shown');
      expect(globals).not.toMatch(/PASSWORD '/);
      await psql(fresh, globals.replaceAll(/^(?:CREATE|ALTER) ROLE postgres\b.*$/gm, ''));
      const roles = (of: TestPostgres) =>
        of.query(
          'postgres',
          `SELECT r.rolname, r.rolsuper, r.rolcanlogin, r.rolcreatedb, r.rolconfig, array(SELECT m.roleid::regrole::text FROM pg_auth_members m WHERE m.member = r.oid ORDER BY 1) AS member_of
          FROM pg_roles r WHERE r.rolname ~ 'chief|helper' ORDER BY 1`,
        );
      expect(await roles(fresh)).toEqual(await roles(postgres.current));
      expect(await roles(fresh)).toHaveLength(2);

      const files = await plain(staged, 'config.tar.zst.age', async (stream) => {
        const found = new Map<string, Buffer>();
        for await (const entry of stream.pipe(extract())) {
          const parts: Buffer[] = [];
          for await (const part of entry as AsyncIterable<Buffer>) parts.push(part);
          if (entry.header.type === 'file') found.set(entry.header.name, Buffer.concat(parts));
        }
        return found;
      });
      const named = (end: string) => [...files].find(([name]) => name.endsWith(end))?.[1];
      expect(named('etc/app.conf')?.toString()).toBe('a = 1\n');
      expect(named('etc/empty')).toEqual(Buffer.alloc(0));
      expect(named('etc/sub/Ünï')).toEqual(await readFile(join(folder, 'etc', 'sub', 'Ünï')));
      const config = JSON.parse(files.get('database-config.json')?.toString() ?? '{}') as Record<string, unknown>;
      expect(config).toMatchObject({
        database,
        databaseSettings: expect.arrayContaining([{ role: null, name: 'TimeZone', value: 'Asia/Tokyo' }]),
        extensions: expect.arrayContaining([expect.objectContaining({ name: 'pg_trgm', schema: 'public' })]),
        serverSettings: expect.arrayContaining([expect.objectContaining({ name: 'max_locks_per_transaction', value: '1024' })]),
        memberships: expect.arrayContaining([{ role: 'chief "x"', member: 'helper', admin: false }]),
      });
    } finally {
      await fresh.stop();
      await rm(folder, { recursive: true, force: true });
    }
  });

  async function plain<T>(staged: StagedBackup, name: string, use: (stream: NodeJS.ReadableStream) => Promise<T>): Promise<T> {
    const expected = staged.manifest.artifacts.find((artifact) => artifact.name === name);
    if (!expected) throw new Error(`there is no artifact ${name}`);
    const key = objectKey(backupPrefix(staged.ids), name);
    return use(await readArtifactPlain({ store: engine.store, key, name, identities: [engine.age.identity], expected }));
  }

  async function psql(on: TestPostgres, sql: string): Promise<void> {
    if (programs.psql === null) return on.exec('postgres', sql.replaceAll(/^\\.*$/gm, ''));
    await withPgEnvironment(on.connection(), { applicationName: 'test' }, async (env) => {
      const program = startProgram(programs.psql!, ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', '-'], { env, stdin: 'pipe' });
      program.stdout.resume();
      program.stdin?.end(sql);
      await program.done.catch((error: unknown) => Promise.reject(new Error(program.stderrTail(), { cause: error })));
    });
  }
});
