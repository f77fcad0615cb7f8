import { stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Client } from 'pg';
import type { TocEntry } from './archive/toc.js';
import { EngineError } from './errors.js';
import { withClient } from './postgres/client.js';
import type { PgConnection } from './postgres/connection.js';
import { SYSTEM_SCHEMA } from './postgres/relations.js';
import { maintenanceOf } from './restore-swap.js';
import type { RestoreTarget } from './restore-target.js';

/** A mode that can't be used with a source, and why, with how to mend it. */
interface UnusableMode {
  mode: RestoreTarget['mode'];
  why: string;
}

export interface ModesOfSource {
  usableModes: RestoreTarget['mode'][];
  unusableModes: UnusableMode[];
}

type Look = (
  client: Client,
  connection: PgConnection,
  session: { applicationName: string; signal?: AbortSignal },
) => Promise<void>;

const LOOKS: Readonly<Record<RestoreTarget['mode'], Look>> = {
  'new-database': async (client) => {
    await assertNotManaged(client);
    await assertMayCreate(client);
  },
  // Its own database is another one, which is looked at when it is named.
  url: async () => undefined,
  swap: async (client, connection, session) => {
    await assertNotManaged(client);
    await assertOwns(client, connection.database);
    await assertMayCreate(client);
    await maintenanceOf(connection, session);
  },
  'in-place': (client) => assertMayReplace(client),
  'side-schema': (client, { database }) => assertMayMakeSchemas(client, database),
};

/** Which restore modes the role of a source can use there; changes nothing. @throws EngineError when the database can't be entered */
export async function modesOf(
  connection: PgConnection,
  session: { applicationName: string; signal?: AbortSignal },
): Promise<ModesOfSource> {
  return withClient(connection, session, async (client) => {
    const found: ModesOfSource = { usableModes: [], unusableModes: [] };
    for (const mode of Object.keys(LOOKS) as RestoreTarget['mode'][]) {
      try {
        await LOOKS[mode](client, connection, session);
        found.usableModes.push(mode);
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        found.unusableModes.push({ mode, why: `${error.message} ${error.hint}` });
      }
    }
    return found;
  });
}

/** @throws EngineError PRIVILEGE_MISSING */
export async function assertMayCreate(client: Client): Promise<void> {
  const { rows } = await client.query<{ may: boolean }>(
    'SELECT rolcreatedb OR rolsuper AS may FROM pg_catalog.pg_roles WHERE rolname = current_user',
  );
  if (rows[0]?.may) return;
  throw new EngineError(
    'PRIVILEGE_MISSING',
    'The role of the source may not create databases.',
    'ALTER ROLE … CREATEDB, or restore by mode url into an empty database that someone else made.',
  );
}

/** @throws EngineError PRIVILEGE_MISSING */
export async function assertOwns(client: Client, database: string): Promise<void> {
  const { rows } = await client.query<{ may: boolean }>(
    "SELECT pg_has_role(current_user, datdba, 'USAGE') AS may FROM pg_catalog.pg_database WHERE datname = $1",
    [database],
  );
  if (rows[0]?.may) return;
  throw new EngineError(
    'PRIVILEGE_MISSING',
    `The role of the source does not own the database ${JSON.stringify(database)}, and only its owner may rename it.`,
    'Restore by another mode, or make the role a member of the owner.',
  );
}

/** Only the owner of a table may drop it and make it anew. @throws EngineError PRIVILEGE_MISSING */
async function assertMayReplace(client: Client): Promise<void> {
  const { rows } = await client.query<{ name: string; count: string }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS name, count(*) OVER () AS count
       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r','p','v','m','S','f') AND NOT ${SYSTEM_SCHEMA} AND NOT pg_has_role(current_user, c.relowner, 'USAGE')
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e')
      ORDER BY 1 LIMIT 3`,
  );
  if (rows.length === 0) return;
  throw ownedByOthers(
    rows.map(({ name }) => name),
    Number(rows[0]?.count),
  );
}

/** @param names of relations that the role does not own, as SQL writes them; the first few of `count` */
export function ownedByOthers(names: readonly string[], count = names.length): EngineError {
  const first = names.slice(0, 3);
  const more = count - first.length;
  return new EngineError(
    'PRIVILEGE_MISSING',
    `The role of the source does not own ${first.join(', ')}${more > 0 ? ` and ${more} more` : ''}, and only an owner may replace a relation.`,
    'Choose tables that it owns, make it a member of their owners, or restore by another mode.',
  );
}

/** @throws EngineError PRIVILEGE_MISSING when the role may not make what these entries bring */
export async function assertMayFill(client: Client, entries: readonly TocEntry[], place: string): Promise<void> {
  const { rows } = await client.query<{ database: boolean; public: boolean | null }>(
    `SELECT has_database_privilege(current_user, current_database(), 'CREATE') AS database,
            (SELECT has_schema_privilege(current_user, oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = 'public') AS public`,
  );
  const needsDatabase = entries.some(({ desc, tag }) => (desc === 'SCHEMA' && tag !== 'public') || desc === 'EXTENSION');
  const lacks = [
    ...(needsDatabase && !rows[0]?.database ? ['CREATE ON DATABASE'] : []),
    ...(rows[0]?.public === false && entries.some(({ schema }) => schema === 'public') ? ['CREATE ON SCHEMA public'] : []),
  ];
  if (lacks.length === 0) return;
  throw new EngineError(
    'PRIVILEGE_MISSING',
    `The role of the target may not make what the backup holds at ${place}: it lacks ${lacks.join(' and ')}.`,
    'GRANT it the right, or name a role that owns the database.',
  );
}

/** @throws EngineError PRIVILEGE_MISSING */
export async function assertMayMakeSchemas(client: Client, database: string): Promise<void> {
  const { rows } = await client.query<{ may: boolean }>(
    "SELECT has_database_privilege(current_user, current_database(), 'CREATE') AS may",
  );
  if (rows[0]?.may) return;
  throw new EngineError(
    'PRIVILEGE_MISSING',
    `The role of the source may not make a schema in the database ${JSON.stringify(database)}.`,
    'GRANT CREATE ON DATABASE … to it, or restore by another mode.',
  );
}

/** The services of a Supabase project know one database, by its name. @throws EngineError TARGET_REFUSED */
async function assertNotManaged(client: Client): Promise<void> {
  const { rows } = await client.query<{ managed: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'supabase_admin')
        AND EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'storage') AS managed`,
  );
  if (!rows[0]?.managed) return;
  throw new EngineError(
    'TARGET_REFUSED',
    "This is a Supabase project, whose services use the database postgres alone: they would not see another one, and it can't be renamed.",
    'Restore by mode in-place or side-schema, or by mode url into another server.',
  );
}

/** Free bytes where the server keeps its data; null where it is on another machine, or does not say where. */
export async function freeBytesAt(client: Client): Promise<number | null> {
  try {
    const { rows } = await client.query<{ folder: string; changed: Date }>(
      "SELECT current_setting('data_directory') AS folder, (pg_stat_file('postmaster.pid')).modification AS changed",
    );
    if (!rows[0]) return null;
    // The same path on this machine may be another server's: the same file is the same server.
    const here = await stat(join(rows[0].folder, 'postmaster.pid'));
    if (Math.abs(here.mtimeMs - rows[0].changed.getTime()) > 1000) return null;
    const { bavail, bsize } = await statfs(rows[0].folder);
    return bavail * bsize;
  } catch {
    return null;
  }
}
