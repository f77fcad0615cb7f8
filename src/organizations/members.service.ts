import { Injectable } from '@nestjs/common';
import { randomBytes } from 'node:crypto';
import { Changes } from '../audit/changes.js';
import { IdentityCache } from '../auth/identity-cache.js';
import type { Identity } from '../auth/identity.js';
import { hashPassword } from '../auth/passwords.js';
import { type Role, ROLE_PERMISSIONS } from '../auth/permissions.js';
import { assertStrong, SessionsService } from '../auth/sessions.service.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { Page } from '../common/http/envelope.interceptor.js';
import type { PagingDto } from '../common/http/paging.dto.js';
import { newId } from '../common/identifiers.js';
import { type MemberRow, MembersRepository } from './members.repository.js';
import type { AddMemberDto, MemberDto, MemberWithPasswordDto } from './organization.dto.js';

/** Who belongs to an organization, and as what. Nobody gives or takes a role that can do more than they can. */
@Injectable()
export class MembersService {
  constructor(
    private readonly members: MembersRepository,
    private readonly sessions: SessionsService,
    private readonly catalog: Catalog,
    private readonly changes: Changes,
    private readonly cache: IdentityCache,
  ) {}

  async list(caller: Identity, { page, limit }: PagingDto): Promise<Page<MemberDto>> {
    const { rows, total } = await this.members.list(caller.organizationId, limit, (page - 1) * limit);
    return new Page(rows.map(toMember), { page, limit, total });
  }

  /** @throws FORBIDDEN, CONFLICT when they are a member already, VALIDATION_ERROR */
  async add(caller: Identity, dto: AddMemberDto): Promise<MemberWithPasswordDto> {
    const { role, email, issuer, subject } = dto;
    assertHolds(caller, role);
    if (email !== undefined && issuer !== undefined) throw Errors.validation({ issuer: 'can not be given together with email' });
    const who = email !== undefined ? { email } : { issuer: issuer ?? '', subject: subject ?? '' };
    if (dto.password !== undefined) assertStrong('password', dto.password, email ?? null);
    const password = email === undefined ? null : (dto.password ?? madePassword());
    const passwordHash = password === null ? undefined : await hashPassword(password);
    const added = await this.catalog.transaction(async (trx) => {
      const known = await this.members.findUser(trx, who);
      // An account of somebody else is not touched: their name and password are theirs.
      const id = known ?? newId('usr');
      if (!known) {
        const name = dto.name ?? email ?? subject ?? id;
        await this.members.insertUser(trx, { id, name, ...who, ...(passwordHash ? { password_hash: passwordHash } : {}) });
      } else if (await this.members.find(caller.organizationId, id, trx))
        throw Errors.conflict('They are a member of the organization already; change their role instead.');
      await this.members.insert(trx, caller.organizationId, id, role);
      await this.cache.changing(trx);
      await this.changes.record(trx, caller, 'member.added', id, { ...who, role });
      return { id, made: !known && dto.password === undefined };
    });
    this.cache.forget();
    await this.changes.committed(caller, 'member', added.id, []);
    return { ...(await this.get(caller, added.id)), password: added.made ? password : null };
  }

  /** @throws NOT_FOUND, FORBIDDEN, CONFLICT for the last owner */
  async changeRole(caller: Identity, userId: string, role: Role): Promise<MemberDto> {
    assertHolds(caller, role);
    await this.change(caller, userId, async (trx, member) => {
      if (member.role === 'owner' && role !== 'owner') await this.assertAnotherOwner(trx, caller.organizationId);
      await this.members.changeRole(trx, caller.organizationId, userId, role);
      const changes = { before: { role: member.role }, after: { role } };
      await this.changes.record(trx, caller, 'member.role-changed', userId, changes);
    });
    return this.get(caller, userId);
  }

  /** @throws NOT_FOUND, FORBIDDEN, CONFLICT for the last owner */
  async remove(caller: Identity, userId: string): Promise<MemberDto> {
    return this.change(caller, userId, async (trx, member) => {
      if (member.role === 'owner') await this.assertAnotherOwner(trx, caller.organizationId);
      await this.members.remove(trx, caller.organizationId, userId);
      await this.changes.record(trx, caller, 'member.removed', userId, { role: member.role, email: member.email });
    });
  }

  /**
   * Gives somebody another password and ends their sessions.
   * @throws NOT_FOUND, FORBIDDEN, VALIDATION_ERROR; CONFLICT when they have no password here, or belong to other organizations too, whose doors it would open
   */
  async resetPassword(caller: Identity, userId: string, wanted: string | undefined): Promise<MemberWithPasswordDto> {
    const password = wanted ?? madePassword();
    await this.change(caller, userId, async (trx, member) => {
      if (member.issuer !== null) throw Errors.conflict('They sign in at their issuer, and have no password here.');
      if (wanted !== undefined) assertStrong('password', wanted, member.email);
      if (!caller.instanceOwner && (await this.members.countOthers(trx, caller.organizationId, userId)) > 0)
        throw Errors.conflict('They belong to other organizations too, so only the bootstrap key can set their password.');
      await this.sessions.resetPassword(trx, { id: userId, email: member.email }, password);
      await this.changes.record(trx, caller, 'member.password-reset', userId, { email: member.email });
    });
    return { ...(await this.get(caller, userId)), password: wanted === undefined ? password : null };
  }

  private async get(caller: Identity, userId: string): Promise<MemberDto> {
    const row = await this.members.find(caller.organizationId, userId);
    if (!row) throw Errors.notFound('member', userId);
    return toMember(row);
  }

  private async change(
    caller: Identity,
    userId: string,
    work: (trx: Trx, member: MemberRow) => Promise<void>,
  ): Promise<MemberDto> {
    const before = await this.catalog.transaction(async (trx) => {
      await this.members.lockOrganization(trx, caller.organizationId);
      const member = await this.members.find(caller.organizationId, userId, trx);
      if (!member) throw Errors.notFound('member', userId);
      assertHolds(caller, member.role);
      await work(trx, member);
      await this.cache.changing(trx);
      return member;
    });
    this.cache.forget();
    await this.changes.committed(caller, 'member', userId, []);
    return toMember(before);
  }

  private async assertAnotherOwner(trx: Trx, organizationId: string): Promise<void> {
    if ((await this.members.countOwners(trx, organizationId)) < 2)
      throw Errors.conflict('They are the last owner; make somebody else an owner first.');
  }
}

/** @throws FORBIDDEN when the role can do what the caller can't */
function assertHolds(caller: Identity, role: Role): void {
  const beyond = ROLE_PERMISSIONS[role].filter((permission) => !caller.permissions.has(permission));
  if (beyond.length > 0) throw Errors.beyondOwnRights(beyond);
}

function madePassword(): string {
  return randomBytes(18).toString('base64url');
}

function toMember(row: MemberRow): MemberDto {
  return {
    id: row.user_id,
    email: row.email,
    name: row.name,
    role: row.role,
    issuer: row.issuer,
    subject: row.subject,
    origin: row.origin,
    createdAt: row.created_at.toISOString(),
    lastLoginAt: row.last_login_at?.toISOString() ?? null,
  };
}
