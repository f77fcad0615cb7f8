import { sql } from 'kysely';
import { type Catalog, json } from '../catalog/catalog.js';
import { newId } from '../common/identifiers.js';
import { StartError } from '../common/start-error.js';
import type { Settings } from '../config/settings.js';
import type { SecretBox } from '../keys/secret-box.js';
import { connectionOf, DEFAULT_SOURCE_OPTIONS } from '../sources/source-values.js';
import { isCatalog, passwordOf } from '../sources/sources.service.js';
import type { Installation } from './installation.js';

/** Creates the source `default` from SOURCE_DATABASE_URL, once; afterwards it is changed through the API. */
export async function createDefaultSource(
  catalog: Catalog,
  settings: Settings,
  installation: Installation,
  secrets: SecretBox,
): Promise<void> {
  if (!settings.sourceDatabaseUrl) return;
  const connection = connectionOf({ url: settings.sourceDatabaseUrl }, undefined, settings.allowUnixSockets);
  if (isCatalog(connection, settings.databaseUrl))
    throw new StartError("SOURCE_DATABASE_URL is the catalog's own database (DATABASE_URL); name the database to protect.");
  await catalog.transaction(async (trx) => {
    await sql`SELECT id FROM organizations WHERE id = ${installation.defaultOrganizationId} FOR UPDATE`.execute(trx);
    const existing = await trx
      .selectFrom('sources')
      .select('id')
      .where('organization_id', '=', installation.defaultOrganizationId)
      .where('name', '=', 'default')
      .executeTakeFirst();
    if (existing) return;
    const id = newId('src');
    await trx
      .insertInto('sources')
      .values({
        id,
        organization_id: installation.defaultOrganizationId,
        name: 'default',
        kind: 'postgres',
        host: connection.host,
        port: connection.port,
        database: connection.database,
        username: connection.user,
        sealed_password: connection.password === undefined ? null : secrets.seal(connection.password, passwordOf(id)),
        tls: json(connection.tls),
        options: json(DEFAULT_SOURCE_OPTIONS),
      })
      .execute();
  });
}
