import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Client } from 'pg';
import { ArchiveReader, type ArchiveSummary } from '../../src/engine/archive/archive-reader.js';
import { chooseClientPrograms, type ClientPrograms, findClientPrograms } from '../../src/engine/postgres/client-programs.js';
import { withClient } from '../../src/engine/postgres/client.js';
import { type PgConnection, validateConnection } from '../../src/engine/postgres/connection.js';
import { databaseArgument, withPgEnvironment } from '../../src/engine/postgres/environment.js';
import { collectDatabaseConfig, dumpGlobals } from '../../src/engine/postgres/globals.js';
import { inspectSource, lockShortage } from '../../src/engine/postgres/inspect-source.js';
import { findOmissions, listStoredRelations } from '../../src/engine/postgres/omissions.js';
import { programError } from '../../src/engine/postgres/program-error.js';
import { estimateTables } from '../../src/engine/postgres/relations.js';
import { startProgram } from '../../src/engine/postgres/run-program.js';
import { checkPinnedSettings } from '../../src/engine/postgres/settings.js';
import { TestPostgres, usePostgres } from '../support/postgres.js';

const session = { applicationName: 'test' };
const postgres = usePostgres();
let programs: ClientPrograms;
let sample: string;

beforeAll(async () => {
  programs = chooseClientPrograms(await findClientPrograms({ binDirs: [] }), postgres.current.cluster.major);
  sample = await postgres.current.createSampleDatabase('sample');
});

async function dump(connection: PgConnection, args: string[] = []): Promise<ArchiveSummary> {
  return withPgEnvironment(connection, session, async (env) => {
    const program = startProgram(programs.pgDump, ['-Fc', '--compress=0', ...args], { env });
    const reader = new ArchiveReader();
    try {
      for await (const chunk of program.stdout) reader.write(chunk as Buffer);
      await program.done;
    } catch (error) {
      throw programError('pg_dump', error, { connection });
    }
    reader.end();
    return reader.summary();
  });
}

describe('client programs', () => {
  it('are found with their version, each folder once', async () => {
    const found = await findClientPrograms({ binDirs: [programs.binDir, programs.binDir, '/nonexistent'] });
    expect(found[0]).toEqual(programs);
    expect(new Set(found.map(({ pgDump }) => pgDump)).size).toBe(found.length);
  });
});

describe('withClient', () => {
  it('says that nothing listens, and names the place and no password', async () => {
    const connection = { ...postgres.current.connection(), port: 1, password: 'canary' };
    const error: unknown = await withClient(connection, session, (client) => client.query('select 1')).catch(
      (error: unknown) => error,
    );
    expect(error).toMatchObject({ code: 'SOURCE_UNREACHABLE', message: expect.stringContaining('127.0.0.1:1/postgres') });
    expect(String(error)).not.toContain('canary');
  });

  it('says that the password is wrong', async () => {
    const connection = { ...postgres.current.connection(), password: 'canary' };
    await expect(withClient(connection, session, (client) => client.query('select 1'))).rejects.toMatchObject({
      code: 'AUTHENTICATION_FAILED',
    });
  });

  it('looks for no password in the environment', async () => {
    const { password: right, ...connection } = postgres.current.connection();
    process.env.PGPASSWORD = right;
    try {
      await expect(withClient(connection, session, (client) => client.query('select 1'))).rejects.toMatchObject({
        code: 'AUTHENTICATION_FAILED',
      });
    } finally {
      delete process.env.PGPASSWORD;
    }
  });

  it('says that there is no such database', async () => {
    const connection = postgres.current.connection('no "such" database');
    await expect(withClient(connection, session, (client) => client.query('select 1'))).rejects.toMatchObject({
      code: 'DATABASE_NOT_FOUND',
    });
  });

  it('ends a running statement when its signal is aborted', async () => {
    const abort = new AbortController();
    const sleeping = withClient(postgres.current.connection(), { ...session, signal: abort.signal }, async (client) => {
      const query = client.query('select pg_sleep(600)');
      abort.abort();
      await query;
    });
    await expect(sleeping).rejects.toMatchObject({ code: 'CANCELED' });
  });

  it('holds to the statement timeout that was asked for', async () => {
    const sleeping = withClient(postgres.current.connection(), { ...session, statementTimeoutMs: 50 }, (client) =>
      client.query('select pg_sleep(600)'),
    );
    await expect(sleeping).rejects.toMatchObject({ code: 'RUN_TIMEOUT' });
  });

  it('leaves an unknown error of a statement as it is', async () => {
    const failing = withClient(postgres.current.connection(), session, (client) => client.query('select 1/0'));
    await expect(failing).rejects.toMatchObject({ code: '22012' });
  });
});

describe('pinned settings', () => {
  it('win over what ALTER DATABASE and ALTER ROLE set', async () => {
    const user = await postgres.current.createUser('odd_settings');
    await postgres.current.exec(
      'postgres',
      "ALTER ROLE odd_settings SET timezone = 'Asia/Tokyo'; ALTER ROLE odd_settings IN DATABASE sample SET bytea_output = 'escape'",
    );
    await postgres.current.exec(
      'postgres',
      "ALTER ROLE odd_settings SET statement_timeout = '1s'; ALTER ROLE odd_settings SET search_path = 'shop'; ALTER ROLE odd_settings SET default_transaction_read_only = on",
    );
    await withClient(postgres.current.connection(sample, user), session, async (client) => {
      await checkPinnedSettings(client);
      expect((await client.query('show statement_timeout')).rows).toEqual([{ statement_timeout: '0' }]);
      // The copy of a read-only database is made through a session of that database.
      expect((await client.query('show transaction_read_only')).rows).toEqual([{ transaction_read_only: 'off' }]);
    });
  });

  it('are missed where a pooler dropped them', async () => {
    const { host, port, user, password } = postgres.current.connection();
    const client = new Client({ host, port, user, password, database: sample });
    await client.connect();
    try {
      await expect(checkPinnedSettings(client)).rejects.toMatchObject({
        code: 'POOLER_UNSUITABLE',
        message: expect.stringContaining('TimeZone'),
      });
    } finally {
      await client.end();
    }
  });

  it('reach pg_dump, so that a dump does not depend on the settings of the database', async () => {
    const before = await dump(postgres.current.connection(sample));
    await postgres.current.exec('postgres', 'ALTER DATABASE sample RESET ALL');
    const after = await dump(postgres.current.connection(sample));
    expect(after.tables.map(({ sha256 }) => sha256)).toEqual(before.tables.map(({ sha256 }) => sha256));
  });
});

describe('TLS', () => {
  let folder: string;
  let ca: string;
  let secure: TestPostgres | undefined;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'backstay-tls-'));
    await makeCertificate(folder);
    ca = await readFile(join(folder, 'server.crt'), 'utf8');
    secure = await TestPostgres.start({
      ssl: 'on',
      ssl_cert_file: join(folder, 'server.crt'),
      ssl_key_file: join(folder, 'server.key'),
    });
  });
  afterAll(async () => {
    await secure?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  function withTls(mode: string, host: string, withCa: boolean): PgConnection {
    if (secure === undefined) throw new Error('the server with TLS did not start');
    const { tls: _, ...fields } = secure.connection();
    return validateConnection({ ...fields, host, tls: { mode, ...(withCa ? { ca } : {}) } }, { allowUnixSockets: false });
  }

  it.each([
    ['prefer', '127.0.0.1', false],
    ['require', '127.0.0.1', false],
    ['verify-ca', '127.0.0.1', true],
    ['verify-full', 'localhost', true],
  ])('is used by the driver and by pg_dump in mode %s to %s', async (mode, host, withCa) => {
    const connection = withTls(mode, host, withCa);
    const { rows } = await withClient(connection, session, (client) =>
      client.query('select ssl from pg_stat_ssl where pid = pg_backend_pid()'),
    );
    expect(rows).toEqual([{ ssl: true }]);
    await expect(dump(connection)).resolves.toMatchObject({ tables: [] });
  });

  it.each([
    ['verify-full', 'localhost', false],
    ['verify-full', '127.0.0.1', true],
  ])('is refused in mode %s to %s when the certificate does not fit (CA given: %s)', async (mode, host, withCa) => {
    const connection = withTls(mode, host, withCa);
    await expect(withClient(connection, session, (client) => client.query('select 1'))).rejects.toThrow(/certificate/);
    await expect(dump(connection)).rejects.toMatchObject({ code: 'SOURCE_UNREACHABLE' });
  });

  it('is refused by a server that has none, unless it is only preferred', async () => {
    const plain = { ...postgres.current.connection(), tls: { mode: 'require' as const } };
    await expect(withClient(plain, session, (client) => client.query('select 1'))).rejects.toMatchObject({
      message: expect.stringContaining('no TLS'),
    });
    await expect(dump(plain)).rejects.toMatchObject({ code: 'SOURCE_UNREACHABLE' });
    const preferred = { ...plain, tls: { mode: 'prefer' as const } };
    await expect(withClient(preferred, session, (client) => client.query('select 1 as one'))).resolves.toMatchObject({
      rows: [{ one: 1 }],
    });
  });
});

/** A certificate for the name localhost alone, which is its own authority; the key readable by the cluster's user. */
async function makeCertificate(folder: string): Promise<void> {
  const key = join(folder, 'server.key');
  await promisify(execFile)('openssl', [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=localhost',
    '-addext',
    'subjectAltName=DNS:localhost',
    '-keyout',
    key,
    '-out',
    join(folder, 'server.crt'),
  ]);
  if (process.getuid?.() === 0) for (const path of [folder, key, join(folder, 'server.crt')]) await chown(path, 65_534, 65_534);
}

describe('inspectSource', () => {
  it('tells what there is', async () => {
    const inspection = await inspectSource(postgres.current.connection(sample));
    expect(inspection).toMatchObject({
      serverMajor: postgres.current.cluster.major,
      serverVersion: postgres.current.cluster.version,
      encoding: 'UTF8',
      collate: 'C',
      localeProvider: 'libc',
      icuLocale: null,
      tablespaces: [],
      missingPrivileges: [],
      missingPrivilegeCount: 0,
      isSuperuser: true,
      bypassRls: true,
      poolerSuspected: null,
      publications: ['shop_orders'],
      subscriptions: [],
    });
    expect(inspection.extensions.map(({ name }) => name)).toContain('plpgsql');
    expect(inspection.sizeBytes).toBeGreaterThan(10_000_000);
    expect(inspection.tableCount).toBeGreaterThan(30);
    expect(lockShortage(inspection)).toBeNull();
  });

  it('names every right that the user lacks', async () => {
    const database = await postgres.current.createDatabase();
    await postgres.current.exec(
      database,
      `CREATE SCHEMA "clo""sed"; CREATE TABLE "clo""sed".t (); CREATE TABLE public.open (); GRANT SELECT ON public.open TO PUBLIC;
       CREATE TABLE public.shut (id serial); CREATE TABLE public.rows (); GRANT SELECT ON public.rows TO PUBLIC; ALTER TABLE public.rows ENABLE ROW LEVEL SECURITY;
       SELECT lo_create(4711); SELECT lo_create(4712); GRANT SELECT ON LARGE OBJECT 4712 TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC`,
    );
    const user = await postgres.current.createUser('weak');
    const inspection = await inspectSource(postgres.current.connection(database, user));
    expect(inspection.missingPrivileges.toSorted()).toEqual([
      'BYPASSRLS or ownership for table "public"."rows"',
      'SELECT on large object 4711',
      'SELECT on sequence "public"."shut_id_seq"',
      'SELECT on table "clo""sed"."t"',
      'SELECT on table "public"."shut"',
      'USAGE on schema "clo""sed"',
    ]);
    expect(inspection).toMatchObject({ missingPrivilegeCount: 6, isSuperuser: false, bypassRls: false });
    await expect(dump(postgres.current.connection(database, user))).rejects.toMatchObject({ code: 'PRIVILEGE_MISSING' });
  });

  it('asks for no right on what is left out', async () => {
    const database = await postgres.current.createDatabase();
    await postgres.current.exec(database, 'CREATE SCHEMA hidden; CREATE TABLE hidden.t (); CREATE TABLE public.shut ()');
    const user = await postgres.current.createUser('weaker');
    const exclusions = { schemas: ['hidden'], tables: [{ schema: 'public', name: 'shut' }] };
    expect((await inspectSource(postgres.current.connection(database, user), { exclusions })).missingPrivileges).toEqual([]);
  });

  it('masks settings that look like secrets', async () => {
    const database = await postgres.current.createDatabase();
    await postgres.current.exec(
      database,
      `ALTER DATABASE ${database} SET app.jwt_secret = 'canary'; ALTER DATABASE ${database} SET work_mem = '8MB'`,
    );
    const { databaseSettings } = await inspectSource(postgres.current.connection(database));
    expect(databaseSettings.filter(({ role }) => role === null)).toEqual([
      { role: null, name: 'app.jwt_secret', value: '***' },
      { role: null, name: 'work_mem', value: '8MB' },
    ]);
  });

  it('knows the encoding of a LATIN1 database', async () => {
    const database = await postgres.current.createDatabase(undefined, "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
    expect((await inspectSource(postgres.current.connection(database))).encoding).toBe('LATIN1');
  });
});

describe('lockShortage', () => {
  it('says how far to raise the setting', () => {
    const maxLocks = { perTransaction: 64, maxConnections: 100, maxPrepared: 0, capacity: 7808 };
    expect(lockShortage({ maxLocks, lockableRelations: 20_000 })).toMatch(/from 64 to 205 /);
    expect(lockShortage({ maxLocks, lockableRelations: 11_000 })).toBeNull();
  });
});

describe('findOmissions', () => {
  it('explains every relation of the sample whose rows are not in the dump', async () => {
    const { tables } = await dump(postgres.current.connection(sample));
    const omissions = await withClient(postgres.current.connection(sample), session, (client) => findOmissions(client, tables));
    expect(omissions).toEqual([
      { schema: 'shop', name: 'elsewhere', reason: 'foreign-table' },
      { schema: 'shop', name: 'not_yet', reason: 'unpopulated-materialized-view' },
      { schema: 'shop', name: 'sales_by_day', reason: 'materialized-view-is-refreshed' },
      { schema: 'shop', name: 'sales_of_sales', reason: 'materialized-view-is-refreshed' },
    ]);
  });

  it('tells exclusions, members of extensions, unlogged tables and what nothing explains', async () => {
    const database = await postgres.current.createDatabase();
    await postgres.current.exec(
      database,
      `CREATE EXTENSION hstore; CREATE TABLE public.member (); ALTER EXTENSION hstore ADD TABLE public.member;
       CREATE UNLOGGED TABLE public.fleeting (); CREATE TABLE public.out (); CREATE SCHEMA gone; CREATE TABLE gone.t (); CREATE TABLE public.lost ();
       CREATE TABLE public.kept ()`,
    );
    const connection = postgres.current.connection(database);
    const { tables } = await dump(connection, [
      '--no-unlogged-table-data',
      '-T',
      'public.out',
      '-N',
      'gone',
      '--exclude-table-data',
      'public.lost',
    ]);
    const exclusions = { schemas: ['gone'], tables: [{ schema: 'public', name: 'out' }] };
    const omissions = await withClient(connection, session, (client) =>
      findOmissions(client, tables, { exclusions, withoutUnlogged: true }),
    );
    expect(omissions.map(({ name, reason }) => [name, reason])).toEqual([
      ['t', 'excluded'],
      ['fleeting', 'unlogged'],
      ['lost', 'unknown'],
      ['member', 'extension-member'],
      ['out', 'excluded'],
    ]);
  });

  it('takes no table that was made after the dump began for an omission', async () => {
    const database = await postgres.current.createDatabase();
    const connection = postgres.current.connection(database);
    await withClient(connection, session, async (client) => {
      const before = await listStoredRelations(client);
      await client.query('CREATE TABLE public.late ()');
      expect(await findOmissions(client, [], { before })).toEqual([]);
      expect(await findOmissions(client, [])).toEqual([{ schema: 'public', name: 'late', reason: 'unknown' }]);
    });
  });
});

describe('estimateTables', () => {
  it('gives rows and bytes of each table with rows, largest first', async () => {
    await postgres.current.exec(sample, 'ANALYZE');
    const tables = await withClient(postgres.current.connection(sample), session, estimateTables);
    expect(tables.find(({ schema, name }) => schema === 'shop' && name === 'order_items')).toMatchObject({ rows: 20_000 });
    expect(tables.some(({ name }) => name === 'events')).toBe(false);
    expect(tables.map(({ bytes }) => bytes)).toEqual(tables.map(({ bytes }) => bytes).toSorted((a, b) => b - a));
  });
});

describe('globals', () => {
  it('come as SQL without passwords, from a database with an evil name', async () => {
    const name = await postgres.current.createDatabase("host=evil.example.com port=1 '\\");
    await postgres.current.createUser('global_user');
    const sql = await withPgEnvironment(postgres.current.connection(name), session, async (env) => {
      const program = dumpGlobals(programs, name, { env });
      const output = await text(program.stdout);
      await program.done;
      return output;
    });
    expect(sql).toContain('CREATE ROLE global_user');
    expect(sql).not.toMatch(/PASSWORD|SCRAM|password-of/);
  });

  it('come for a user without any right', async () => {
    const user = await postgres.current.createUser('nobody_special');
    await withPgEnvironment(postgres.current.connection(sample, user), session, async (env) => {
      const program = dumpGlobals(programs, sample, { env });
      expect(await text(program.stdout)).toContain('CREATE ROLE nobody_special');
      await program.done;
    });
  });

  it('are joined by the configuration of the database', async () => {
    await postgres.current.exec(
      'postgres',
      "CREATE ROLE team; GRANT team TO postgres WITH ADMIN OPTION; ALTER DATABASE sample SET work_mem = '9MB'",
    );
    const config = await withClient(postgres.current.connection(sample), session, collectDatabaseConfig);
    expect(config.database).toBe('sample');
    expect(config.databaseSettings).toContainEqual({ role: null, name: 'work_mem', value: '9MB' });
    expect(config.serverSettings).toContainEqual(expect.objectContaining({ name: 'fsync', value: 'off' }));
    expect(config.memberships).toContainEqual({ role: 'team', member: 'postgres', admin: true });
    expect(config.roles).toContainEqual(expect.objectContaining({ name: 'team', login: false }));
    expect(JSON.stringify(config)).not.toMatch(/SCRAM|password-of/);
  });
});

describe('a failed pg_dump', () => {
  it('is told as a lock that another session holds', async () => {
    const database = await postgres.current.createDatabase();
    const connection = postgres.current.connection(database);
    await postgres.current.exec(database, 'CREATE TABLE public.busy ()');
    await withClient(connection, session, async (client) => {
      await client.query('BEGIN; LOCK TABLE public.busy IN ACCESS EXCLUSIVE MODE');
      await expect(dump(connection, ['--lock-wait-timeout=50'])).rejects.toMatchObject({ code: 'LOCK_TIMEOUT' });
    });
  });

  it('is told as a wrong password, a missing database, a server that is not there', async () => {
    const connection = postgres.current.connection();
    await expect(dump({ ...connection, password: 'canary' })).rejects.toMatchObject({ code: 'AUTHENTICATION_FAILED' });
    await expect(dump({ ...connection, database: "no 'such'" })).rejects.toMatchObject({ code: 'DATABASE_NOT_FOUND' });
    await expect(dump({ ...connection, port: 1 })).rejects.toMatchObject({ code: 'SOURCE_UNREACHABLE' });
  });

  it('is told as row-level security that hides rows', async () => {
    const database = await postgres.current.createDatabase();
    await postgres.current.exec(
      database,
      'CREATE TABLE public.secrets (id int); ALTER TABLE public.secrets ENABLE ROW LEVEL SECURITY; GRANT SELECT ON public.secrets TO PUBLIC',
    );
    const user = await postgres.current.createUser('half_blind');
    await expect(dump(postgres.current.connection(database, user))).rejects.toMatchObject({
      code: 'PRIVILEGE_MISSING',
      message: expect.stringContaining('"secrets"'),
    });
  });

  it('is told as a full lock table, which the preflight foresees', async () => {
    const small = await TestPostgres.start({
      max_connections: '5',
      max_locks_per_transaction: '10',
      max_worker_processes: '0',
      autovacuum_max_workers: '1',
    });
    try {
      for (let i = 0; i < 15; i++) {
        await small.exec(
          'postgres',
          `DO $$ BEGIN FOR i IN 1..100 LOOP EXECUTE format('CREATE TABLE public.t_${i}_%s ()', i); END LOOP; END $$`,
        );
      }
      expect(lockShortage(await inspectSource(small.connection()))).toMatch(/max_locks_per_transaction from 10 to \d{3} /);
      await expect(dump(small.connection())).rejects.toMatchObject({
        code: 'LOCKS_EXHAUSTED',
        hint: expect.stringContaining('max_locks_per_transaction'),
      });
    } finally {
      await small.stop();
    }
  });
});

describe('databaseArgument', () => {
  it('is not expanded by pg_restore', async () => {
    const name = await postgres.current.createDatabase("dbname='postgres' host=/nowhere");
    await withPgEnvironment(postgres.current.connection(name), session, async (env) => {
      const dumping = startProgram(programs.pgDump, ['-Fc', '--compress=0', '--schema-only'], { env });
      const restoring = startProgram(programs.pgRestore, ['--exit-on-error', '-d', databaseArgument(name)], {
        env,
        stdin: 'pipe',
      });
      restoring.stdout.resume();
      if (restoring.stdin === null) throw new Error('no stdin');
      dumping.stdout.pipe(restoring.stdin);
      await Promise.all([dumping.done, restoring.done, once(dumping.stdout, 'close')]);
    });
  });
});
