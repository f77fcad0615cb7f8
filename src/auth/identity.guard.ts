import { type ExecutionContext, Injectable, Logger } from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import type { Request } from 'express';
import { requestContext } from '../common/http/request-context.js';
import { API_KEY_STRATEGY } from './api-key.strategy.js';
import { actorOf, type IdentifiedRequest, type Identity } from './identity.js';

/**
 * Finds out who is calling, and refuses nobody: the rate limit that comes next counts the caller by identity, and wrong keys by
 * address; only then does the permission guard refuse.
 */
@Injectable()
export class IdentityGuard extends AuthGuard(API_KEY_STRATEGY) {
  private readonly logger = new Logger('auth');

  override async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<Request & IdentifiedRequest>();
    const { authorization } = request.headers;
    // An empty header counts as none.
    if (present(request.headers['x-api-key'])) return (await super.canActivate(context)) as boolean;
    if (present(authorization))
      request.identityRefusal = 'This server takes API keys in x-api-key; it trusts no issuer of tokens.';
    return true;
  }

  /** Passport's answer; an error of the look-up itself is no refusal and goes up. */
  override handleRequest<T>(error: unknown, user: T | false, _info: unknown, context: ExecutionContext): T {
    if (error) throw error;
    const request = context.switchToHttp().getRequest<Request & IdentifiedRequest>();
    if (user) {
      const identity = user as unknown as Identity;
      request.identity = identity;
      const current = requestContext();
      if (current) Object.assign(current, { actor: actorOf(identity), organizationId: identity.organizationId });
    } else {
      request.identityRefusal = 'The API key is not known, was revoked, or has expired.';
      this.logger.warn({ event: 'access.unknown-key', path: request.path }, 'access.unknown-key');
    }
    return user as T;
  }
}

function present(header: string | string[] | undefined): boolean {
  return typeof header === 'string' && header.trim() !== '';
}
