import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import type { Request } from 'express';
import { Strategy } from 'passport-jwt';
import { ApiError } from '../../common/errors.js';
import type { IssuerSettings } from '../../config/issuer-settings.js';
import { Settings } from '../../config/settings.js';
import { bearerToken } from '../bearer-token.js';
import { IdentityCache } from '../identity-cache.js';
import type { IdentifiedRequest, Principal } from '../identity.js';
import { hashToken } from '../session.strategy.js';
import { type Claims, refusalOf } from './claims.js';
import { IssuerKeys } from './issuer-keys.js';
import { IssuerMembers } from './issuer-members.js';

export const JWT_STRATEGY = 'jwt';

const LEEWAY_SECONDS = 30;
const NOT_TAKEN = 'The token is not taken:';

/** Passport's strategy for the signed tokens of trusted issuers. Which key and which algorithms count is the issuer's alone, never the token's. */
@Injectable()
export class JwtStrategy extends PassportStrategy(Strategy, JWT_STRATEGY) {
  constructor(
    private readonly settings: Settings,
    private readonly keys: IssuerKeys,
    private readonly members: IssuerMembers,
    private readonly cache: IdentityCache,
  ) {
    super({
      jwtFromRequest: (request: Request) => signedToken(request),
      passReqToCallback: true,
      algorithms: ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'HS256'],
      jsonWebTokenOptions: { clockTolerance: LEEWAY_SECONDS },
      // passport-jwt takes an error here for a refusal; what is no refusal is left on the request, where the guards look.
      secretOrKeyProvider: (
        request: Request & IdentifiedRequest,
        token: string,
        done: (error: Error | null, key?: never) => void,
      ) =>
        void this.keyOf(request, token).then(
          (key) => done(null, key as never),
          (error: Error) => {
            if (error instanceof ApiError) request.identityError = error;
            done(error);
          },
        ),
    });
  }

  /** Called once the signature, `exp` and `nbf` are good. */
  async validate(request: Request & IdentifiedRequest, claims: Claims): Promise<Principal | false> {
    const issuer = this.issuerOf(claims);
    const why = issuer ? refusalOf(issuer, claims) : 'its issuer is not trusted here';
    if (!issuer || why !== undefined) {
      request.identityRefusal = `${NOT_TAKEN} ${why}.`;
      return false;
    }
    const expiresAt = new Date(((claims.exp ?? 0) + LEEWAY_SECONDS) * 1000);
    const key = `jwt:${hashToken(signedToken(request) ?? '').toString('base64')}`;
    const principal = await this.cache.getOrFind(key, async () => ({
      ...(await this.members.principalOf(issuer, claims)),
      expiresAt,
    }));
    return principal ?? false;
  }

  private async keyOf(request: IdentifiedRequest, token: string): Promise<unknown> {
    const refuse = (why: string): never => {
      request.identityRefusal = `${NOT_TAKEN} ${why}.`;
      throw new Error(why);
    };
    const [header, claims] = token.split('.', 2).map(decoded) as [{ alg?: unknown; kid?: unknown; crit?: unknown }, Claims];
    const issuer = this.issuerOf(claims) ?? refuse('its issuer is not trusted here');
    const { alg, kid } = header;
    // jku, x5u and jwk of the header are never looked at; what must be understood is not.
    if (header.crit !== undefined) refuse('its header asks for what is not understood here');
    if (typeof alg !== 'string' || !issuer.algorithms.includes(alg as never)) refuse("its algorithm is none of the issuer's");
    const key = await this.keys.find(issuer, { alg: alg as string, kid });
    if (!key) refuse('its issuer has no such key');
    request.identityRefusal = `${NOT_TAKEN} it has expired, is not valid yet, or its signature is wrong.`;
    return key;
  }

  private issuerOf({ iss }: Claims): IssuerSettings | undefined {
    return this.settings.authIssuers.find(({ issuer, kind }) => kind !== 'authjs' && issuer === iss);
  }
}

/** A token of three parts. */
function signedToken(request: Request): string | null {
  const token = bearerToken(request);
  return token !== undefined && /^[\w-]+\.[\w-]+\.[\w-]*$/.test(token) ? token : null;
}

function decoded(part: string): object {
  try {
    const value = JSON.parse(Buffer.from(part, 'base64url').toString('utf8')) as unknown;
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}
