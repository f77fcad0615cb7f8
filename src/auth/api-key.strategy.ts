import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import type { Request } from 'express';
import { Strategy } from 'passport-custom';
import { hashApiKey, looksLikeApiKey, rightsOf, sameHash } from './api-key.js';
import { ApiKeysRepository } from './api-keys.repository.js';
import { IdentityCache } from './identity-cache.js';
import type { IdentifiedRequest, Principal } from './identity.js';
import { ALL_PERMISSIONS } from './permissions.js';

export const API_KEY_STRATEGY = 'api-key';

/** Passport's strategy for `x-api-key`. */
@Injectable()
export class ApiKeyStrategy extends PassportStrategy(Strategy, API_KEY_STRATEGY) {
  constructor(
    private readonly keys: ApiKeysRepository,
    private readonly cache: IdentityCache,
  ) {
    super();
  }

  /** @returns whose key it is, or false when it is not one of ours */
  async validate(request: Request & IdentifiedRequest): Promise<Principal | false> {
    const key = request.headers['x-api-key'];
    if (typeof key !== 'string' || key.trim() === '') return false;
    request.identityRefusal =
      'The API key is not known, was revoked, has expired, or is of somebody who is no member of the organization any more.';
    if (!looksLikeApiKey(key)) return false;
    const hash = hashApiKey(key);
    return (await this.cache.getOrFind(`api-key:${hash.toString('base64')}`, () => this.find(hash))) ?? false;
  }

  private async find(hash: Buffer): Promise<(Principal & { expiresAt: Date | null }) | undefined> {
    const row = await this.keys.findByHash(hash);
    if (!row || !sameHash(row.key_hash, hash)) return undefined;
    const permissions = row.is_bootstrap ? ALL_PERMISSIONS : rightsOf(row);
    if (!permissions) return undefined;
    await this.keys.touch(row.id);
    return {
      kind: 'api-key',
      id: row.id,
      name: row.name,
      instanceOwner: row.is_bootstrap,
      key: { organizationId: row.organization_id, permissions },
      memberships: [],
      expiresAt: row.expires_at,
    };
  }
}
