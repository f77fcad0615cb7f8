import { type ExecutionContext, Injectable, Logger } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { AuthGuard } from '@nestjs/passport';
import type { Request } from 'express';
import { requestContext } from '../common/http/request-context.js';
import { ORGANIZATION_IN_PATH } from './access.js';
import { AccountsRepository } from './accounts.repository.js';
import { API_KEY_STRATEGY } from './api-key.strategy.js';
import { actorOf, type IdentifiedRequest, type Principal } from './identity.js';
import { chooseOrganization } from './organization-choice.js';
import { ApiError } from '../common/errors.js';
import { bearerToken } from './bearer-token.js';
import { hashApiKey } from './api-key.js';
import { IdentityCache } from './identity-cache.js';
import { hashToken, SESSION_STRATEGY } from './session.strategy.js';
import { AUTHJS_STRATEGY } from './tokens/authjs.strategy.js';
import { JWT_STRATEGY } from './tokens/jwt.strategy.js';

/** A key, when one is sent, decides alone; the other strategies look at the token in `Authorization: Bearer`. */
const STRATEGIES = [API_KEY_STRATEGY, SESSION_STRATEGY, JWT_STRATEGY, AUTHJS_STRATEGY];

/**
 * Finds out who is calling, and refuses nobody: the rate limit that comes next counts the caller by identity, and wrong keys by
 * address; only then does the permission guard refuse.
 */
@Injectable()
export class IdentityGuard extends AuthGuard(STRATEGIES) {
  private readonly logger = new Logger('auth');

  constructor(
    private readonly accounts: AccountsRepository,
    private readonly reflector: Reflector,
    private readonly cache: IdentityCache,
  ) {
    super();
  }

  override async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<Request & IdentifiedRequest & { user?: Principal | false }>();
    const { headers } = request;
    // An empty header counts as none.
    if (!present(headers['x-api-key']) && !present(headers.authorization)) return true;
    // What was checked a moment ago, and not changed since, is not handed to passport again.
    const key = cacheKeyOf(request);
    const kept = key === undefined ? undefined : this.cache.peek(key);
    if (kept) request.user = kept;
    else await super.canActivate(context);
    const principal = request.user;
    if (!principal) {
      request.identityRefusal ??=
        'The token in Authorization is not valid here: it has expired, was ended, or is of an issuer that this server does not trust.';
      this.logger.warn({ event: 'access.unknown-key', path: request.path }, 'access.unknown-key');
      return true;
    }
    const chosen = await chooseOrganization(principal, this.wanted(context, request), (id) =>
      this.accounts.organizationExists(id),
    );
    const current = requestContext();
    if (current) current.actor = actorOf(principal);
    if (chosen instanceof ApiError) {
      request.identityError = chosen;
      return true;
    }
    request.identity = chosen;
    if (current) current.organizationId = chosen.organizationId;
    return true;
  }

  /** Passport's answer; an error of the look-up itself is no refusal and goes up. */
  override handleRequest<T>(error: unknown, user: T | false): T {
    if (error) throw error;
    return user as T;
  }

  private wanted(context: ExecutionContext, request: Request): string | undefined {
    const inPath = this.reflector.get<boolean | undefined>(ORGANIZATION_IN_PATH, context.getHandler());
    const wanted = inPath ? request.params['id'] : request.headers['x-organization'];
    return typeof wanted === 'string' && wanted.trim() !== '' ? wanted.trim() : undefined;
  }
}

/** What the strategies keep these credentials under. */
function cacheKeyOf(request: Request): string | undefined {
  const key = request.headers['x-api-key'];
  if (typeof key === 'string' && key.trim() !== '') return `api-key:${hashApiKey(key).toString('base64')}`;
  const token = bearerToken(request);
  if (token === undefined) return undefined;
  return `${token.startsWith('bss_') ? 'session' : 'jwt'}:${hashToken(token).toString('base64')}`;
}

function present(header: string | string[] | undefined): boolean {
  return typeof header === 'string' && header.trim() !== '';
}
