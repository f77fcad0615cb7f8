import type { Client } from 'pg';
import { EngineError } from './errors.js';
import { withClient } from './postgres/client.js';
import { describeConnection, type PgConnection } from './postgres/connection.js';
import { quoteName } from './postgres/relations.js';
import { databaseOid } from './restore-target.js';

/** How often sessions are asked to go while a rename waits for them; PostgreSQL waits five seconds itself. */
const EVICT_MS = 200;
const ATTEMPTS = 3;
const MAINTENANCE_DATABASES = ['postgres', 'template1'];

/** A connection to the same server that is not in the way of renaming `server.database`. @throws EngineError */
export async function maintenanceOf(
  server: PgConnection,
  session: { applicationName: string; signal?: AbortSignal },
): Promise<PgConnection> {
  let last: unknown;
  for (const database of MAINTENANCE_DATABASES) {
    if (database === server.database) continue;
    const connection = { ...server, database };
    try {
      await withClient(connection, session, async () => undefined);
      return connection;
    } catch (error) {
      last = error;
    }
  }
  throw new EngineError(
    'TARGET_REFUSED',
    `A swap of ${describeConnection(server)} renames it from another database, and the role may enter neither ${MAINTENANCE_DATABASES.join(' nor ')}.`,
    'GRANT CONNECT ON DATABASE postgres to the role, or restore by another mode.',
    { cause: last },
  );
}

/** Carries over what belongs to a database and not to its content: owner, rights, connection limit, comment and settings. @returns what could not be, as sentences */
export async function carryOver(client: Client, from: string, to: string): Promise<string[]> {
  const { rows } = await client.query<{ statement: string; what: string }>(
    `WITH d AS (SELECT * FROM pg_catalog.pg_database WHERE datname = $1)
     SELECT format('ALTER DATABASE %I CONNECTION LIMIT %s', $2::text, datconnlimit) AS statement, 'connection limit' AS what FROM d WHERE datconnlimit >= 0
     UNION ALL SELECT format('COMMENT ON DATABASE %I IS %L', $2::text, shobj_description(oid, 'pg_database')), 'comment' FROM d WHERE shobj_description(oid, 'pg_database') IS NOT NULL
     UNION ALL SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $2::text), 'rights' FROM d WHERE datacl IS NOT NULL
     UNION ALL SELECT format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, $2::text, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), 'rights'
       FROM d, aclexplode(datacl) AS a
     UNION ALL SELECT format('ALTER %s SET %s TO %s', CASE s.setrole WHEN 0 THEN format('DATABASE %I', $2::text) ELSE format('ROLE %I IN DATABASE %I', pg_get_userbyid(s.setrole), $2::text) END,
         split_part(c, '=', 1), CASE WHEN split_part(c, '=', 1) IN ('search_path','temp_tablespaces','local_preload_libraries','session_preload_libraries') AND c NOT LIKE '%=' THEN substr(c, strpos(c, '=') + 1) ELSE quote_literal(substr(c, strpos(c, '=') + 1)) END), 'settings'
       FROM d JOIN pg_catalog.pg_db_role_setting s ON s.setdatabase = d.oid, unnest(s.setconfig) AS c
     UNION ALL SELECT format('ALTER DATABASE %I OWNER TO %I', $2::text, pg_get_userbyid(datdba)), 'owner' FROM d`,
    [from, to],
  );
  const problems: string[] = [];
  for (const { statement, what } of rows) {
    await client
      .query(statement)
      .catch((error: Error) => problems.push(`The ${what} of the database could not be carried over: ${error.message}.`));
  }
  return problems;
}

/** What stays with the old database and is not in the archive. */
export async function leftBehind(client: Client, database: string): Promise<string[]> {
  const { rows } = await client.query<{ sentence: string }>(
    `SELECT format('The logical replication slot %s stays with the previous database: make it anew on the restored one.', slot_name) AS sentence
       FROM pg_catalog.pg_replication_slots WHERE database = $1
     UNION ALL SELECT format('The subscription %s stays with the previous database; the restored one has a disabled copy.', subname)
       FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = $1`,
    [database],
  );
  return rows.map((row) => row.sentence);
}

/**
 * Puts one database into the place of another, in one transaction: nobody ever sees the name missing. While the first rename holds the
 * lock that new sessions need, the old ones are ended; so nobody is locked out when this server dies in between.
 * @throws EngineError TARGET_IN_USE that names who holds the database
 */
export async function exchange(
  maintenance: PgConnection,
  session: { applicationName: string },
  names: { current: string; next: string; previous: string },
): Promise<void> {
  const { current, next, previous } = names;
  for (let attempt = 1; ; attempt += 1) {
    const done = new AbortController();
    const evicting = evict(maintenance, [current, next], done.signal);
    try {
      await withClient(maintenance, session, async (client) => {
        await client.query('BEGIN');
        await client.query(`ALTER DATABASE ${quoteName(current)} RENAME TO ${quoteName(previous)}`);
        await client.query(`ALTER DATABASE ${quoteName(next)} RENAME TO ${quoteName(current)}`);
        await client.query('COMMIT');
      });
      return;
    } catch (error) {
      if (!isInUse(error)) throw error;
      if (attempt >= ATTEMPTS) throw await inUse(maintenance, current, error);
    } finally {
      done.abort();
      await evicting;
    }
  }
}

function isInUse(error: unknown): boolean {
  const code = (error as { code?: string }).code;
  const cause = (error as { cause?: { code?: string } }).cause;
  return code === '55006' || cause?.code === '55006';
}

/** Ends the sessions of these databases, again and again, as far as the role may. */
async function evict(maintenance: PgConnection, databases: readonly string[], signal: AbortSignal): Promise<void> {
  await withClient(maintenance, { applicationName: 'backstay:swap' }, async (client) => {
    while (!signal.aborted) {
      await client
        .query(
          'SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = ANY($1) AND pid <> pg_backend_pid()',
          [databases],
        )
        .catch(() => undefined);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, EVICT_MS);
        signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
      });
    }
  }).catch(() => undefined);
}

async function inUse(maintenance: PgConnection, database: string, cause: unknown): Promise<EngineError> {
  const holders = await sessionsIn(maintenance, database).catch(() => []);
  return new EngineError(
    'TARGET_IN_USE',
    `The database ${JSON.stringify(database)} can't be swapped while it is in use${holders.length > 0 ? ` by ${holders.join(', ')}` : ''}.`,
    'End these sessions (a superuser may have to), then restore again.',
    { cause },
  );
}

/** Who is in a database, as `user (application, pid)`, ten at most. */
export async function sessionsIn(maintenance: PgConnection, database: string): Promise<string[]> {
  return withClient(maintenance, { applicationName: 'backstay:swap' }, async (client) => {
    const { rows } = await client.query<{ who: string }>(
      `SELECT format('%s (%s, pid %s)', coalesce(usename, 'a background process'), coalesce(nullif(application_name, ''), backend_type), pid) AS who
         FROM pg_catalog.pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid() AND application_name NOT LIKE 'backstay:%' LIMIT 10`,
      [database],
    );
    return rows.map((row) => row.who);
  });
}

/** The name under which a swap keeps the database that it replaces: in the first part whose it was, then which restore did it. */
export function previousName(database: string, runId: string, what: 'before' | 'reverted'): string {
  const suffix = `_${what}_${runId.replace(/^restore_/, '')}`;
  let kept = database;
  while (Buffer.byteLength(kept) + suffix.length > 63) kept = [...kept].slice(0, -1).join('');
  return kept + suffix;
}

/** Drops a database that a swap kept, if it is still that one. @returns whether it was there */
export async function dropKept(client: Client, kept: { name: string; oid: number }): Promise<boolean> {
  if ((await databaseOid(client, kept.name)) !== kept.oid) return false;
  await client.query(`DROP DATABASE ${quoteName(kept.name)}`);
  return true;
}
