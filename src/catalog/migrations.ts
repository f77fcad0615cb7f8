import { StartError } from '../common/start-error.js';
import { type Kysely, sql } from 'kysely';
import { foundation } from './migrations/0001-foundation.js';
import { identity } from './migrations/0002-identity.js';
import { notifications } from './migrations/0009-notifications.js';
import { rolePasswords } from './migrations/0010-role-passwords.js';
import { schedules } from './migrations/0003-schedules.js';
import { retention } from './migrations/0004-retention.js';
import { hooks } from './migrations/0005-hooks.js';
import { proof } from './migrations/0006-proof.js';
import { destinations } from './migrations/0007-destinations.js';
import { alerts } from './migrations/0008-alerts.js';
import { keyOwners } from './migrations/0011-key-owners.js';
import { scheduleQuorum } from './migrations/0012-schedule-quorum.js';
import { keys } from './migrations/0014-keys.js';
import { spool } from './migrations/0018-spool.js';
import { storage } from './migrations/0015-storage.js';
import { reports } from './migrations/0013-reports.js';
import { objectLock } from './migrations/0017-object-lock.js';
import type { CatalogTables } from './tables.js';

/** Forward only, in this order. A migration that has landed is never edited. */
const MIGRATIONS: readonly { name: string; up(db: Kysely<unknown>): Promise<void> }[] = [
  foundation,
  identity,
  schedules,
  retention,
  hooks,
  proof,
  destinations,
  alerts,
  notifications,
  rolePasswords,
  keyOwners,
  scheduleQuorum,
  storage,
  reports,
  keys,
  objectLock,
  spool,
];

/** Any constant will do, as long as every version of the server uses the same. */
const MIGRATION_LOCK = 7_239_410_118;

/** The catalog, or its snapshot, has what this version does not know. */
export class NewerCatalogError extends StartError {
  override readonly name = 'NewerCatalogError';

  constructor(unknown: readonly string[]) {
    super(
      `The catalog was made by a newer version of Backstay (it has ${unknown.join(', ')}). Start that version or a newer one.`,
    );
  }
}

/**
 * Brings the catalog to this version, all or nothing, one process at a time.
 * @param upTo the names to stop at, for rows that were exported then; all when left out
 * @returns the names of the migrations that were applied now
 * @throws NewerCatalogError
 */
export async function migrateCatalog(db: Kysely<CatalogTables>, upTo?: readonly string[]): Promise<string[]> {
  return db.transaction().execute(async (trx) => {
    await sql`SELECT pg_advisory_xact_lock(${sql.lit(MIGRATION_LOCK)})`.execute(trx);
    await sql`CREATE SCHEMA IF NOT EXISTS backstay`.execute(trx);
    await sql`CREATE TABLE IF NOT EXISTS backstay.migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())`.execute(
      trx,
    );
    const applied = new Set((await trx.selectFrom('migrations').select('name').execute()).map((row) => row.name));
    const unknown = [...applied, ...(upTo ?? [])].filter((name) => !MIGRATIONS.some((migration) => migration.name === name));
    if (unknown.length > 0) throw new NewerCatalogError(unknown);
    const pending = MIGRATIONS.filter(({ name }) => !applied.has(name) && (upTo === undefined || upTo.includes(name)));
    for (const migration of pending) {
      await migration.up(trx as unknown as Kysely<unknown>);
      await trx.insertInto('migrations').values({ name: migration.name }).execute();
    }
    return pending.map((migration) => migration.name);
  });
}
