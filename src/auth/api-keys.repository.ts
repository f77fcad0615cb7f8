import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';
import type { Permission } from './permissions.js';

export interface ApiKeyRow {
  id: string;
  organization_id: string;
  name: string;
  key_hash: Uint8Array;
  permissions: string[];
  is_bootstrap: boolean;
}

/** API keys, by the hash of the key. */
@Injectable()
export class ApiKeysRepository {
  constructor(private readonly catalog: Catalog) {}

  /** The living key with this hash: not revoked, not expired. */
  async findByHash(hash: Buffer): Promise<ApiKeyRow | undefined> {
    return this.catalog.db
      .selectFrom('api_keys')
      .select(['id', 'organization_id', 'name', 'key_hash', 'permissions', 'is_bootstrap'])
      .where('key_hash', '=', hash)
      .where('revoked_at', 'is', null)
      .where((e) => e.or([e('expires_at', 'is', null), e('expires_at', '>', sql<Date>`now()`)]))
      .executeTakeFirst();
  }

  /** Notes the use of a key, at most once a minute. */
  async touch(id: string): Promise<void> {
    await this.catalog.db
      .updateTable('api_keys')
      .set({ last_used_at: sql<Date>`now()` })
      .where('id', '=', id)
      .where((e) => e.or([e('last_used_at', 'is', null), e('last_used_at', '<', sql<Date>`now() - interval '1 minute'`)]))
      .execute();
  }

  async findBootstrap(trx: Trx): Promise<{ id: string; key_hash: Uint8Array } | undefined> {
    return trx.selectFrom('api_keys').select(['id', 'key_hash']).where('is_bootstrap', '=', true).where('revoked_at', 'is', null).executeTakeFirst();
  }

  async insert(trx: Trx, row: { id: string; organizationId: string; name: string; hash: Buffer; permissions: readonly Permission[]; bootstrap: boolean }): Promise<void> {
    await trx
      .insertInto('api_keys')
      .values({ id: row.id, organization_id: row.organizationId, name: row.name, key_hash: row.hash, permissions: [...row.permissions], is_bootstrap: row.bootstrap })
      .execute();
  }

  async revoke(trx: Trx, id: string): Promise<void> {
    await trx.updateTable('api_keys').set({ revoked_at: sql<Date>`now()` }).where('id', '=', id).execute();
  }
}
