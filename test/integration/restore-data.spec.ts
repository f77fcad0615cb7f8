import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { StagedBackup } from '../../src/engine/backup.js';
import type { ArtifactStore } from '../../src/engine/store/artifact-store.js';
import { chooseClientPrograms, findClientPrograms } from '../../src/engine/postgres/client-programs.js';
import { differencesOf, portray } from '../support/compare-databases.js';
import { EngineRuns } from '../support/engine-runs.js';
import { usePostgres } from '../support/postgres.js';

const postgres = usePostgres();
let runs: EngineRuns;
let wide: StagedBackup;

beforeAll(async () => {
  runs = await EngineRuns.open();
  await postgres.current.createDatabase('wide');
  // Enough for two lanes, and little on the disk: long texts of few letters.
  await postgres.current.exec(
    'wide',
    `CREATE TABLE a_first (id int PRIMARY KEY, body text);
     INSERT INTO a_first SELECT n, repeat(md5(n::text) || E'\\n\\t\\\\', 30000) FROM generate_series(1, 40) n;
     CREATE TABLE b_empty (id int);
     CREATE TABLE c_second (LIKE a_first);
     INSERT INTO c_second SELECT n + 100, repeat(md5(n::text), 30000) FROM generate_series(1, 40) n;
     CREATE TABLE d_small (id serial PRIMARY KEY, doc xml, at timestamptz, note text);
     INSERT INTO d_small (doc, at, note) VALUES ('<a/>', now(), NULL), ('just text', 'infinity', E'\\\\.');
     CREATE TABLE e_rows (id int PRIMARY KEY REFERENCES d_small, half int GENERATED ALWAYS AS (id / 2) STORED);
     INSERT INTO e_rows VALUES (1), (2);
     SELECT lo_from_bytea(4242, convert_to(repeat('object', 100000), 'UTF8')), lo_create(4243)`,
  );
  wide = await runs.backUp(postgres.current.connection('wide'));
});

afterAll(() => runs.close());

const into = (database: string) => ({ mode: 'new-database' as const, server: postgres.current.connection('postgres'), database });

describe('loading the data of an archive', () => {
  it('in two lanes brings every table, large object and sequence, and reads the archive once for each lane', async () => {
    const read: number[] = [];
    const phases = new Set<string>();
    const outcome = await runs.restore(wide, into('copied'), {
      store: countingReads(runs.store, read),
      onProgress: ({ phase }) => phases.add(phase),
    });
    expect(outcome).toMatchObject({ countsEqual: true, differences: [], warnings: [] });
    expect(await differences('wide', 'copied')).toEqual([]);
    // The table of contents, the check, two lanes.
    expect(read.length).toBe(4);
    expect(phases).toContain('data');
  });

  it('with one job reads it once, and gives the same', async () => {
    const read: number[] = [];
    await runs.restore(wide, into('copied_once'), { jobs: 1, store: countingReads(runs.store, read) });
    expect(read.length).toBe(3);
    expect(await differences('wide', 'copied_once')).toEqual([]);
  });

  it('keeps rows of another encoding as they are', async () => {
    await postgres.current.exec('postgres', "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    await postgres.current.exec(
      'latin',
      `CREATE TABLE "größe" ("maß" text); INSERT INTO "größe" VALUES ('Ünïcödé ß'), ('plain')`,
    );
    const latin = await runs.backUp(postgres.current.connection('latin'));
    expect(await runs.restore(latin, into('latin_copied'))).toMatchObject({ countsEqual: true });
    expect(await differences('latin', 'latin_copied')).toEqual([]);
  });

  it('says which table could not be loaded, and why, and leaves nothing', async () => {
    await postgres.current.createDatabase('refusing');
    await postgres.current.exec(
      'refusing',
      `CREATE TABLE never (id int); CREATE FUNCTION is_even(n int) RETURNS boolean LANGUAGE sql AS 'SELECT n % 2 = 0 FROM (SELECT count(*) FROM never) AS c';
       CREATE TABLE checked (id int CHECK (is_even(id))); INSERT INTO checked VALUES (2), (4)`,
    );
    const refusing = await runs.backUp(postgres.current.connection('refusing'));
    // Names without a schema are not found while a dump is restored, with pg_restore alike.
    await expect(runs.restore(refusing, into('refused'))).rejects.toMatchObject({
      code: 'RESTORE_FAILED',
      message: expect.stringMatching(/"?checked"? .*relation "never" does not exist/),
    });
    expect(await databases()).not.toContain('refused');
  });

  it('stops at an archive that changes between the check and the load, and leaves nothing', async () => {
    const other = await runs.backUp(postgres.current.connection('wide'));
    const [mine, others] = [wide, other].map(({ ids }) => ids.backup);
    let reads = 0;
    const swapping = new Proxy(runs.store, {
      get: (store, name) =>
        name === 'read'
          ? (key: string, options: object) =>
              store.read(key.endsWith('.age') && ++reads > 2 ? key.replace(`${mine}/`, `${others}/`) : key, options)
          : Reflect.get(store, name, store),
    });
    await expect(runs.restore(wide, into('exchanged'), { store: swapping })).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
    expect(reads).toBeGreaterThan(2);
    expect(await databases()).not.toContain('exchanged');
    expect((await databases()).filter((name) => name.startsWith('backstay'))).toEqual([]);
  });

  it('can be canceled while rows are loaded', async () => {
    const cancel = new AbortController();
    const reason = new Error('not wanted any more');
    const restore = runs.restore(wide, into('canceled'), {
      signal: cancel.signal,
      onProgress: ({ phase }) => phase === 'data' && cancel.abort(reason),
    });
    await expect(restore).rejects.toBe(reason);
    expect((await databases()).filter((name) => name.startsWith('backstay') || name === 'canceled')).toEqual([]);
  });
});

async function databases(): Promise<string[]> {
  return (await postgres.current.query<{ datname: string }>('postgres', 'SELECT datname FROM pg_database')).map(
    ({ datname }) => datname,
  );
}

function countingReads(store: ArtifactStore, read: number[]): ArtifactStore {
  return new Proxy(store, {
    get: (target, name) =>
      name === 'read'
        ? (key: string, options: object) => {
            if (key.includes('database.dump')) read.push(1);
            return target.read(key, options);
          }
        : Reflect.get(target, name, target),
  });
}

async function differences(expected: string, actual: string): Promise<string[]> {
  const programs = chooseClientPrograms(await findClientPrograms({ binDirs: [] }), 15);
  const [first, second] = [postgres.current.connection(expected), postgres.current.connection(actual)];
  return differencesOf(await portray(first, programs), await portray(second, programs));
}
