import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import type { Role } from '../auth/permissions.js';
import { Catalog, type Trx } from '../catalog/catalog.js';

export interface OrganizationRow {
  id: string;
  name: string;
  created_at: Date;
}

/** What keeps an organization from being empty. */
interface Left {
  sources: number;
  backups: number;
  /** Queued and running backups, restores and verifications. */
  runs: number;
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

  /** What of an organization is still there: sources, backups whose artifacts are kept, in the trash too, and work that has not ended. */
  async countLeft(trx: Trx, id: string): Promise<Left> {
    const { rows } = await sql<Left>`SELECT
      (SELECT count(*)::int FROM sources WHERE organization_id = ${id} AND deleted_at IS NULL) AS sources,
      (SELECT count(*)::int FROM backups WHERE organization_id = ${id} AND purge_started_at IS NULL) AS backups,
      (SELECT count(*)::int FROM (SELECT status FROM backups WHERE organization_id = ${id}
        UNION ALL SELECT status FROM restores WHERE organization_id = ${id}
        UNION ALL SELECT status FROM verifications WHERE organization_id = ${id}) runs WHERE status IN ('queued','running')) AS runs`.execute(
      trx,
    );
    return rows[0] ?? { sources: 0, backups: 0, runs: 0 };
  }

  /**
   * Nobody gets in any more, and nothing goes on: its name is free, stored credentials are forgotten, and backups go to the trash, where
   * nothing holds them longer than the usual time. What was written down about it stays. Destinations go with the last backup there.
   */
  async close(trx: Trx, { id, name }: OrganizationRow): Promise<void> {
    const now = sql<Date>`now()`;
    for (const table of [
      'members',
      'schedules',
      'retention_policies',
      'notification_channels',
      'webhook_endpoints',
      'inbound_secrets',
    ] as const)
      await sql`DELETE FROM ${sql.table(table)} WHERE organization_id = ${id}`.execute(trx);
    await trx
      .updateTable('api_keys')
      .set({ revoked_at: now })
      .where('organization_id', '=', id)
      .where('revoked_at', 'is', null)
      .execute();
    await sql`UPDATE sources SET deleted_at = coalesce(deleted_at, now()), sealed_password = NULL, sealed_service_role_key = NULL WHERE organization_id = ${id}`.execute(
      trx,
    );
    await sql`UPDATE backups SET deleted_at = coalesce(deleted_at, now()), pinned = false, removal_rule = NULL, removal_policy = NULL
      WHERE organization_id = ${id}`.execute(trx);
    await sql`UPDATE alerts SET closed_at = now(), closed_by = 'acknowledged', note = 'The organization was deleted.'
      WHERE organization_id = ${id} AND closed_at IS NULL`.execute(trx);
    await trx
      .updateTable('organizations')
      .set({ deleted_at: now, name: `${name} (${id})` })
      .where('id', '=', id)
      .execute();
  }
}
