import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog } from '../catalog/catalog.js';

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
}
