import { sql } from 'kysely';
import { hashApiKey, newApiKey, sameHash } from '../auth/api-key.js';
import { ALL_PERMISSIONS } from '../auth/permissions.js';
import { type Catalog, type Trx } from '../catalog/catalog.js';
import { newId } from '../common/identifiers.js';
import type { Settings } from '../config/settings.js';

/** Any constant will do: keeps two replicas from founding the same installation at once. */
const FOUNDING_LOCK = 7_239_410_119;

/** This installation, as it was founded at the first start. Also Nest's token. */
export class Installation {
  constructor(
    readonly id: string,
    /** The organization that exists from the first start. */
    readonly defaultOrganizationId: string,
    /** The owner's key, when it was made at this start: it is printed once and stored nowhere. */
    readonly newOwnerKey: string | undefined,
  ) {}
}

/** Founds the installation at the first start, and puts the owner's key in place at every start. */
export async function openInstallation(catalog: Catalog, settings: Pick<Settings, 'bootstrapApiKey'>): Promise<Installation> {
  // The folders of backups are named by these ids: a catalog that had to be made anew takes them up again.
  const known = await catalog.home?.installationIds();
  const installation = await catalog.transaction(async (trx) => {
    await sql`SELECT pg_advisory_xact_lock(${sql.lit(FOUNDING_LOCK)})`.execute(trx);
    const id = await findOrMake(
      async () => (await trx.selectFrom('installation').select('id').executeTakeFirst())?.id,
      async (made) => void (await trx.insertInto('installation').values({ id: made }).execute()),
      () => known?.installation ?? newId('inst'),
    );
    const organizationId = await findOrMake(
      async () => (await trx.selectFrom('organizations').select('id').orderBy('created_at').executeTakeFirst())?.id,
      async (made) => void (await trx.insertInto('organizations').values({ id: made, name: 'default' }).execute()),
      () => known?.organization ?? newId('org'),
    );
    return new Installation(id, organizationId, await placeOwnerKey(trx, organizationId, settings.bootstrapApiKey));
  });
  await catalog.home?.rememberInstallation({ installation: installation.id, organization: installation.defaultOrganizationId });
  return installation;
}

/** Forgets an owner's key that was made and could not be shown, as the start failed: the next start makes another. */
export async function forgetOwnerKey(catalog: Catalog): Promise<void> {
  await catalog.db.deleteFrom('api_keys').where('is_bootstrap', '=', true).execute();
}

async function findOrMake(
  find: () => Promise<string | undefined>,
  insert: (id: string) => Promise<void>,
  make: () => string,
): Promise<string> {
  const found = await find();
  if (found !== undefined) return found;
  const made = make();
  await insert(made);
  return made;
}

/** @returns the key, when one was made because none was set and none exists */
async function placeOwnerKey(trx: Trx, organizationId: string, wanted: string | undefined): Promise<string | undefined> {
  const current = await trx
    .selectFrom('api_keys')
    .select(['id', 'key_hash'])
    .where('is_bootstrap', '=', true)
    .where('revoked_at', 'is', null)
    .executeTakeFirst();
  if (wanted === undefined && current) return undefined;
  if (wanted !== undefined && current && sameHash(current.key_hash, hashApiKey(wanted))) return undefined;
  // BOOTSTRAP_API_KEY was changed: the old key ends here.
  if (current) await trx.deleteFrom('api_keys').where('id', '=', current.id).execute();
  const id = newId('key');
  const key = wanted ?? newApiKey(id);
  await trx
    .insertInto('api_keys')
    .values({
      id,
      organization_id: organizationId,
      name: 'owner',
      key_hash: hashApiKey(key),
      permissions: [...ALL_PERMISSIONS],
      is_bootstrap: true,
    })
    .execute();
  return wanted === undefined ? key : undefined;
}
