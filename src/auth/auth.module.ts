import { Module } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { PassportModule } from '@nestjs/passport';
import { RateLimitGuard } from '../common/http/rate-limit.js';
import { ApiKeyStrategy } from './api-key.strategy.js';
import { ApiKeysRepository } from './api-keys.repository.js';
import { IdentityGuard } from './identity.guard.js';
import { PermissionsGuard } from './permissions.guard.js';

/** The three guards of every route, in their order: who is it, how often, may they. */
@Module({
  imports: [PassportModule],
  providers: [
    ApiKeyStrategy,
    ApiKeysRepository,
    { provide: APP_GUARD, useClass: IdentityGuard },
    { provide: APP_GUARD, useClass: RateLimitGuard },
    { provide: APP_GUARD, useClass: PermissionsGuard },
  ],
})
export class AuthModule {}
