import { Injectable } from '@nestjs/common';
import { randomBytes } from 'node:crypto';
import { AuditService } from '../audit/audit.service.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { ApiError, Errors } from '../common/errors.js';
import type { Actor } from '../common/http/request-context.js';
import { newId } from '../common/identifiers.js';
import { sameHash } from './api-key.js';
import { AccountsRepository, type UserRow } from './accounts.repository.js';
import type { SessionDto } from './auth.dto.js';
import { IdentityCache } from './identity-cache.js';
import { type Identity } from './identity.js';
import { accountHash, backoffMs, hashPassword, passwordIs, weaknessOf } from './passwords.js';
import { hashToken } from './session.strategy.js';
import { SessionsRepository, type SessionTokens } from './sessions.repository.js';
import { Installation } from '../installation/installation.js';

const TOKEN_MS = 15 * 60_000;
const REFRESH_MS = 7 * 86_400_000;
const SESSION_MS = 30 * 86_400_000;

/** Signing in with e-mail and password, and what follows from it. */
@Injectable()
export class SessionsService {
  constructor(
    private readonly accounts: AccountsRepository,
    private readonly sessions: SessionsRepository,
    private readonly catalog: Catalog,
    private readonly cache: IdentityCache,
    private readonly audit: AuditService,
    private readonly installation: Installation,
  ) {}

  /**
   * Begins a session. Nothing in the answer or its time tells whether there is such an account.
   * @throws UNAUTHORIZED, and RATE_LIMITED while the account takes no password
   */
  async login(email: string, password: string): Promise<SessionDto> {
    const account = accountHash(email);
    const until = await this.sessions.blockedUntil(account);
    if (until) throw blocked(until);
    await this.sessions.countAttempt(account, (failures) => new Date(Date.now() + backoffMs(failures)));
    const user = await this.accounts.findByEmail(email);
    if (!(await passwordIs(password, user?.password_hash)) || !user) {
      await this.tell(undefined, user, 'login.failed', 'failed', email);
      throw Errors.unauthorized('E-mail address or password is wrong.');
    }
    const id = newId('ses');
    const fresh = newTokens(Date.now() + SESSION_MS);
    await this.catalog.transaction(async (trx) => {
      await this.sessions.clearFailures(trx, account);
      await this.sessions.insert(trx, { id, user_id: user.id, ends_at: new Date(Date.now() + SESSION_MS), ...fresh.row });
      await trx.updateTable('users').set({ last_login_at: new Date() }).where('id', '=', user.id).execute();
      await this.tell(trx, user, 'login.succeeded', 'ok', email);
    });
    return fresh.shown;
  }

  /** New tokens for a session; the old ones end. A refresh token that comes twice ends the session, for somebody has stolen it. @throws UNAUTHORIZED */
  async refresh(refreshToken: string): Promise<SessionDto> {
    const hash = hashToken(refreshToken);
    const fresh = await this.catalog.transaction(async (trx) => {
      const session = await this.sessions.lockByRefresh(trx, hash);
      if (!session) return undefined;
      const user = await this.accounts.find(session.user_id, trx);
      const isCurrent = sameHash(session.refresh_hash, hash);
      await this.cache.changing(trx);
      if (!isCurrent || session.refresh_expires_at < new Date() || session.ends_at < new Date()) {
        await this.sessions.end(trx, session.id);
        if (!isCurrent) await this.tell(trx, user, 'session.stolen', 'denied', user?.email ?? '');
        return undefined;
      }
      const tokens = newTokens(session.ends_at.getTime());
      await this.sessions.rotate(trx, session, tokens.row);
      return tokens.shown;
    });
    this.cache.forget();
    if (!fresh) throw Errors.unauthorized('The refresh token is not valid, has expired, or was used before; sign in again.');
    return fresh;
  }

  /** Ends the session at once, also in the other processes. */
  async logout(caller: Identity): Promise<void> {
    if (caller.sessionId === undefined)
      throw Errors.conflict(
        'You did not sign in here, so there is no session to end: a key is revoked, and a token ends at its issuer.',
      );
    const { sessionId } = caller;
    await this.catalog.transaction(async (trx) => {
      await this.sessions.end(trx, sessionId);
      await this.cache.changing(trx);
      await this.tell(trx, await this.accounts.find(caller.id, trx), 'logout.succeeded', 'ok', caller.name);
    });
    this.cache.forget();
  }

  /** Changes one's own password; every other session ends. @throws CONFLICT, UNAUTHORIZED, VALIDATION_ERROR */
  async changePassword(caller: Identity, currentPassword: string, newPassword: string): Promise<void> {
    const user = caller.sessionId === undefined ? undefined : await this.accounts.find(caller.id);
    if (!user?.email || user.issuer !== null)
      throw Errors.conflict('Only those who sign in with e-mail and password have a password here.');
    assertStrong('newPassword', newPassword, user.email);
    const account = accountHash(user.email);
    const until = await this.sessions.blockedUntil(account);
    if (until) throw blocked(until);
    await this.sessions.countAttempt(account, (failures) => new Date(Date.now() + backoffMs(failures)));
    if (!(await passwordIs(currentPassword, user.password_hash))) {
      await this.tell(undefined, user, 'password.changed', 'failed', user.email);
      throw Errors.validation({ currentPassword: 'is wrong' });
    }
    const passwordHash = await hashPassword(newPassword);
    await this.catalog.transaction(async (trx) => {
      await this.sessions.clearFailures(trx, account);
      await this.accounts.setPassword(trx, user.id, passwordHash);
      await this.sessions.endAllOf(trx, user.id, caller.sessionId);
      await this.cache.changing(trx);
      await this.tell(trx, user, 'password.changed', 'ok', user.email ?? '');
    });
    this.cache.forget();
  }

  /** Sets somebody's password and ends their sessions, in the transaction of whoever may do that; forget the cache after it. */
  async resetPassword(trx: Trx, user: { id: string; email: string | null }, password: string): Promise<void> {
    await this.accounts.setPassword(trx, user.id, await hashPassword(password));
    await this.sessions.endAllOf(trx, user.id);
    if (user.email) await this.sessions.clearFailures(trx, accountHash(user.email));
    await this.cache.changing(trx);
  }

  /** Into the trail of each of their organizations; of the first one when nobody knows them. */
  private async tell(
    trx: Trx | undefined,
    user: UserRow | undefined,
    action: string,
    result: 'ok' | 'denied' | 'failed',
    email: string,
  ): Promise<void> {
    const organizations = user
      ? (await this.accounts.membershipsOf(user.id, trx)).map(({ organizationId }) => organizationId)
      : [];
    const actor: Actor = { kind: 'user', id: user?.id ?? 'unknown', name: email };
    for (const organizationId of organizations.length > 0 ? organizations.toSorted() : [this.installation.defaultOrganizationId])
      await this.audit.record(trx, {
        organizationId,
        actor,
        action,
        resource: { kind: 'user', id: user?.id ?? 'unknown' },
        result,
      });
  }
}

/** @throws VALIDATION_ERROR */
export function assertStrong(field: string, password: string, email: string | null): void {
  const weakness = weaknessOf(password, email);
  if (weakness !== undefined) throw Errors.validation({ [field]: weakness });
}

function newTokens(endsAt: number): { row: SessionTokens; shown: SessionDto } {
  const token = `bss_${randomBytes(32).toString('base64url')}`;
  const refreshToken = `bsr_${randomBytes(32).toString('base64url')}`;
  const expiresAt = new Date(Math.min(endsAt, Date.now() + TOKEN_MS));
  const refreshExpiresAt = new Date(Math.min(endsAt, Date.now() + REFRESH_MS));
  return {
    row: {
      token_hash: hashToken(token),
      refresh_hash: hashToken(refreshToken),
      token_expires_at: expiresAt,
      refresh_expires_at: refreshExpiresAt,
    },
    shown: {
      token,
      expiresAt: expiresAt.toISOString(),
      refreshToken,
      refreshExpiresAt: refreshExpiresAt.toISOString(),
    },
  };
}

function blocked(until: Date): ApiError {
  const seconds = Math.max(1, Math.ceil((until.getTime() - Date.now()) / 1000));
  return new ApiError('RATE_LIMITED', `Too many wrong passwords for this account; try again in ${seconds} s.`);
}
