import { Injectable } from '@nestjs/common';
import { type Insertable, type Selectable, sql } from 'kysely';
import { IN_USE, LOCKED_UNTIL } from '../backups/backup-use.js';
import { Catalog, type Db, type Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';
import type { Candidate } from './choose-kept.js';

export type PolicyRow = Selectable<CatalogTables['retention_policies']>;
export type PolicyValues = Omit<
  Insertable<CatalogTables['retention_policies']>,
  'id' | 'organization_id' | 'created_at' | 'updated_at'
>;
/** A policy with the schedules that name it. */
export type NamedPolicyRow = PolicyRow & { named_by: string[] };

/** A backup as retention looks at it, and what people know it by. */
export type CandidateRow = Candidate & { sourceName: string | null };

/** Any constant will do, as long as every version of the server uses the same. */
const RETENTION_LOCK = 7_239_410_124;

/** Policies, by organization, and the backups that they decide about. */
@Injectable()
export class RetentionRepository {
  constructor(private readonly catalog: Catalog) {}

  async list(organizationId: string, limit: number, offset: number): Promise<{ rows: PolicyRow[]; total: number }> {
    const policies = this.catalog.db.selectFrom('retention_policies').where('organization_id', '=', organizationId);
    const rows = await policies.selectAll().orderBy('name').limit(limit).offset(offset).execute();
    const { total } = await policies.select((e) => e.fn.countAll<number>().as('total')).executeTakeFirstOrThrow();
    return { rows, total: Number(total) };
  }

  /** By id or, failing that, by name. */
  async find(organizationId: string, idOrName: string): Promise<PolicyRow | undefined> {
    return this.catalog.db
      .selectFrom('retention_policies')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where((e) => e.or([e('id', '=', idOrName), e('name', '=', idOrName)]))
      .orderBy(sql`id = ${idOrName}`, 'desc')
      .executeTakeFirst();
  }

  async insert(trx: Trx, organizationId: string, id: string, values: PolicyValues): Promise<PolicyRow> {
    return trx
      .insertInto('retention_policies')
      .values({ id, organization_id: organizationId, ...values })
      .returningAll()
      .executeTakeFirstOrThrow();
  }

  async update(trx: Trx, organizationId: string, id: string, values: PolicyValues): Promise<PolicyRow | undefined> {
    return trx
      .updateTable('retention_policies')
      .set({ ...values, updated_at: sql<Date>`now()` })
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .returningAll()
      .executeTakeFirst();
  }

  async remove(trx: Trx, organizationId: string, id: string): Promise<void> {
    await trx.deleteFrom('retention_policies').where('organization_id', '=', organizationId).where('id', '=', id).execute();
  }

  /** Names by id, of sources and schedules, also of those that are deleted as far as they are known. */
  async names(organizationId: string): Promise<Map<string, string>> {
    const { rows } = await sql<{
      id: string;
      name: string;
    }>`SELECT id, name FROM sources WHERE organization_id = ${organizationId}
      UNION ALL SELECT id, name FROM schedules WHERE organization_id = ${organizationId}`.execute(this.catalog.db);
    return new Map(rows.map(({ id, name }) => [id, name]));
  }

  async findSchedule(organizationId: string, idOrName: string): Promise<{ id: string } | undefined> {
    return this.catalog.db
      .selectFrom('schedules')
      .select('id')
      .where('organization_id', '=', organizationId)
      .where((e) => e.or([e('id', '=', idOrName), e('name', '=', idOrName)]))
      .executeTakeFirst();
  }

  /** Organizations in which anything could be removed. */
  async organizationsWithPolicies(): Promise<string[]> {
    const rows = await this.catalog.db.selectFrom('retention_policies').select('organization_id').distinct().execute();
    return rows.map((row) => row.organization_id);
  }

  /** One removal of an organization at a time, over all processes. */
  async lock(trx: Trx, organizationId: string): Promise<void> {
    await sql`SELECT pg_advisory_xact_lock(${sql.lit(RETENTION_LOCK)} # hashtextextended(${organizationId}, 0))`.execute(trx);
  }

  async policies(db: Db | Trx, organizationId: string): Promise<NamedPolicyRow[]> {
    const { rows } =
      await sql<NamedPolicyRow>`SELECT p.*, ARRAY(SELECT s.id FROM schedules s WHERE s.organization_id = p.organization_id
        AND s.retention_policy IN (p.id, p.name)) AS named_by
      FROM retention_policies p WHERE p.organization_id = ${organizationId}`.execute(db);
    return rows;
  }

  /** Policies that are bound to nothing but that some schedule names stay with such schedules for good. */
  async noteNamed(trx: Trx, organizationId: string): Promise<void> {
    await sql`UPDATE retention_policies p SET only_named = true WHERE organization_id = ${organizationId} AND NOT only_named
      AND cardinality(source_ids) + cardinality(schedule_ids) + cardinality(tags) = 0
      AND EXISTS (SELECT FROM schedules s WHERE s.organization_id = p.organization_id AND s.retention_policy IN (p.id, p.name))`.execute(
      trx,
    );
  }

  /** Every backup of an organization outside the trash. */
  async candidates(db: Db | Trx, organizationId: string): Promise<CandidateRow[]> {
    const { rows } = await sql<CandidateRow>`SELECT b.id, b.source_id AS "sourceId", b.source_name AS "sourceName",
        b.schedule_id AS "scheduleId", b.type, b.tags, b.status, b.origin, b.broken, b.pinned, b.proof_level AS "proofLevel",
        b.stored_bytes AS "storedBytes", b.created_at AS "createdAt", ${IN_USE} AS "inUse", ${LOCKED_UNTIL} AS "lockedUntil",
        b.brought_back_at IS NOT NULL AS "broughtBack",
        (b.status = 'completed' AND b.origin <> 'external' AND (
          NOT EXISTS (SELECT FROM artifacts a WHERE a.backup_id = b.id)
          OR (EXISTS (SELECT FROM backup_copies c WHERE c.backup_id = b.id)
            AND NOT EXISTS (SELECT FROM backup_copies c WHERE c.backup_id = b.id AND c.state = 'stored')))) AS partial
      FROM backups b WHERE b.organization_id = ${organizationId} AND b.deleted_at IS NULL AND b.purge_started_at IS NULL`.execute(
      db,
    );
    return rows;
  }

  /** Locks these, so that nobody pins them, restores from them or verifies them until the end of the transaction. */
  async lockBackups(trx: Trx, ids: readonly string[]): Promise<void> {
    await sql`SELECT FROM backups WHERE id = ANY(${ids}) ORDER BY id FOR UPDATE`.execute(trx);
  }

  /** Sources of which nothing may be removed: an alert of lost tables, rows or bytes is open. */
  async heldSources(db: Db | Trx, organizationId: string): Promise<Set<string>> {
    const { rows } = await sql<{ id: string }>`SELECT DISTINCT source_id AS id FROM alerts
      WHERE organization_id = ${organizationId} AND closed_at IS NULL`.execute(db);
    return new Set(rows.map(({ id }) => id));
  }
}
