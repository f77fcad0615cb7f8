import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';
import type { KeyOwner } from './api-key.js';

const IDENTIFYING = [
  'api_keys.id',
  'api_keys.organization_id',
  'name',
  'key_hash',
  'permissions',
  'is_bootstrap',
  'expires_at',
  'owner_user_id',
  'members.role as owner_role',
] as const;
const SHOWN = [
  'api_keys.id',
  'name',
  'permissions',
  'expires_at',
  'last_used_at',
  'api_keys.created_at',
  'created_by',
  'is_bootstrap',
  'owner_user_id',
  'members.role as owner_role',
] as const;

export interface ApiKeyRow extends KeyOwner {
  id: string;
  organization_id: string;
  name: string;
  key_hash: Uint8Array;
  permissions: string[];
  is_bootstrap: boolean;
  expires_at: Date | null;
}

/** What may be shown of a key. */
export interface ShownApiKeyRow extends KeyOwner {
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

  private withOwner(trx?: Trx) {
    return (trx ?? this.catalog.db)
      .selectFrom('api_keys')
      .leftJoin('members', (join) =>
        join
          .onRef('members.user_id', '=', 'api_keys.owner_user_id')
          .onRef('members.organization_id', '=', 'api_keys.organization_id'),
      );
  }

  /** On whose behalf a key acts. */
  async ownerOf(trx: Trx, id: string): Promise<string | null> {
    const row = await trx.selectFrom('api_keys').select('owner_user_id').where('id', '=', id).executeTakeFirst();
    return row?.owner_user_id ?? null;
  }

  /** The living key with this hash: not revoked, not expired. */
  async findByHash(hash: Buffer): Promise<ApiKeyRow | undefined> {
    return this.withOwner()
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
    const keys = this.withOwner().where('api_keys.organization_id', '=', organizationId).where('revoked_at', 'is', null);
    const rows = await keys
      .select(SHOWN)
      .orderBy('api_keys.created_at', 'desc')
      .orderBy('api_keys.id')
      .limit(limit)
      .offset(offset)
      .execute();
    const { total } = await keys.select((e) => e.fn.countAll<number>().as('total')).executeTakeFirstOrThrow();
    return { rows, total: Number(total) };
  }

  async find(organizationId: string, id: string, trx?: Trx): Promise<ShownApiKeyRow | undefined> {
    return this.withOwner(trx)
      .select(SHOWN)
      .where('api_keys.organization_id', '=', organizationId)
      .where('api_keys.id', '=', id)
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
      owner_user_id: string | null;
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
