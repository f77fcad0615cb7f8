import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import type { Request } from 'express';
import { createHash } from 'node:crypto';
import { Strategy } from 'passport-custom';
import { AccountsRepository } from './accounts.repository.js';
import { bearerToken } from './bearer-token.js';
import { IdentityCache } from './identity-cache.js';
import type { Principal } from './identity.js';
import { SessionsRepository } from './sessions.repository.js';

export const SESSION_STRATEGY = 'session';

const SESSION_TOKEN = /^bss_[\w-]{43}$/;

export function hashToken(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/** Passport's strategy for the tokens of local accounts. */
@Injectable()
export class SessionStrategy extends PassportStrategy(Strategy, SESSION_STRATEGY) {
  constructor(
    private readonly sessions: SessionsRepository,
    private readonly accounts: AccountsRepository,
    private readonly cache: IdentityCache,
  ) {
    super();
  }

  async validate(request: Request): Promise<Principal | false> {
    const token = bearerToken(request);
    if (token === undefined || !SESSION_TOKEN.test(token)) return false;
    const hash = hashToken(token);
    return (await this.cache.getOrFind(`session:${hash.toString('base64')}`, () => this.find(hash))) ?? false;
  }

  private async find(hash: Buffer): Promise<(Principal & { expiresAt: Date }) | undefined> {
    const session = await this.sessions.findByToken(hash);
    const user = session && (await this.accounts.find(session.user_id));
    if (!user) return undefined;
    return {
      kind: 'user',
      id: user.id,
      name: user.email ?? user.name,
      instanceOwner: false,
      memberships: await this.accounts.membershipsOf(user.id),
      sessionId: session.id,
      expiresAt: session.token_expires_at,
    };
  }
}
