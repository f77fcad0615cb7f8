import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import type { Request } from 'express';
import { Strategy } from 'passport-custom';
import { hashApiKey, looksLikeApiKey, sameHash } from './api-key.js';
import { ApiKeysRepository } from './api-keys.repository.js';
import type { Identity } from './identity.js';
import { ALL_PERMISSIONS, type Permission } from './permissions.js';

export const API_KEY_STRATEGY = 'api-key';

/** Passport's strategy for `x-api-key`. */
@Injectable()
export class ApiKeyStrategy extends PassportStrategy(Strategy, API_KEY_STRATEGY) {
  constructor(private readonly keys: ApiKeysRepository) {
    super();
  }

  /** @returns the identity, or false when the key is not one of ours */
  async validate(request: Request): Promise<Identity | false> {
    const key = request.headers['x-api-key'];
    if (typeof key !== 'string' || !looksLikeApiKey(key)) return false;
    const hash = hashApiKey(key);
    const row = await this.keys.findByHash(hash);
    if (!row || !sameHash(row.key_hash, hash)) return false;
    await this.keys.touch(row.id);
    return {
      kind: 'api-key',
      id: row.id,
      name: row.name,
      organizationId: row.organization_id,
      permissions: new Set(row.is_bootstrap ? ALL_PERMISSIONS : (row.permissions as Permission[])),
      instanceOwner: row.is_bootstrap,
    };
  }
}
