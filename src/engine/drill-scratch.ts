import type { Client } from 'pg';
import { rolesOf } from './archive/archive-roles.js';
import { type DrillPlace, impossible } from './drill-place.js';
import { EngineError } from './errors.js';
import { withClient } from './postgres/client.js';
import { describeConnection, type PgConnection } from './postgres/connection.js';
import type { OpenedArchive } from './restore-archive.js';
import { dropDatabase } from './restore-target.js';

const PREFIX = 'backstay_drill_';
/** Names of databases that a drill makes while it restores; see restore-staging.ts. */
const STAGING = 'backstay_verification_';
const KEEPER = 'backstay:drill:';
/** Whoever is in one of these reaches beyond its database. */
const STRONG_ROLES = ['pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'];

interface Rights {
  rolsuper: boolean;
  rolcreatedb: boolean;
  rolcreaterole: boolean;
  version: string;
  strong: string[];
}

/**
 * A database for one drill on a server that was given for it. A dump runs its author's code there, so the role may be no superuser.
 * A session that lasts as long as the drill marks what is in use; what a killed server has left has none, and goes with the next sweep.
 * @throws EngineError DRILL_IMPOSSIBLE; the signal's reason when aborted
 */
export async function openScratch(
  server: PgConnection,
  runId: string,
  archive: OpenedArchive,
  signal: AbortSignal,
): Promise<DrillPlace> {
  const key = runId.replace(/^verification_/, '');
  const keeper = await keep(server, `${KEEPER}${key}`, signal);
  try {
    await sweepScratch(server);
    const rights = await withClient(server, { applicationName: 'backstay:drill', signal }, rightsOf);
    refuse(server, rights, archive);
    const database = `${PREFIX}${key}`.slice(0, 63);
    return {
      server,
      database,
      version: rights.version,
      // Its disk is its own affair: a role that is fit for this may not even ask how full it is.
      folder: null,
      isolation: { ownUser: false, noNetwork: false, plainRole: true },
      leaveOut: new Set([...rolesOf(archive.toc)].filter((role) => role !== server.user && !role.startsWith('pg_'))),
      superuser: null,
      leave: async () => {
        try {
          await withClient(server, { applicationName: 'backstay:drill' }, (client) => dropDatabase(client, database));
        } finally {
          // What could not be dropped is held by nobody then, and goes with the next sweep.
          keeper.end();
        }
      },
    };
  } catch (error) {
    keeper.end();
    if (signal.aborted) throw signal.reason;
    if (error instanceof EngineError && error.code !== 'DRILL_IMPOSSIBLE')
      throw impossible(`DRILL_DATABASE_URL can't be used: ${error.message}`, error.hint, error);
    throw error;
  }
}

/**
 * Drops the databases of drills whose server died: those of ours that no living drill holds.
 * @returns their names
 */
export async function sweepScratch(server: PgConnection): Promise<string[]> {
  return withClient(server, { applicationName: 'backstay:sweep' }, async (client) => {
    const { rows } = await client.query<{ name: string }>(
      `SELECT datname AS name FROM pg_catalog.pg_database d WHERE pg_catalog.pg_get_userbyid(datdba) = current_user
         AND (starts_with(datname, $1) OR starts_with(datname, $2))
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE starts_with(a.application_name, $3)
           AND strpos(d.datname, substr(a.application_name, length($3) + 1)) > 0)`,
      [PREFIX, STAGING, KEEPER],
    );
    for (const { name } of rows) await dropDatabase(client, name);
    return rows.map(({ name }) => name);
  });
}

/** A session by which others see that a drill lives. */
async function keep(server: PgConnection, applicationName: string, signal: AbortSignal): Promise<{ end: () => void }> {
  let end!: () => void;
  const ended = new Promise<void>((resolve) => (end = resolve));
  await new Promise<void>((resolve, reject) => {
    withClient(server, { applicationName, signal }, async (client) => {
      await client.query('SELECT 1');
      resolve();
      await ended;
    }).catch((error: unknown) => {
      if (error instanceof EngineError && !signal.aborted)
        reject(impossible(`DRILL_DATABASE_URL can't be used: ${error.message}`, error.hint, error));
      else reject(error as Error);
    });
  });
  return { end };
}

async function rightsOf(client: Client): Promise<Rights> {
  const { rows } = await client.query<Rights>(
    `SELECT rolsuper, rolcreatedb, rolcreaterole, current_setting('server_version') AS version,
       ARRAY(SELECT rolname::text FROM pg_catalog.pg_roles s WHERE rolname = ANY($1) AND pg_catalog.pg_has_role(r.oid, s.oid, 'MEMBER')) AS strong
     FROM pg_catalog.pg_roles r WHERE rolname = current_user`,
    [STRONG_ROLES],
  );
  return rows[0] as Rights;
}

function refuse(server: PgConnection, rights: Rights, { manifest, programs }: OpenedArchive): void {
  const where = describeConnection(server);
  const beyond = [rights.rolsuper ? 'a superuser' : '', rights.rolcreaterole ? 'may create roles' : '', ...rights.strong].filter(
    Boolean,
  );
  if (beyond.length > 0)
    throw impossible(
      `The role of DRILL_DATABASE_URL at ${where} may do too much (${beyond.join(', ')}): a dump runs its author's code with its rights.`,
      'CREATE ROLE drill LOGIN CREATEDB, and put that role into DRILL_DATABASE_URL.',
    );
  if (!rights.rolcreatedb)
    throw impossible(`The role of DRILL_DATABASE_URL at ${where} may not create databases.`, 'ALTER ROLE … CREATEDB.');
  const [major, least] = [rights.version, manifest.source.serverVersion].map((version) => Number.parseInt(version, 10)) as [
    number,
    number,
  ];
  if (major < least || major > programs.major)
    throw impossible(
      `DRILL_DATABASE_URL leads to PostgreSQL ${rights.version}, and the backup needs ${least} or newer, up to ${programs.major}.`,
      'Give a server of the major of the source.',
    );
}
