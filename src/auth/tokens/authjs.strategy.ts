import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import type { Request } from 'express';
import { jwtDecrypt } from 'jose';
import { hkdfSync } from 'node:crypto';
import { Strategy } from 'passport-custom';
import type { IssuerSettings } from '../../config/issuer-settings.js';
import { Settings } from '../../config/settings.js';
import { bearerToken } from '../bearer-token.js';
import { IdentityCache } from '../identity-cache.js';
import type { IdentifiedRequest, Principal } from '../identity.js';
import { hashToken } from '../session.strategy.js';
import { type Claims, refusalOf } from './claims.js';
import { IssuerMembers } from './issuer-members.js';

export const AUTHJS_STRATEGY = 'authjs';

const LEEWAY_SECONDS = 30;

/** Passport's strategy for Auth.js session tokens: encrypted with a key that is made of the application's secret. */
@Injectable()
export class AuthjsStrategy extends PassportStrategy(Strategy, AUTHJS_STRATEGY) {
  constructor(
    private readonly settings: Settings,
    private readonly members: IssuerMembers,
    private readonly cache: IdentityCache,
  ) {
    super();
  }

  async validate(request: Request & IdentifiedRequest): Promise<Principal | false> {
    const token = bearerToken(request);
    if (token === undefined || !/^[\w-]+\.\.[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return false;
    for (const issuer of this.settings.authIssuers) {
      const claims = issuer.kind === 'authjs' ? await decrypted(issuer, token) : undefined;
      if (!claims) continue;
      const why = refusalOf(issuer, claims);
      if (why !== undefined) {
        request.identityRefusal = `The token is not taken: ${why}.`;
        return false;
      }
      const expiresAt = new Date(((claims.exp ?? 0) + LEEWAY_SECONDS) * 1000);
      const key = `authjs:${hashToken(token).toString('base64')}`;
      const find = async () => ({ ...(await this.members.principalOf(issuer, claims)), expiresAt });
      return (await this.cache.getOrFind(key, find)) ?? false;
    }
    request.identityRefusal = 'The token is not taken: it has expired, or no trusted application made it.';
    return false;
  }
}

async function decrypted(issuer: IssuerSettings, token: string): Promise<Claims | undefined> {
  const { key, encryption } = keyOf(issuer);
  try {
    const { payload } = await jwtDecrypt(token, key, {
      clockTolerance: LEEWAY_SECONDS,
      keyManagementAlgorithms: ['dir'],
      contentEncryptionAlgorithms: [encryption],
    });
    return payload as Claims;
  } catch {
    return undefined;
  }
}

/** As @auth/core (v5: salted with the cookie's name) and next-auth (v4: without salt) derive it. */
function keyOf({ secret = '', cookieName }: IssuerSettings): { key: Uint8Array; encryption: string } {
  const derive = (salt: string, info: string, length: number) => new Uint8Array(hkdfSync('sha256', secret, salt, info, length));
  if (cookieName === undefined) return { key: derive('', 'NextAuth.js Generated Encryption Key', 32), encryption: 'A256GCM' };
  return { key: derive(cookieName, `Auth.js Generated Encryption Key (${cookieName})`, 64), encryption: 'A256CBC-HS512' };
}
