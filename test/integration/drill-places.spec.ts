import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { StagedBackup } from '../../src/engine/backup.js';
import { sweepScratch } from '../../src/engine/drill-scratch.js';
import type { PgConnection } from '../../src/engine/postgres/connection.js';
import { withClient } from '../../src/engine/postgres/client.js';
import { type Verification, type VerifyRequest, verifyBackup } from '../../src/engine/verify.js';
import { EngineRuns } from '../support/engine-runs.js';
import { usePostgres } from '../support/postgres.js';

const postgres = usePostgres();
let runs: EngineRuns;
let scratch: PgConnection;
/** All of it belongs to one role, as with most applications; and all of it with rights for another. */
let owned: StagedBackup;
/** Things of several roles. */
let shared: StagedBackup;

const SQL = `CREATE EXTENSION hstore; CREATE EXTENSION pg_trgm; COMMENT ON EXTENSION hstore IS 'pairs';
  CREATE SCHEMA app; CREATE TABLE app.items (id int PRIMARY KEY, body text NOT NULL DEFAULT 'x', tags hstore);
  INSERT INTO app.items SELECT n, 'item ' || n, 'a=>1' FROM generate_series(1, 300) n; CREATE INDEX ON app.items USING gin (body gin_trgm_ops);
  ALTER TABLE app.items ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON app.items USING (id > 5);
  CREATE SEQUENCE counter; SELECT setval('counter', 41); SELECT lo_from_bytea(4711, 'large');
  CREATE VIEW app.shown AS SELECT id FROM app.items WHERE body IN ('a', 'b')`;

async function madeBy(connection: PgConnection, more = ''): Promise<StagedBackup> {
  await withClient(connection, { applicationName: 'test' }, (client) =>
    client.query(`SET search_path = public; ${SQL}; ${more}`),
  );
  return runs.backUp(connection);
}

beforeAll(async () => {
  runs = await EngineRuns.open();
  for (const role of ['app', 'drill'])
    await postgres.current.exec('postgres', `CREATE ROLE ${role} LOGIN CREATEDB PASSWORD 'pass-${role}'`);
  await postgres.current.exec('postgres', 'CREATE ROLE other; CREATE ROLE reader');
  scratch = postgres.current.connection('postgres', { user: 'drill', password: 'pass-drill' });
  const app = await postgres.current.createDatabase('app', 'OWNER app');
  owned = await madeBy(
    postgres.current.connection(app, { user: 'app', password: 'pass-app' }),
    'GRANT SELECT ON app.items TO reader',
  );
  const several = await postgres.current.createDatabase('several', 'OWNER app');
  shared = await madeBy(
    postgres.current.connection(several),
    'ALTER TABLE app.items OWNER TO other; GRANT SELECT ON app.shown TO reader',
  );
});
afterAll(() => runs.close());

const verify = (staged: StagedBackup, more: Partial<VerifyRequest>): Promise<Verification> =>
  verifyBackup({
    ids: staged.ids,
    store: runs.store,
    verifyingKeys: [runs.signing.publicKeyPem],
    identities: [runs.age.identity],
    programs: { binDirs: [], requirePatched: false },
    signal: new AbortController().signal,
    runId: 'verification_2026-01-01_00-00-00_abcdef',
    level: 5,
    assertions: [{ name: 'items', query: 'SELECT count(*) FROM app.items', expectation: 300, timeoutSeconds: 30 }],
    onProgress: () => undefined,
    ...more,
  });
const found = ({ provenLevel, failure, impossible, checks }: Verification) => ({
  provenLevel,
  failure,
  impossible: impossible?.message ?? null,
  bad: checks.filter(({ ok }) => !ok),
});
const whole = (provenLevel: number) => ({ provenLevel, failure: null, impossible: null, bad: [] });
const databases = async () =>
  (
    await postgres.current.query<{ datname: string }>(
      'postgres',
      "SELECT datname FROM pg_database WHERE datname LIKE 'backstay%'",
    )
  ).map(({ datname }) => datname);

describe('a drill as a role without rights', () => {
  it('proves all of a database of one owner, with what others may do in it', async () => {
    const verification = await verify(owned, { plainRole: true });
    expect(found(verification)).toEqual(whole(5));
    expect(verification.drill).toMatchObject({ isolation: { plainRole: true }, leftOut: [] });
  });

  it('compares all but owners where there are several, and says that level 4 is not proven by it', async () => {
    const verification = await verify(shared, { plainRole: true });
    expect(found(verification)).toEqual({
      ...whole(3),
      impossible: expect.stringContaining('without owners and rights of'),
    });
    expect(verification.checks.filter(({ level }) => level === 4).map(({ ok }) => ok)).toEqual([true, true, true, true]);
  });

  it('leaves out what needs a superuser, names it, and proves the rest', async () => {
    const database = await postgres.current.createDatabase('strong', 'OWNER app');
    await postgres.current.exec(
      database,
      `CREATE FUNCTION touch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION touch();
       CREATE EXTENSION pageinspect; CREATE TABLE words AS SELECT 'A' || n AS word FROM generate_series(1, 20) n;
       CREATE FUNCTION lower_c(text) RETURNS text LANGUAGE internal IMMUTABLE STRICT AS 'lower'; CREATE INDEX words_lower_c_idx ON words (lower_c(word))`,
    );
    const verification = await verify(await runs.backUp(postgres.current.connection(database)), { plainRole: true });
    expect(found(verification)).toEqual({ ...whole(2), impossible: expect.stringContaining('EVENT TRIGGER watch') });
    expect(verification.drill?.skipped).toEqual({
      extensions: [
        expect.objectContaining({ name: 'pageinspect', why: expect.stringMatching(/permission denied|must be superuser/i) }),
      ],
      forbidden: ['FUNCTION public.lower_c(text)', 'EVENT TRIGGER watch'],
      dependents: ['INDEX public.words_lower_c_idx'],
    });
    expect(verification.checks.filter(({ level }) => level === 4).map(({ ok }) => ok)).toEqual([true, true, true, true]);
  });

  it('gives a hostile dump no program to run', async () => {
    const database = await postgres.current.createDatabase('hostile', 'OWNER app');
    const app = postgres.current.connection(database, { user: 'app', password: 'pass-app' });
    await postgres.current.exec(database, 'CREATE SCHEMA app AUTHORIZATION app');
    await withClient(app, { applicationName: 'test' }, (client) =>
      client.query(`CREATE TABLE app.out (line text); CREATE FUNCTION app.look() RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN
        IF current_database() = 'hostile' THEN RETURN true; END IF;
        BEGIN COPY app.out FROM PROGRAM 'id'; EXCEPTION WHEN insufficient_privilege THEN RETURN true; END;
        RAISE EXCEPTION 'a program was run'; END $f$;
        CREATE TABLE app.trap (n int CHECK (app.look())); INSERT INTO app.trap VALUES (1)`),
    );
    const assertions = [{ name: 'n', query: 'SELECT count(*) FROM app.trap', expectation: 1, timeoutSeconds: 30 }];
    expect(found(await verify(await runs.backUp(app), { plainRole: true, assertions }))).toEqual(whole(5));
  });
});

describe('a drill on DRILL_DATABASE_URL', () => {
  it('proves all of what belongs to its role, and leaves nothing', async () => {
    const database = await postgres.current.createDatabase('mine', 'OWNER drill');
    const mine = await madeBy({ ...scratch, database });
    const verification = await verify(mine, { scratch });
    expect(found(verification)).toEqual(whole(5));
    expect(await databases()).toEqual([]);
  });

  it('compares all but the owners of what belongs to others', async () => {
    expect(found(await verify(shared, { scratch }))).toEqual({ ...whole(3), impossible: expect.stringContaining('other') });
    expect(await databases()).toEqual([]);
  });

  it.each([
    ['is a superuser', 'SUPERUSER', /may do too much \(a superuser/],
    ['may create roles', 'CREATEDB CREATEROLE', /may create roles/],
    ['may run programs', 'CREATEDB IN ROLE pg_execute_server_program', /pg_execute_server_program/],
    ['may not create databases', 'NOCREATEDB', /may not create databases/],
  ])('refuses a role that %s', async (what, options, message) => {
    await postgres.current.exec('postgres', `CREATE ROLE "${what}" LOGIN PASSWORD 'pass' ${options}`);
    const { provenLevel, failure, impossible } = await verify(owned, {
      level: 3,
      scratch: postgres.current.connection('postgres', { user: what, password: 'pass' }),
    });
    expect({ provenLevel, failure, code: impossible?.code }).toEqual({ provenLevel: 2, failure: null, code: 'DRILL_IMPOSSIBLE' });
    expect(impossible?.message).toMatch(message);
  });

  it('says so when nothing answers there', async () => {
    const { provenLevel, impossible } = await verify(owned, { level: 3, scratch: { ...scratch, password: 'wrong' } });
    expect({ provenLevel, message: impossible?.message }).toEqual({
      provenLevel: 2,
      message: expect.stringContaining('DRILL_DATABASE_URL'),
    });
    expect(JSON.stringify(impossible)).not.toContain('wrong');
  });

  it('drops what killed drills have left, and nothing of those that live', async () => {
    for (const name of [
      'backstay_drill_dead',
      'backstay_verification_dead_1',
      'backstay_drill_alive',
      'backstay_verification_alive_1',
      'backstay_own',
    ])
      await postgres.current.createDatabase(name, 'OWNER drill');
    await postgres.current.createDatabase('backstay_drill_of_others');
    const swept = await withClient(scratch, { applicationName: 'backstay:drill:alive' }, () => sweepScratch(scratch));
    expect(swept.toSorted()).toEqual(['backstay_drill_dead', 'backstay_verification_dead_1']);
    expect(await databases()).toHaveLength(4);
  });
});
