import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import type { Role } from '../auth/permissions.js';
import { Catalog, type Trx } from '../catalog/catalog.js';

export interface OrganizationRow {
  id: string;
  name: string;
  created_at: Date;
}

/** The tenants. */
@Injectable()
export class OrganizationsRepository {
  constructor(private readonly catalog: Catalog) {}

  private living(trx?: Trx) {
    return (trx ?? this.catalog.db)
      .selectFrom('organizations')
      .select(['organizations.id', 'organizations.name', 'organizations.created_at'])
      .where('organizations.deleted_at', 'is', null);
  }

  async all(): Promise<OrganizationRow[]> {
    return this.living().orderBy('created_at').orderBy('id').execute();
  }

  async find(id: string): Promise<OrganizationRow | undefined> {
    return this.living().where('organizations.id', '=', id).executeTakeFirst();
  }

  async lock(trx: Trx, id: string): Promise<OrganizationRow | undefined> {
    return this.living(trx).where('organizations.id', '=', id).forUpdate().executeTakeFirst();
  }

  /** A person's, the first joined first. */
  async ofUser(userId: string): Promise<(OrganizationRow & { role: Role })[]> {
    return this.living()
      .innerJoin('members', 'members.organization_id', 'organizations.id')
      .select('members.role')
      .where('members.user_id', '=', userId)
      .orderBy('members.created_at')
      .orderBy('organizations.id')
      .execute();
  }

  async insert(trx: Trx, id: string, name: string): Promise<void> {
    await trx.insertInto('organizations').values({ id, name }).execute();
  }

  async rename(trx: Trx, id: string, name: string): Promise<void> {
    await trx.updateTable('organizations').set({ name }).where('id', '=', id).execute();
  }

  /** What of an organization is still there: sources, and backups whose artifacts are kept, in the trash too. */
  async countLeft(trx: Trx, id: string): Promise<{ sources: number; backups: number }> {
    const { rows } = await sql<{ sources: number; backups: number }>`SELECT
      (SELECT count(*)::int FROM sources WHERE organization_id = ${id} AND deleted_at IS NULL) AS sources,
      (SELECT count(*)::int FROM backups WHERE organization_id = ${id} AND purge_started_at IS NULL) AS backups`.execute(trx);
    return rows[0] ?? { sources: 0, backups: 0 };
  }

  /** Nobody gets in any more; its name is free, and what was written down about it stays. */
  async close(trx: Trx, { id, name }: OrganizationRow): Promise<void> {
    await trx.deleteFrom('members').where('organization_id', '=', id).execute();
    const now = sql<Date>`now()`;
    await trx
      .updateTable('api_keys')
      .set({ revoked_at: now })
      .where('organization_id', '=', id)
      .where('revoked_at', 'is', null)
      .execute();
    await trx
      .updateTable('organizations')
      .set({ deleted_at: now, name: `${name} (${id})` })
      .where('id', '=', id)
      .execute();
  }
}
