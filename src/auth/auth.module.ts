import { Global, Module } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { PassportModule } from '@nestjs/passport';
import { RateLimitGuard } from '../common/http/rate-limit.js';
import { AccountsRepository } from './accounts.repository.js';
import { ApiKeyStrategy } from './api-key.strategy.js';
import { ApiKeysController } from './api-keys.controller.js';
import { ApiKeysRepository } from './api-keys.repository.js';
import { ApiKeysService } from './api-keys.service.js';
import { AuthController } from './auth.controller.js';
import { IdentityCache } from './identity-cache.js';
import { IdentityGuard } from './identity.guard.js';
import { PermissionsGuard } from './permissions.guard.js';
import { SessionStrategy } from './session.strategy.js';
import { SessionsRepository } from './sessions.repository.js';
import { SessionsService } from './sessions.service.js';
import { AuthjsStrategy } from './tokens/authjs.strategy.js';
import { IssuerKeys } from './tokens/issuer-keys.js';
import { IssuerMembers } from './tokens/issuer-members.js';
import { JwtStrategy } from './tokens/jwt.strategy.js';

/** The three guards of every route, in their order: who is it, how often, may they. And keys and sessions, by which they know. */
@Global()
@Module({
  imports: [PassportModule],
  controllers: [AuthController, ApiKeysController],
  providers: [
    AccountsRepository,
    ApiKeyStrategy,
    ApiKeysRepository,
    ApiKeysService,
    AuthjsStrategy,
    IdentityCache,
    IssuerKeys,
    IssuerMembers,
    JwtStrategy,
    SessionStrategy,
    SessionsRepository,
    SessionsService,
    { provide: APP_GUARD, useClass: IdentityGuard },
    { provide: APP_GUARD, useClass: RateLimitGuard },
    { provide: APP_GUARD, useClass: PermissionsGuard },
  ],
  exports: [IdentityCache, SessionsService],
})
export class AuthModule {}
