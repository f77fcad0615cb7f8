import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import { Catalog, json } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { Page } from '../common/http/envelope.interceptor.js';
import type { PagingDto } from '../common/http/paging.dto.js';
import { newId } from '../common/identifiers.js';
import { hashApiKey, newApiKey, rightsOf } from './api-key.js';
import { ApiKeysRepository, type ShownApiKeyRow } from './api-keys.repository.js';
import type { ApiKeyDto, ApiKeyWithKeyDto, CreateApiKeyDto } from './auth.dto.js';
import { IdentityCache } from './identity-cache.js';
import { actorOf, type Identity } from './identity.js';
import type { Permission } from './permissions.js';

/** Keys of an organization: made, listed and revoked. */
@Injectable()
export class ApiKeysService {
  constructor(
    private readonly keys: ApiKeysRepository,
    private readonly catalog: Catalog,
    private readonly changes: Changes,
    private readonly cache: IdentityCache,
  ) {}

  async list(caller: Identity, { page, limit }: PagingDto): Promise<Page<ApiKeyDto>> {
    const { rows, total } = await this.keys.list(caller.organizationId, limit, (page - 1) * limit);
    return new Page(rows.map(toApiKey), { page, limit, total });
  }

  /** @throws NOT_FOUND */
  async get(organizationId: string, id: string): Promise<ApiKeyDto> {
    const row = await this.keys.find(organizationId, id);
    if (!row) throw Errors.notFound('API key', id);
    return toApiKey(row);
  }

  /** @throws FORBIDDEN when it could do more than its creator, VALIDATION_ERROR when it would end in the past */
  async create(caller: Identity, { name, permissions, expiresAt }: CreateApiKeyDto): Promise<ApiKeyWithKeyDto> {
    const beyond = permissions.filter((permission) => !caller.permissions.has(permission));
    if (beyond.length > 0) throw Errors.beyondOwnRights(beyond);
    const expires = expiresAt ? new Date(expiresAt) : null;
    if (expires && !(expires.getTime() > Date.now())) throw Errors.validation({ expiresAt: 'must lie in the future' });
    const id = newId('key');
    const key = newApiKey(id);
    await this.catalog.transaction(async (trx) => {
      await this.keys.insert(trx, {
        id,
        organization_id: caller.organizationId,
        name,
        key_hash: hashApiKey(key),
        permissions: [...permissions],
        expires_at: expires,
        created_by: json(actorOf(caller)),
        owner_user_id: caller.kind === 'user' ? caller.id : await this.keys.ownerOf(trx, caller.id),
      });
      await this.changes.record(trx, caller, 'api-key.created', id, { name, permissions, expiresAt: expires });
    });
    await this.changes.committed(caller, 'api-key', id, []);
    return { ...(await this.get(caller.organizationId, id)), key };
  }

  /** Ends a key at once, also in the other processes. @throws NOT_FOUND, and CONFLICT for the bootstrap key */
  async revoke(caller: Identity, id: string): Promise<ApiKeyDto> {
    const revoked = await this.catalog.transaction(async (trx) => {
      const row = await this.keys.find(caller.organizationId, id, trx);
      if (!row) throw Errors.notFound('API key', id);
      if (row.is_bootstrap)
        throw Errors.conflict('The bootstrap key is changed by BOOTSTRAP_API_KEY and a restart; it can not be revoked here.');
      const beyond = row.permissions.filter((permission) => !caller.permissions.has(permission as Permission));
      if (beyond.length > 0) throw Errors.beyondOwnRights(beyond);
      await this.keys.revoke(trx, caller.organizationId, id);
      await this.cache.changing(trx);
      await this.changes.record(trx, caller, 'api-key.revoked', id, { name: row.name });
      return toApiKey(row);
    });
    this.cache.forget();
    await this.changes.committed(caller, 'api-key', id, []);
    return revoked;
  }
}

function toApiKey(row: ShownApiKeyRow): ApiKeyDto {
  return {
    id: row.id,
    name: row.name,
    permissions: row.permissions as Permission[],
    effectivePermissions: [...(rightsOf(row) ?? [])],
    expiresAt: row.expires_at?.toISOString() ?? null,
    lastUsedAt: row.last_used_at?.toISOString() ?? null,
    createdAt: row.created_at.toISOString(),
    createdBy: (row.created_by as { name?: string } | null)?.name ?? null,
    bootstrap: row.is_bootstrap,
  };
}
