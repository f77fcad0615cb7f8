import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';
import type { Membership } from './identity.js';

export interface UserRow {
  id: string;
  email: string | null;
  name: string;
  password_hash: string | null;
  issuer: string | null;
}

const COLUMNS = ['id', 'email', 'name', 'password_hash', 'issuer'] as const;

/** People: of this server with e-mail and password, or of an issuer with its `sub`. */
@Injectable()
export class AccountsRepository {
  constructor(private readonly catalog: Catalog) {}

  async organizationExists(id: string): Promise<boolean> {
    return (await this.livingOrganization('id', id)) !== undefined;
  }

  /** The organization that an issuer's settings name by id or name; undefined when there is none. */
  async organizationIdOf(idOrName: string): Promise<string | undefined> {
    return (await this.livingOrganization('id', idOrName)) ?? (await this.livingOrganization('name', idOrName));
  }

  async find(id: string, trx?: Trx): Promise<UserRow | undefined> {
    return (trx ?? this.catalog.db).selectFrom('users').select(COLUMNS).where('id', '=', id).executeTakeFirst();
  }

  /** A local account. @param email lower-cased */
  async findByEmail(email: string, trx?: Trx): Promise<UserRow | undefined> {
    const query = (trx ?? this.catalog.db).selectFrom('users').select(COLUMNS);
    return query.where('email', '=', email).where('issuer', 'is', null).executeTakeFirst();
  }

  async findBySubject(issuer: string, subject: string, trx?: Trx): Promise<UserRow | undefined> {
    const query = (trx ?? this.catalog.db).selectFrom('users').select(COLUMNS);
    return query.where('issuer', '=', issuer).where('subject', '=', subject).executeTakeFirst();
  }

  async insert(
    trx: Trx,
    user: { id: string; email: string | null; name: string; password_hash?: string | null; issuer?: string; subject?: string },
  ): Promise<void> {
    await trx.insertInto('users').values(user).execute();
  }

  async setPassword(trx: Trx, id: string, passwordHash: string): Promise<void> {
    await trx
      .updateTable('users')
      .set({ password_hash: passwordHash, password_changed_at: sql<Date>`now()` })
      .where('id', '=', id)
      .execute();
  }

  /** Their organizations, the first joined first. */
  async membershipsOf(userId: string, trx?: Trx): Promise<Membership[]> {
    const rows = await (trx ?? this.catalog.db)
      .selectFrom('members')
      .select(['organization_id', 'role'])
      .where('user_id', '=', userId)
      .orderBy('created_at')
      .orderBy('organization_id')
      .execute();
    return rows.map(({ organization_id, role }) => ({ organizationId: organization_id, role }));
  }

  async lockMember(
    trx: Trx,
    organizationId: string,
    userId: string,
  ): Promise<{ role: Membership['role']; origin: 'owner' | 'claim' | 'auto' } | undefined> {
    const query = trx.selectFrom('members').select(['role', 'origin']).where('organization_id', '=', organizationId);
    return query.where('user_id', '=', userId).forUpdate().executeTakeFirst();
  }

  async putMember(
    trx: Trx,
    member: { organization_id: string; user_id: string; role: Membership['role']; origin: 'claim' | 'auto' },
  ): Promise<void> {
    const { role, origin } = member;
    await trx
      .insertInto('members')
      .values(member)
      .onConflict((conflict) => conflict.columns(['organization_id', 'user_id']).doUpdateSet({ role, origin }))
      .execute();
  }

  async removeMember(trx: Trx, organizationId: string, userId: string): Promise<void> {
    await trx.deleteFrom('members').where('organization_id', '=', organizationId).where('user_id', '=', userId).execute();
  }

  private async livingOrganization(column: 'id' | 'name', value: string): Promise<string | undefined> {
    const query = this.catalog.db
      .selectFrom('organizations')
      .select('id')
      .where(column, '=', value)
      .where('deleted_at', 'is', null);
    return (await query.executeTakeFirst())?.id;
  }
}
