import { withClient } from './client.js';
import { describeConnection, type PgConnection } from './connection.js';
import { EngineError } from '../errors.js';
import { findMissingPrivileges } from './missing-privileges.js';
import { type Exclusions, EXTENSION_MEMBER, type Queryable, SYSTEM_SCHEMA } from './relations.js';
import { checkPinnedSettings } from './settings.js';

/** How much of its nominal size the lock table holds at least: 1.57 to 1.66 times were measured with PostgreSQL 15. */
const LOCK_TABLE_SLACK = 1.5;
const SUPABASE_TRANSACTION_POOLER_PORT = 6543;

export interface DatabaseSetting {
  /** null for every role. */
  role: string | null;
  name: string;
  /** `***` where the name tells of a secret. */
  value: string;
}

/** What a look at a database tells before it is backed up. */
export interface SourceInspection {
  /** Such as `15.20`. */
  serverVersion: string;
  serverMajor: number;
  encoding: string;
  collate: string;
  ctype: string;
  localeProvider: 'libc' | 'icu' | 'builtin';
  /** The locale of ICU or of the builtin provider; null with libc. */
  icuLocale: string | null;
  sizeBytes: number;
  /** Tables with rows of their own: leaves of partitioned tables, not their parents. */
  tableCount: number;
  extensions: { name: string; version: string; schema: string }[];
  /** Other than pg_default, where something of this database lies. */
  tablespaces: string[];
  /** At most a hundred, named; `missingPrivilegeCount` counts all. */
  missingPrivileges: string[];
  missingPrivilegeCount: number;
  isSuperuser: boolean;
  bypassRls: boolean;
  /** Why the connection seems to go through a pooler without session state; null where nothing tells of one. */
  poolerSuspected: string | null;
  maxLocks: { perTransaction: number; maxConnections: number; maxPrepared: number; capacity: number };
  /** How many locks a dump holds at once. */
  lockableRelations: number;
  databaseSettings: DatabaseSetting[];
  publications: string[];
  subscriptions: string[];
}

/**
 * Looks at a database: version, encoding, size, rights and what may be in the way of a dump. Changes nothing.
 *
 * @throws EngineError as withClient
 */
export async function inspectSource(
  connection: PgConnection,
  options: { signal?: AbortSignal; exclusions?: Exclusions; applicationName?: string } = {},
): Promise<SourceInspection> {
  const session = {
    applicationName: options.applicationName ?? 'backstay:inspect',
    ...(options.signal ? { signal: options.signal } : {}),
  };
  return withClient(connection, session, async (client) => {
    const [poolerSuspected, facts, missing] = [
      await suspectPooler(client, connection),
      await readFacts(client),
      await findMissingPrivileges(client, options.exclusions),
    ];
    return {
      ...facts,
      missingPrivileges: missing.named,
      missingPrivilegeCount: missing.total,
      poolerSuspected,
      maxLocks: await readLockTable(client),
      lockableRelations: await countLockable(client),
      databaseSettings: (await readDatabaseSettings(client, { ofEveryDatabase: false })).map(maskSecret),
    };
  });
}

/**
 * A sentence where a dump of this database needs more locks than the server's lock table surely holds; null where it fits.
 * pg_dump locks every table and sequence in one transaction.
 */
export function lockShortage({
  maxLocks,
  lockableRelations,
}: Pick<SourceInspection, 'maxLocks' | 'lockableRelations'>): string | null {
  const room = Math.floor(maxLocks.capacity * LOCK_TABLE_SLACK);
  if (lockableRelations <= room) return null;
  const wanted = Math.ceil((maxLocks.perTransaction * lockableRelations * 1.25) / maxLocks.capacity);
  return (
    `A dump locks ${lockableRelations} relations at once, and the lock table of the server holds about ${room}: ` +
    `raise max_locks_per_transaction from ${maxLocks.perTransaction} to ${wanted} and restart the server.`
  );
}

type Facts = Pick<
  SourceInspection,
  | 'serverVersion'
  | 'serverMajor'
  | 'encoding'
  | 'collate'
  | 'ctype'
  | 'localeProvider'
  | 'icuLocale'
  | 'sizeBytes'
  | 'tableCount'
  | 'extensions'
  | 'tablespaces'
  | 'isSuperuser'
  | 'bypassRls'
  | 'publications'
  | 'subscriptions'
>;

async function readFacts(client: Queryable): Promise<Facts> {
  // The columns of pg_database differ between versions: as JSON, the ones that are not there are null.
  const { rows } = await client.query<
    Omit<Facts, 'localeProvider'> & { localeProvider: string | null; versionNumber: number; versionText: string }
  >(
    `select current_setting('server_version_num')::int as "versionNumber", current_setting('server_version') as "versionText",
            pg_encoding_to_char(d.encoding) as encoding, d.datcollate as collate, d.datctype as ctype,
            j ->> 'datlocprovider' as "localeProvider", coalesce(j ->> 'datlocale', j ->> 'daticulocale') as "icuLocale",
            pg_database_size(d.oid)::float8 as "sizeBytes",
            (select count(*)::int from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where c.relkind = 'r' and c.relpersistence <> 't' and not ${SYSTEM_SCHEMA} and not ${EXTENSION_MEMBER}) as "tableCount",
            (select coalesce(json_agg(json_build_object('name', extname, 'version', extversion, 'schema', en.nspname) order by extname), '[]')
               from pg_catalog.pg_extension join pg_catalog.pg_namespace en on en.oid = extnamespace) as extensions,
            array(select t.spcname::text from pg_catalog.pg_tablespace t
                   where t.spcname not in ('pg_default', 'pg_global')
                     and (t.oid = d.dattablespace or exists (select from pg_catalog.pg_class c where c.reltablespace = t.oid)) order by 1) as tablespaces,
            array(select pubname::text from pg_catalog.pg_publication order by 1) as publications,
            array(select subname::text from pg_catalog.pg_subscription where subdbid = d.oid order by 1) as subscriptions,
            r.rolsuper as "isSuperuser", r.rolsuper or r.rolbypassrls as "bypassRls"
       from pg_catalog.pg_database d cross join to_jsonb(d) j
       join pg_catalog.pg_roles r on r.rolname = current_user
      where d.datname = current_database()`,
  );
  const [row] = rows;
  if (row === undefined) throw new Error('the database does not list itself in pg_database');
  const { versionNumber, versionText, localeProvider, ...facts } = row;
  const provider = localeProvider === 'i' ? 'icu' : localeProvider === 'b' ? 'builtin' : 'libc';
  return {
    ...facts,
    serverVersion: versionText.split(' ', 1)[0] ?? '',
    serverMajor: Math.floor(versionNumber / 10_000),
    localeProvider: provider,
  };
}

async function readLockTable(client: Queryable): Promise<SourceInspection['maxLocks']> {
  const { rows } = await client.query<{ name: string; value: number }>(
    `select name, setting::int as value from pg_catalog.pg_settings where name in ('max_locks_per_transaction', 'max_connections',
      'max_prepared_transactions', 'autovacuum_max_workers', 'autovacuum_worker_slots', 'max_worker_processes', 'max_wal_senders')`,
  );
  const settings = new Map(rows.map(({ name, value }) => [name, value]));
  const of = (name: string): number => settings.get(name) ?? 0;
  const autovacuum = settings.get('autovacuum_worker_slots') ?? of('autovacuum_max_workers');
  // The server sizes the table by every kind of backend; one more is the launcher of autovacuum.
  const backends = of('max_connections') + autovacuum + 1 + of('max_worker_processes') + of('max_wal_senders');
  return {
    perTransaction: of('max_locks_per_transaction'),
    maxConnections: of('max_connections'),
    maxPrepared: of('max_prepared_transactions'),
    capacity: of('max_locks_per_transaction') * (backends + of('max_prepared_transactions')),
  };
}

async function countLockable(client: Queryable): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `select count(*)::int as count from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'S', 'v', 'm', 'f') and c.relpersistence <> 't' and not ${SYSTEM_SCHEMA} and not ${EXTENSION_MEMBER}`,
  );
  return rows[0]?.count ?? 0;
}

/**
 * The settings that `ALTER DATABASE SET` and `ALTER ROLE … IN DATABASE SET` laid on this database and, if asked for, those that
 * `ALTER ROLE SET` laid on every database: these belong to the server, and a copy of the database must not pin them.
 */
export async function readDatabaseSettings(
  client: Queryable,
  { ofEveryDatabase }: { ofEveryDatabase: boolean },
): Promise<DatabaseSetting[]> {
  const { rows } = await client.query<{ role: string | null; setting: string }>(
    `select r.rolname as role, unnest(s.setconfig) as setting from pg_catalog.pg_db_role_setting s
       left join pg_catalog.pg_roles r on r.oid = s.setrole
      where s.setdatabase = (select oid from pg_catalog.pg_database where datname = current_database()) or ($1 and s.setdatabase = 0)
      order by 1 nulls first, 2`,
    [ofEveryDatabase],
  );
  return rows.map(({ role, setting }) => {
    const end = setting.indexOf('=');
    return { role, name: setting.slice(0, end), value: setting.slice(end + 1) };
  });
}

/** People keep tokens in settings of their own (`app.jwt_secret`). */
function maskSecret(setting: DatabaseSetting): DatabaseSetting {
  return /secret|passw|token|key|credential/i.test(setting.name) ? { ...setting, value: '***' } : setting;
}

async function suspectPooler(client: Queryable, connection: PgConnection): Promise<string | null> {
  if (connection.port === SUPABASE_TRANSACTION_POOLER_PORT) {
    return `${describeConnection(connection)}: 6543 is the port of Supabase's transaction pooler, which keeps no session; use port 5432.`;
  }
  try {
    await checkPinnedSettings(client);
  } catch (error) {
    if (error instanceof EngineError) return `${error.message} ${error.hint}`;
    throw error;
  }
  const { rows: first } = await client.query<{ pid: number }>(
    "select set_config('backstay.probe', 'set', false), pg_backend_pid() as pid",
  );
  const { rows: second } = await client.query<{ pid: number; probe: string | null }>(
    "select pg_backend_pid() as pid, current_setting('backstay.probe', true) as probe",
  );
  if (first[0]?.pid === second[0]?.pid && second[0]?.probe === 'set') return null;
  return 'Two statements of one connection ran in different sessions of the server, as behind a transaction pooler; use a direct connection.';
}
