import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import { Catalog, type Db, json, type Trx } from '../catalog/catalog.js';
import { COMPLETED_RUN } from '../jobs/completed-run.js';
import type { CatalogTables, RunErrorColumn } from '../catalog/tables.js';
import type { Check } from '../engine/verify.js';

export type VerificationRow = Selectable<CatalogTables['verifications']>;

/** Verifications, by organization, and what they say of their backup. */
@Injectable()
export class VerificationsRepository {
  constructor(private readonly catalog: Catalog) {}

  async find(organizationId: string, id: string): Promise<VerificationRow | undefined> {
    return this.catalog.db
      .selectFrom('verifications')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .executeTakeFirst();
  }

  /** For the server's own work, whatever the organization. */
  async findAnywhere(id: string, db: Db | Trx = this.catalog.db): Promise<VerificationRow | undefined> {
    return db.selectFrom('verifications').selectAll().where('id', '=', id).executeTakeFirst();
  }

  async insert(
    trx: Trx,
    row: { id: string; organizationId: string; backupId: string; level: number; requestedBy: object },
  ): Promise<VerificationRow> {
    return trx
      .insertInto('verifications')
      .values({
        id: row.id,
        organization_id: row.organizationId,
        status: 'queued',
        backup_id: row.backupId,
        requested_level: row.level,
        requested_by: json(row.requestedBy),
      })
      .returningAll()
      .executeTakeFirstOrThrow();
  }

  /** Whether the source of a backup says what must hold in it. */
  async hasAssertions(trx: Trx, backupId: string): Promise<boolean> {
    const { rows } = await sql<{ n: number }>`SELECT jsonb_array_length(coalesce(s.options -> 'assertions', '[]')) AS n
      FROM backups b JOIN sources s ON s.id = b.source_id WHERE b.id = ${backupId}`.execute(trx);
    return (rows[0]?.n ?? 0) > 0;
  }

  async recordChecks(
    trx: Trx,
    id: string,
    provenLevel: number | null,
    checks: readonly Check[],
    evidence: object | null,
  ): Promise<void> {
    await trx
      .updateTable('verifications')
      .set({ proven_level: provenLevel, checks: json([...checks]), evidence: json(evidence) })
      .where('id', '=', id)
      .execute();
  }

  async complete(trx: Trx, id: string): Promise<void> {
    await trx
      .updateTable('verifications')
      .set({
        ...COMPLETED_RUN,
      })
      .where('id', '=', id)
      .execute();
  }

  /** A level that holds clears what an earlier check found; a lower one takes nothing from what was proven before. */
  async recordProof(trx: Trx, backupId: string, level: number): Promise<void> {
    await sql`UPDATE backups SET broken = false, broken_cause = NULL,
        proven_at = CASE WHEN ${level} >= coalesce(proof_level, 0) OR broken THEN now() ELSE proven_at END,
        proof_level = CASE WHEN broken THEN ${level} ELSE greatest(coalesce(proof_level, 0), ${level}) END
      WHERE id = ${backupId}`.execute(trx);
  }

  async recordBroken(trx: Trx, backupId: string, cause: RunErrorColumn): Promise<void> {
    await trx
      .updateTable('backups')
      .set({ broken: true, broken_cause: `${cause.code}: ${cause.message}` })
      .where('id', '=', backupId)
      .execute();
  }
}
