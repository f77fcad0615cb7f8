import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type Verification, verifyBackup } from '../../src/engine/verify.js';
import { EngineRuns } from '../support/engine-runs.js';
import { usePostgres } from '../support/postgres.js';

const postgres = usePostgres();
let runs: EngineRuns;
let available: Set<string>;

/**
 * PostgreSQL's own extensions, each with what only it can hold: columns, indexes, constraints and defaults of its types and functions.
 * One whose control file this server does not have is left out.
 */
const CONTRIB: Readonly<Record<string, string>> = {
  adminpack: '',
  amcheck: '',
  autoinc: `CREATE SEQUENCE inc; CREATE TABLE auto_t (id int); CREATE TRIGGER auto_t BEFORE INSERT ON auto_t FOR EACH ROW EXECUTE FUNCTION autoinc(id, inc); INSERT INTO auto_t VALUES (NULL)`,
  bloom: `CREATE TABLE bloom_t AS SELECT n a, n % 7 b FROM generate_series(1, 200) n; CREATE INDEX ON bloom_t USING bloom (a, b) WITH (length = 80)`,
  btree_gin: `CREATE TABLE gin_t AS SELECT n, n::text t FROM generate_series(1, 50) n; CREATE INDEX ON gin_t USING gin (n, t)`,
  btree_gist: `CREATE TABLE gist_t (room int, at tstzrange, EXCLUDE USING gist (room WITH =, at WITH &&)); INSERT INTO gist_t VALUES (1, '[2026-01-01,2026-01-02)')`,
  citext: `CREATE TABLE citext_t (a citext PRIMARY KEY CHECK (a <> 'No'), b citext[] DEFAULT '{x}'); INSERT INTO citext_t VALUES ('Yes'), ('ÄÖ')`,
  cube: `CREATE TABLE cube_t AS SELECT cube(ARRAY[n, n / 3.0]) c FROM generate_series(1, 40) n; CREATE INDEX ON cube_t USING gist (c)`,
  dblink: '',
  dict_int: `CREATE TEXT SEARCH DICTIONARY ints (TEMPLATE = intdict_template, MAXLEN = 3)`,
  dict_xsyn: `CREATE TEXT SEARCH CONFIGURATION xs (COPY = simple); ALTER TEXT SEARCH CONFIGURATION xs ALTER MAPPING FOR asciiword WITH xsyn`,
  earthdistance: `CREATE TABLE earth_t AS SELECT ll_to_earth(n, n) e FROM generate_series(1, 20) n; CREATE INDEX ON earth_t USING gist (e)`,
  file_fdw: `CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; CREATE FOREIGN TABLE file_t (line text) SERVER files OPTIONS (filename '/nowhere/file.csv', format 'csv')`,
  fuzzystrmatch: `CREATE TABLE fuzzy_t (name text, code text GENERATED ALWAYS AS (soundex(name)) STORED); INSERT INTO fuzzy_t VALUES ('Robert'); CREATE INDEX ON fuzzy_t (metaphone(name, 5))`,
  hstore: `CREATE TABLE hstore_t (h hstore DEFAULT 'a=>1', CHECK (h ? 'a')); INSERT INTO hstore_t VALUES (DEFAULT), ('a=>NULL, "b c"=>"d\\"e"'); CREATE INDEX ON hstore_t USING gin (h)`,
  insert_username: `CREATE TABLE user_t (who text); CREATE TRIGGER user_t BEFORE INSERT ON user_t FOR EACH ROW EXECUTE FUNCTION insert_username(who)`,
  intagg: `CREATE VIEW agg_v AS SELECT int_array_aggregate(n) FROM generate_series(1, 3) n`,
  intarray: `CREATE TABLE intarray_t AS SELECT ARRAY[n, n + 1] a FROM generate_series(1, 40) n; CREATE INDEX ON intarray_t USING gist (a gist__int_ops); CREATE INDEX ON intarray_t USING gin (a gin__int_ops)`,
  isn: `CREATE TABLE isn_t (i isbn PRIMARY KEY); INSERT INTO isn_t VALUES ('0-393-04002-X')`,
  lo: `CREATE TABLE lo_t (id int, raster lo); CREATE TRIGGER lo_t BEFORE UPDATE OR DELETE ON lo_t FOR EACH ROW EXECUTE FUNCTION lo_manage(raster); INSERT INTO lo_t VALUES (1, lo_from_bytea(0, 'kept'))`,
  ltree: `CREATE TABLE ltree_t (path ltree CHECK (path <@ 'top')); INSERT INTO ltree_t VALUES ('top.science'), ('top'); CREATE INDEX ON ltree_t USING gist (path)`,
  moddatetime: `CREATE TABLE mod_t (at timestamp); CREATE TRIGGER mod_t BEFORE UPDATE ON mod_t FOR EACH ROW EXECUTE FUNCTION moddatetime(at)`,
  old_snapshot: '',
  pageinspect: '',
  pg_buffercache: '',
  pg_freespacemap: '',
  pg_prewarm: '',
  pg_stat_statements: `CREATE VIEW slow_v AS SELECT query, calls FROM pg_stat_statements`,
  pg_surgery: '',
  pg_trgm: `CREATE TABLE trgm_t AS SELECT md5(n::text) t FROM generate_series(1, 100) n; CREATE INDEX ON trgm_t USING gist (t gist_trgm_ops (siglen = 32)); CREATE INDEX ON trgm_t USING gin (t gin_trgm_ops)`,
  pg_visibility: '',
  pg_walinspect: '',
  pgcrypto: `CREATE TABLE crypto_t (id uuid DEFAULT gen_random_uuid(), h bytea GENERATED ALWAYS AS (digest('x'::text, 'sha256')) STORED); INSERT INTO crypto_t VALUES (DEFAULT)`,
  pgrowlocks: '',
  pgstattuple: '',
  postgres_fdw: `CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'db.example.org', dbname 'x'); CREATE USER MAPPING FOR PUBLIC SERVER away OPTIONS (user 'u', password 'p'); CREATE FOREIGN TABLE away_t (id int) SERVER away`,
  refint: `CREATE TABLE ref_t (a int); CREATE TRIGGER ref_t BEFORE INSERT ON ref_t FOR EACH ROW EXECUTE FUNCTION check_primary_key('a', 'ref_t', 'a')`,
  seg: `CREATE TABLE seg_t (s seg); INSERT INTO seg_t VALUES ('1.5 .. 2.50'), ('~6.5'); CREATE INDEX ON seg_t USING gist (s)`,
  sslinfo: `CREATE VIEW ssl_v AS SELECT ssl_is_used() AS used`,
  tablefunc: `CREATE VIEW cross_v AS SELECT * FROM crosstab('SELECT 1, 2, 3') AS c(a int, b int)`,
  tcn: `CREATE TABLE tcn_t (id int PRIMARY KEY); CREATE TRIGGER tcn_t AFTER INSERT ON tcn_t FOR EACH ROW EXECUTE FUNCTION triggered_change_notification()`,
  tsm_system_rows: `CREATE VIEW rows_v AS SELECT relname FROM pg_class TABLESAMPLE system_rows(5)`,
  tsm_system_time: '',
  unaccent: `CREATE TEXT SEARCH CONFIGURATION fr (COPY = french); ALTER TEXT SEARCH CONFIGURATION fr ALTER MAPPING FOR hword, word WITH unaccent, french_stem; CREATE TABLE unaccent_t AS SELECT unaccent('Hôtel') t`,
  'uuid-ossp': `CREATE TABLE uuid_t (id uuid DEFAULT uuid_generate_v4() PRIMARY KEY, n int); INSERT INTO uuid_t (n) SELECT generate_series(1, 9)`,
  xml2: `CREATE VIEW xml_v AS SELECT xpath_string('<a>1</a>', '/a') x`,
};

/** Layouts and settings that a copy may have in another form, though nothing is lost. */
const LAYOUTS = `
  CREATE TABLE parent (a int, b text); CREATE TABLE child (c int) INHERITS (parent); ALTER TABLE parent ADD COLUMN d text DEFAULT 'x', DROP COLUMN b;
  CREATE TABLE grandchild (e int NOT NULL) INHERITS (child); ALTER TABLE child ADD COLUMN f numeric(6, 2) DEFAULT 1.5;
  INSERT INTO parent SELECT n FROM generate_series(1, 50) n; INSERT INTO grandchild (a, c, e) SELECT n, n, n FROM generate_series(1, 50) n;
  CREATE TABLE moved (id int PRIMARY KEY, body text) WITH (fillfactor = 20, autovacuum_enabled = off);
  INSERT INTO moved SELECT n, repeat('x', 50) FROM generate_series(1, 500) n;
  UPDATE moved SET body = body || id WHERE id % 3 = 0; DELETE FROM moved WHERE id % 7 = 0; INSERT INTO moved SELECT n, 'new' FROM generate_series(501, 600) n;
  CREATE INDEX moved_body ON moved (body) WITH (fillfactor = 55); CLUSTER moved USING moved_body; UPDATE moved SET body = 'late' WHERE id = 1;
  CREATE UNLOGGED TABLE quick (n int GENERATED BY DEFAULT AS IDENTITY (START 7 INCREMENT 3)); INSERT INTO quick SELECT FROM generate_series(1, 9);
  CREATE TABLE ranged (k int, v text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
  CREATE TABLE ranged_1 PARTITION OF ranged FOR VALUES FROM (MINVALUE) TO (10) WITH (fillfactor = 50);
  CREATE TABLE ranged_rest (v text, extra int, k int NOT NULL); ALTER TABLE ranged_rest DROP COLUMN extra; ALTER TABLE ranged ATTACH PARTITION ranged_rest DEFAULT;
  CREATE TABLE hashed (k int, v text) PARTITION BY HASH (k); CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
  CREATE UNLOGGED TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
  CREATE TABLE listed (k text, v int) PARTITION BY LIST (lower(k)); CREATE TABLE listed_ab PARTITION OF listed FOR VALUES IN ('a', 'b', NULL) PARTITION BY RANGE (v);
  CREATE TABLE listed_ab_1 PARTITION OF listed_ab FOR VALUES FROM (0) TO (100);
  INSERT INTO ranged SELECT n, E'\\\\.' FROM generate_series(1, 20) n; INSERT INTO hashed SELECT n, 'h' FROM generate_series(1, 40) n; INSERT INTO listed VALUES ('A', 1), (NULL, 2);
  CREATE INDEX ON hashed (v); ALTER TABLE ranged ADD CONSTRAINT positive CHECK (k > 0) NOT VALID; CREATE STATISTICS ranged_s ON k, v FROM ranged;
  CREATE TABLE generated (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c text COLLATE "C" DEFAULT ('x' || 'y')); INSERT INTO generated (a) VALUES (1);
  ALTER TABLE generated ALTER c SET STORAGE EXTERNAL, ALTER a SET STATISTICS 500;
  CREATE MATERIALIZED VIEW matted AS SELECT count(*) AS n FROM moved; CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS n WITH NO DATA;
  CREATE TABLE times AS SELECT now() AS at, interval '1 mon -3 days' AS i, 1.1::float8 / 3 AS f, '12.34'::money AS m, '\\xdeadbeef'::bytea AS b`;

/** What a database or a role of it may be set to, that changes how values are written. */
const SETTINGS: readonly string[] = [
  "SET timezone = 'Asia/Kathmandu'",
  "SET bytea_output = 'escape'",
  "SET datestyle = 'SQL, DMY'",
  "SET intervalstyle = 'sql_standard'",
  'SET extra_float_digits = -3',
  "SET search_path = other, public, '$user'",
  'SET default_transaction_read_only = on',
  "SET default_transaction_isolation = 'serializable'",
  'SET standard_conforming_strings = off',
  'SET statement_timeout = 3600000',
  'SET row_security = off',
  'SET quote_all_identifiers = on',
  "SET default_text_search_config = 'german'",
  'SET check_function_bodies = on',
  'SET xmloption = document',
  'SET enable_seqscan = off',
  'CONNECTION LIMIT 40',
];

const verify = async (database: string): Promise<Verification> =>
  verifyBackup({
    ids: (await runs.backUp(postgres.current.connection(database))).ids,
    store: runs.store,
    verifyingKeys: [runs.signing.publicKeyPem],
    identities: [runs.age.identity],
    programs: { binDirs: [], requirePatched: false },
    signal: new AbortController().signal,
    runId: 'verification_1',
    level: 4,
    assertions: [],
    onProgress: () => undefined,
  });
const SOUND = { provenLevel: 4, failure: null, impossible: null, bad: [] };
const verdict = ({ provenLevel, failure, impossible, checks }: Verification) => ({
  provenLevel,
  failure: failure?.message ?? null,
  impossible: impossible?.message ?? null,
  bad: checks.filter(({ ok }) => !ok).map(({ detail }) => detail),
});

beforeAll(async () => {
  runs = await EngineRuns.open();
  await postgres.current.exec('postgres', 'CREATE ROLE "odd; role"; CREATE ROLE reader');
  const rows = await postgres.current.query<{ name: string }>('postgres', 'SELECT name FROM pg_available_extensions');
  available = new Set(rows.map(({ name }) => name));
});
afterAll(() => runs.close());

describe('a drill of a sound backup does not cry wolf', () => {
  it("over PostgreSQL's extensions, and what hangs on each", async () => {
    const database = await postgres.current.createDatabase('contrib');
    const there = Object.entries(CONTRIB).filter(([name]) => available.has(name));
    for (const [name, use] of there)
      await postgres.current.exec(database, `CREATE EXTENSION IF NOT EXISTS "${name}" CASCADE; ${use}`);
    const found = await postgres.current.query<{ name: string }>(database, 'SELECT extname AS name FROM pg_extension');
    expect(found.map(({ name }) => name)).toEqual(expect.arrayContaining(there.map(([name]) => name)));
    process.stdout.write(`extensions in the drill: ${there.length} of ${Object.keys(CONTRIB).length}\n`);
    expect(there.length).toBeGreaterThan(30);
    expect(verdict(await verify(database))).toEqual(SOUND);
  });

  it('over inheritance, partitions, fill factors, unlogged tables, and settings of database and roles', async () => {
    const database = await postgres.current.createDatabase('layouts');
    await postgres.current.exec(database, `CREATE SCHEMA other; ${LAYOUTS}`);
    for (const setting of SETTINGS) await postgres.current.exec('postgres', `ALTER DATABASE layouts ${setting}`);
    await postgres.current.exec('postgres', `ALTER ROLE reader IN DATABASE layouts SET search_path = other`);
    expect(verdict(await verify(database))).toEqual(SOUND);
  });

  it('over locales and encodings other than C and UTF8', async () => {
    const [icu] = await postgres.current.query(
      'postgres',
      "SELECT FROM pg_collation WHERE collprovider = 'i' AND current_setting('server_version_num')::int >= 150000 LIMIT 1",
    );
    const [libc] = await postgres.current.query<{ name: string }>(
      'postgres',
      "SELECT collcollate AS name FROM pg_collation WHERE collprovider = 'c' AND collencoding = 6 AND collname NOT IN ('C', 'POSIX', 'ucs_basic') LIMIT 1",
    );
    const kinds = [
      ['sql_ascii', `ENCODING 'SQL_ASCII' LOCALE 'C'`],
      ['euc_jp', `ENCODING 'EUC_JP' LOCALE 'C'`],
      ...(libc ? [['libc', `ENCODING 'UTF8' LOCALE '${libc.name}'`]] : []),
      ...(icu ? [['icu', `ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LOCALE 'C'`]] : []),
      ...(icu ? [['icu_latin9', `ENCODING 'LATIN9' LOCALE_PROVIDER icu ICU_LOCALE 'fr' LOCALE 'C'`]] : []),
    ] as [string, string][];
    process.stdout.write(`locales in the drill: ${kinds.map(([name]) => name).join(', ')}\n`);
    for (const [name, options] of kinds) {
      const database = await postgres.current.createDatabase(name, options);
      const words = name === 'euc_jp' ? "('日本'), ('かな')" : name === 'sql_ascii' ? "('plain')" : "('é'), ('Öl'), ('zu')";
      const table = name.includes('latin') ? '"Ünï"' : 'words';
      await postgres.current.exec(
        database,
        `CREATE TABLE ${table} (t text PRIMARY KEY, c text COLLATE "C" DEFAULT 'x', CHECK (t > '' AND lower(t) <> 'none')); INSERT INTO ${table} VALUES ${words};
         CREATE INDEX ON ${table} (lower(t), c text_pattern_ops)`,
      );
      expect([name, verdict(await verify(database))]).toEqual([name, SOUND]);
    }
  });
});
