import type { ClientPrograms } from './client-programs.js';
import { databaseArgument } from './environment.js';
import { type DatabaseSetting, readDatabaseSettings } from './inspect-source.js';
import { redact } from './program-error.js';
import type { Queryable } from './relations.js';
import { type RunningProgram, startProgram } from './run-program.js';

/** Whether the session's user can read the hashes of passwords, which as a rule only superusers can. */
export async function mayReadPasswords(client: Queryable): Promise<boolean> {
  const { rows } = await client.query<{ may: boolean }>("SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS may");
  return rows[0]?.may === true;
}

/**
 * Starts `pg_dumpall --globals-only`: roles, memberships, tablespaces and role settings as SQL on stdout. Without passwords it reads
 * pg_roles, and needs no superuser; with them see `mayReadPasswords`. Failures are told by `programError('pg_dumpall', …)`.
 *
 * @param database any database of the server that may be entered.
 * @param env as pgEnvironment gives it.
 */
export function dumpGlobals(
  programs: Pick<ClientPrograms, 'pgDumpall'>,
  database: string,
  { passwords = false, ...options }: { env: Readonly<Record<string, string>>; signal?: AbortSignal; passwords?: boolean },
): RunningProgram {
  // Unlike pg_dump it does not look at PGDATABASE, and it expands what -l says: hence the quoted form.
  return startProgram(
    programs.pgDumpall,
    ['--globals-only', ...(passwords ? [] : ['--no-role-passwords']), '-l', databaseArgument(database)],
    options,
  );
}

/** What belongs to a database and its server besides schema and rows; goes into the encrypted `config` component. */
export interface DatabaseConfig {
  database: string;
  serverVersion: string;
  /** Of `ALTER DATABASE SET` and `ALTER ROLE SET`. */
  databaseSettings: DatabaseSetting[];
  /** Settings of the server that are not the built-in ones; passwords in connection strings are taken out. */
  serverSettings: { name: string; value: string; unit: string | null; source: string }[];
  extensions: { name: string; version: string; schema: string }[];
  roles: {
    name: string;
    superuser: boolean;
    login: boolean;
    createDb: boolean;
    createRole: boolean;
    replication: boolean;
    bypassRls: boolean;
  }[];
  memberships: { role: string; member: string; admin: boolean }[];
}

/** Reads the configuration of the database and its server, without passwords. */
export async function collectDatabaseConfig(client: Queryable): Promise<DatabaseConfig> {
  const identity = await client.query<{ database: string; version: string }>(
    "select current_database() as database, current_setting('server_version') as version",
  );
  const settings = await client.query<DatabaseConfig['serverSettings'][number]>(
    `select name, setting as value, unit, source from pg_catalog.pg_settings
      where source not in ('default', 'override', 'client', 'session', 'interactive', 'test') order by name`,
  );
  const extensions = await client.query<DatabaseConfig['extensions'][number]>(
    `select e.extname as name, e.extversion as version, n.nspname as schema from pg_catalog.pg_extension e
       join pg_catalog.pg_namespace n on n.oid = e.extnamespace order by 1`,
  );
  const roles = await client.query<DatabaseConfig['roles'][number]>(
    `select rolname as name, rolsuper as superuser, rolcanlogin as login, rolcreatedb as "createDb", rolcreaterole as "createRole",
            rolreplication as replication, rolbypassrls as "bypassRls"
       from pg_catalog.pg_roles where rolname !~ '^pg_' order by 1`,
  );
  const memberships = await client.query<DatabaseConfig['memberships'][number]>(
    `select distinct r.rolname as role, m.rolname as member, a.admin_option as admin from pg_catalog.pg_auth_members a
       join pg_catalog.pg_roles r on r.oid = a.roleid join pg_catalog.pg_roles m on m.oid = a.member
      where m.rolname !~ '^pg_' order by 1, 2, 3`,
  );
  return {
    database: identity.rows[0]?.database ?? '',
    serverVersion: identity.rows[0]?.version ?? '',
    databaseSettings: await readDatabaseSettings(client, { ofEveryDatabase: true }),
    serverSettings: settings.rows.map((setting) => ({ ...setting, value: redact(setting.value) })),
    extensions: extensions.rows,
    roles: roles.rows,
    memberships: memberships.rows,
  };
}
