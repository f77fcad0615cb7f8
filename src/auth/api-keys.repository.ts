import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';

const IDENTIFYING = ['id', 'organization_id', 'name', 'key_hash', 'permissions', 'is_bootstrap', 'expires_at'] as const;
const SHOWN = ['id', 'name', 'permissions', 'expires_at', 'last_used_at', 'created_at', 'created_by', 'is_bootstrap'] as const;

export interface ApiKeyRow {
  id: string;
  organization_id: string;
  name: string;
  key_hash: Uint8Array;
  permissions: string[];
  is_bootstrap: boolean;
  expires_at: Date | null;
}

/** What may be shown of a key. */
export interface ShownApiKeyRow {
  id: string;
  name: string;
  permissions: string[];
  expires_at: Date | null;
  last_used_at: Date | null;
  created_at: Date;
  created_by: object | null;
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
      .select(IDENTIFYING)
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

  /** The organization's keys that were not revoked, the newest first. */
  async list(organizationId: string, limit: number, offset: number): Promise<{ rows: ShownApiKeyRow[]; total: number }> {
    const keys = this.catalog.db
      .selectFrom('api_keys')
      .where('organization_id', '=', organizationId)
      .where('revoked_at', 'is', null);
    const rows = await keys.select(SHOWN).orderBy('created_at', 'desc').orderBy('id').limit(limit).offset(offset).execute();
    const { total } = await keys.select((e) => e.fn.countAll<number>().as('total')).executeTakeFirstOrThrow();
    return { rows, total: Number(total) };
  }

  async find(organizationId: string, id: string, trx?: Trx): Promise<ShownApiKeyRow | undefined> {
    return (trx ?? this.catalog.db)
      .selectFrom('api_keys')
      .select(SHOWN)
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .where('revoked_at', 'is', null)
      .executeTakeFirst();
  }

  async insert(
    trx: Trx,
    key: {
      id: string;
      organization_id: string;
      name: string;
      key_hash: Buffer;
      permissions: string[];
      expires_at: Date | null;
      created_by: string | null;
    },
  ): Promise<void> {
    await trx.insertInto('api_keys').values(key).execute();
  }

  async revoke(trx: Trx, organizationId: string, id: string): Promise<void> {
    await trx
      .updateTable('api_keys')
      .set({ revoked_at: sql<Date>`now()` })
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .execute();
  }
}
