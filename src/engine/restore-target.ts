import type { Client } from 'pg';
import type { ManifestSource } from './artifact/manifest.js';
import { EngineError } from './errors.js';
import type { PgConnection } from './postgres/connection.js';
import { describeConnection } from './postgres/connection.js';
import { quoteName, SYSTEM_SCHEMA } from './postgres/relations.js';

/** Where a backup is restored to. */
export type RestoreTarget =
  /** A database that does not exist yet, on the server that `server` leads to. */
  | { mode: 'new-database'; server: PgConnection; database: string }
  /** An empty database. */
  | { mode: 'url'; connection: PgConnection }
  /** The database that `server` leads to, replaced by one that is built beside it. */
  | { mode: 'swap'; server: PgConnection }
  /** What the archive has, replaced in the database itself, in one transaction. */
  | { mode: 'in-place'; connection: PgConnection }
  /** A new schema of the source's database, beside what is there. */
  | { mode: 'side-schema'; connection: PgConnection; schema: string };

/** A connection to the target's server. */
export function serverOf(target: RestoreTarget): PgConnection {
  return 'server' in target ? target.server : target.connection;
}

/** Settings whose stored value is a list of names, quoted as identifiers are; pg_dump knows the same ones. */
const LIST_SETTINGS = new Set([
  'local_preload_libraries',
  'search_path',
  'session_preload_libraries',
  'shared_preload_libraries',
  'temp_tablespaces',
  'unix_socket_directories',
]);
const MASKED = '***';

/** A text as an SQL literal, whatever standard_conforming_strings says. */
function quoteLiteral(text: string): string {
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes('\\') ? ` E${quoted.replaceAll('\\', '\\\\')}` : quoted;
}

/** Names of a target database that CREATE DATABASE would refuse or that would mislead. @throws EngineError TARGET_REFUSED */
export function assertDatabaseName(database: string): void {
  const bytes = Buffer.byteLength(database);
  const reserved = ['postgres', 'template0', 'template1'].includes(database);
  if (bytes > 0 && bytes <= 63 && !database.includes('\0') && !reserved) return;
  throw new EngineError(
    'TARGET_REFUSED',
    `${JSON.stringify(database.slice(0, 80))} can't be the name of a new database.`,
    'Choose a name of 1 to 63 bytes that is none of postgres, template0 and template1.',
  );
}

/** OID of a database of this server, or null. */
export async function databaseOid(client: Client, database: string): Promise<number | null> {
  const { rows } = await client.query<{ oid: string }>('SELECT oid::text FROM pg_catalog.pg_database WHERE datname = $1', [
    database,
  ]);
  return rows[0] ? Number(rows[0].oid) : null;
}

/**
 * Makes an empty database like the source's: same encoding, same locale, from template0.
 * @throws EngineError PRIVILEGE_MISSING, RESTORE_FAILED when the server can't make one like it
 */
export async function createLike(client: Client, database: string, source: ManifestSource): Promise<void> {
  const version = Number(
    (await client.query<{ version: string }>(`SELECT current_setting('server_version_num') AS version`)).rows[0]?.version,
  );
  const options = [
    `TEMPLATE template0`,
    `ENCODING ${quoteLiteral(source.encoding)}`,
    `LC_COLLATE ${quoteLiteral(source.collate)}`,
    `LC_CTYPE ${quoteLiteral(source.ctype)}`,
  ];
  if (source.localeProvider === 'icu' && source.locale && version >= 150_000)
    options.push('LOCALE_PROVIDER icu', `ICU_LOCALE ${quoteLiteral(source.locale)}`);
  if (source.localeProvider === 'builtin' && source.locale && version >= 170_000)
    options.push('LOCALE_PROVIDER builtin', `BUILTIN_LOCALE ${quoteLiteral(source.locale)}`);
  try {
    await client.query(`CREATE DATABASE ${quoteName(database)} ${options.join(' ')}`);
  } catch (cause) {
    if ((cause as { code?: string }).code === '42501') {
      throw new EngineError(
        'PRIVILEGE_MISSING',
        'The role of the source may not create databases.',
        'ALTER ROLE … CREATEDB, or restore by mode url into an empty database that someone else made.',
        { cause },
      );
    }
    throw new EngineError(
      'RESTORE_FAILED',
      `The server can't make a database like the source's (${source.encoding}, ${source.collate}): ${(cause as Error).message}.`,
      'Install the locale on the server, or restore by mode url into an empty database of your own making.',
      { cause },
    );
  }
}

/** Carries ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET over. @returns settings that could not be, as sentences */
export async function applyDatabaseSettings(
  client: Client,
  database: string,
  settings: ManifestSource['databaseSettings'],
): Promise<string[]> {
  const problems: string[] = [];
  for (const { role, name, value } of settings) {
    const what = `${role === null ? `ALTER DATABASE ${quoteName(database)}` : `ALTER ROLE ${quoteName(role)} IN DATABASE ${quoteName(database)}`} SET ${name.split('.').map(quoteName).join('.')}`;
    if (value === MASKED) {
      problems.push(`The setting ${name} may hold a secret and is not kept in backups: set it again yourself.`);
      continue;
    }
    const written = LIST_SETTINGS.has(name) ? listOfNames(value) : quoteLiteral(value);
    await client
      .query(`${what} TO ${written}`)
      .catch((error: Error) => problems.push(`The setting ${name} could not be carried over: ${error.message}.`));
  }
  return problems;
}

/** `"$user", public` as literals: an empty name, which is stored as `""`, can't be written as an identifier. */
function listOfNames(stored: string): string {
  const names = [...stored.matchAll(/"((?:[^"]|"")*)"|[^\s,]+/g)].map(([bare, quoted]) => quoted?.replaceAll('""', '"') ?? bare);
  return names.length === 0 ? "''" : names.map(quoteLiteral).join(', ');
}

/** Ends whoever is in a database that we made, and drops it; a missing one is fine. */
export async function dropDatabase(client: Client, database: string): Promise<void> {
  if ((await databaseOid(client, database)) === null) return;
  await client.query(`ALTER DATABASE ${quoteName(database)} WITH ALLOW_CONNECTIONS false`).catch(() => undefined);
  await client
    .query('SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()', [
      database,
    ])
    .catch(() => undefined);
  const version = Number(
    (await client.query<{ version: string }>(`SELECT current_setting('server_version_num') AS version`)).rows[0]?.version,
  );
  await client.query(`DROP DATABASE IF EXISTS ${quoteName(database)}${version >= 130_000 ? ' WITH (FORCE)' : ''}`);
}

/** Gives a finished database its name. @throws EngineError TARGET_EXISTS when the name was taken meanwhile */
export async function renameDatabase(client: Client, from: string, to: string): Promise<void> {
  try {
    await client.query(`ALTER DATABASE ${quoteName(from)} RENAME TO ${quoteName(to)}`);
  } catch (cause) {
    if ((cause as { code?: string }).code === '42P04') throw targetExists(to, cause);
    throw cause;
  }
}

export function targetExists(database: string, cause?: unknown): EngineError {
  return new EngineError(
    'TARGET_EXISTS',
    `The server has a database ${JSON.stringify(database)} already.`,
    'Choose another name, or drop that database first.',
    { cause },
  );
}

/** Refuses a database that holds anything that could be in the way. @throws EngineError TARGET_NOT_EMPTY */
export async function assertEmpty(client: Client, connection: PgConnection): Promise<void> {
  const { rows } = await client.query<{ what: string }>(`
    SELECT format('the %s %I.%I', CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'table' END, n.nspname, c.relname) AS what
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r','p','v','m','S','f') AND NOT ${SYSTEM_SCHEMA}
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e')
    UNION ALL SELECT format('the schema %I', n.nspname) FROM pg_catalog.pg_namespace n
     WHERE n.nspname <> 'public' AND NOT ${SYSTEM_SCHEMA}
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = n.oid AND d.classid = 'pg_catalog.pg_namespace'::regclass AND d.deptype = 'e')
    UNION ALL SELECT format('the function %I.%I', n.nspname, p.proname) FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
     WHERE NOT ${SYSTEM_SCHEMA}
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = p.oid AND d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e')
    UNION ALL SELECT format('the large object %s', oid) FROM pg_catalog.pg_largeobject_metadata
    LIMIT 4`);
  if (rows.length === 0) return;
  const named = rows.slice(0, 3).map((row) => row.what);
  throw new EngineError(
    'TARGET_NOT_EMPTY',
    `${describeConnection(connection)} is not empty: it holds ${named.join(', ')}${rows.length > 3 ? ' and more' : ''}.`,
    'Give an empty database; mode url fills one, it never replaces anything.',
  );
}
