import { Injectable } from '@nestjs/common';
import type { Role } from '../auth/permissions.js';
import { Catalog, type Trx } from '../catalog/catalog.js';

export interface MemberRow {
  user_id: string;
  email: string | null;
  name: string;
  role: Role;
  issuer: string | null;
  subject: string | null;
  origin: 'owner' | 'claim' | 'auto';
  created_at: Date;
  last_login_at: Date | null;
}

/** Who belongs to an organization. */
@Injectable()
export class MembersRepository {
  constructor(private readonly catalog: Catalog) {}

  private of(organizationId: string, trx?: Trx) {
    return (trx ?? this.catalog.db)
      .selectFrom('members')
      .innerJoin('users', 'users.id', 'members.user_id')
      .where('members.organization_id', '=', organizationId);
  }

  private shown(organizationId: string, trx?: Trx) {
    return this.of(organizationId, trx).select([
      'members.user_id',
      'users.email',
      'users.name',
      'members.role',
      'users.issuer',
      'users.subject',
      'members.origin',
      'members.created_at',
      'users.last_login_at',
    ]);
  }

  async list(organizationId: string, limit: number, offset: number): Promise<{ rows: MemberRow[]; total: number }> {
    const ordered = this.shown(organizationId).orderBy('members.created_at').orderBy('members.user_id');
    const rows = await ordered.limit(limit).offset(offset).execute();
    const count = this.of(organizationId).select((e) => e.fn.countAll<number>().as('total'));
    return { rows, total: Number((await count.executeTakeFirstOrThrow()).total) };
  }

  async find(organizationId: string, userId: string, trx?: Trx): Promise<MemberRow | undefined> {
    return this.shown(organizationId, trx).where('members.user_id', '=', userId).executeTakeFirst();
  }

  /** Keeps two from leaving at once as the last owners. */
  async lockOrganization(trx: Trx, organizationId: string): Promise<void> {
    await trx.selectFrom('organizations').select('id').where('id', '=', organizationId).forUpdate().execute();
  }

  async countOwners(trx: Trx, organizationId: string): Promise<number> {
    const query = trx.selectFrom('members').select((e) => e.fn.countAll<number>().as('total'));
    const { total } = await query
      .where('organization_id', '=', organizationId)
      .where('role', '=', 'owner')
      .executeTakeFirstOrThrow();
    return Number(total);
  }

  /** In how many other organizations somebody is a member too. */
  async countOthers(trx: Trx, organizationId: string, userId: string): Promise<number> {
    const query = trx.selectFrom('members').select((e) => e.fn.countAll<number>().as('total'));
    const { total } = await query
      .where('user_id', '=', userId)
      .where('organization_id', '!=', organizationId)
      .executeTakeFirstOrThrow();
    return Number(total);
  }

  async findUser(trx: Trx, who: { email: string } | { issuer: string; subject: string }): Promise<string | undefined> {
    const users = trx.selectFrom('users').select('id');
    const found =
      'email' in who
        ? users.where('email', '=', who.email).where('issuer', 'is', null)
        : users.where('issuer', '=', who.issuer).where('subject', '=', who.subject);
    return (await found.executeTakeFirst())?.id;
  }

  async insertUser(
    trx: Trx,
    user: { id: string; name: string; email?: string; password_hash?: string; issuer?: string; subject?: string },
  ): Promise<void> {
    await trx.insertInto('users').values(user).execute();
  }

  async insert(trx: Trx, organizationId: string, userId: string, role: Role): Promise<void> {
    await trx.insertInto('members').values({ organization_id: organizationId, user_id: userId, role }).execute();
  }

  async changeRole(trx: Trx, organizationId: string, userId: string, role: Role): Promise<void> {
    await trx
      .updateTable('members')
      .set({ role, origin: 'owner' })
      .where('organization_id', '=', organizationId)
      .where('user_id', '=', userId)
      .execute();
  }

  async remove(trx: Trx, organizationId: string, userId: string): Promise<void> {
    await trx.deleteFrom('members').where('organization_id', '=', organizationId).where('user_id', '=', userId).execute();
  }
}
