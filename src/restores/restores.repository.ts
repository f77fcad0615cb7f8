import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import { Catalog, type Db, json, type Trx } from '../catalog/catalog.js';
import { COMPLETED_RUN } from '../jobs/completed-run.js';
import type { CatalogTables, RestoreTargetColumn } from '../catalog/tables.js';
import type { PreviousDatabase, RestoreOutcome } from '../engine/restore-request.js';
import type { ListRestoresDto } from './restore.dto.js';

export type RestoreRow = Selectable<CatalogTables['restores']>;

/** Restores, by organization. */
@Injectable()
export class RestoresRepository {
  constructor(private readonly catalog: Catalog) {}

  async list(
    organizationId: string,
    { page, limit, status, backup }: ListRestoresDto,
  ): Promise<{ rows: RestoreRow[]; total: number }> {
    let query = this.catalog.db.selectFrom('restores').where('organization_id', '=', organizationId);
    if (status) query = query.where('status', '=', status);
    if (backup) query = query.where('backup_id', '=', backup);
    const rows = await query
      .selectAll()
      .orderBy('created_at', 'desc')
      .orderBy('id', 'desc')
      .limit(limit)
      .offset((page - 1) * limit)
      .execute();
    const { total } = await query.select((e) => e.fn.countAll<number>().as('total')).executeTakeFirstOrThrow();
    return { rows, total: Number(total) };
  }

  async find(organizationId: string, id: string): Promise<RestoreRow | undefined> {
    return this.catalog.db
      .selectFrom('restores')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .executeTakeFirst();
  }

  /** For the server's own work, whatever the organization. */
  async findAnywhere(id: string, db: Db | Trx = this.catalog.db): Promise<RestoreRow | undefined> {
    return db.selectFrom('restores').selectAll().where('id', '=', id).executeTakeFirst();
  }

  async insert(
    trx: Trx,
    row: {
      id: string;
      organizationId: string;
      backupId: string;
      target: RestoreTargetColumn;
      sealedUrl: string | null;
      components: readonly string[];
      requestedBy: object;
    },
  ): Promise<RestoreRow> {
    return trx
      .insertInto('restores')
      .values({
        id: row.id,
        organization_id: row.organizationId,
        status: 'queued',
        backup_id: row.backupId,
        target: json(row.target),
        sealed_target_url: row.sealedUrl,
        components: [...row.components],
        requested_by: json(row.requestedBy),
      })
      .returningAll()
      .executeTakeFirstOrThrow();
  }

  async recordOutcome(trx: Trx, id: string, outcome: RestoreOutcome): Promise<void> {
    await trx
      .updateTable('restores')
      .set({ counts_equal: outcome.countsEqual, differences: json(outcome.differences), warnings: json(outcome.warnings) })
      .where('id', '=', id)
      .execute();
  }

  /** Notes that the new database is whole; after a crash its OID tells that it got its name. */
  async recordFinished(
    trx: Trx,
    id: string,
    databaseOid: number,
    previous: PreviousDatabase | undefined,
    keepHours: number,
  ): Promise<void> {
    const kept = previous
      ? {
          previous_database: previous.name,
          previous_oid: previous.oid,
          previous_until: sql<Date>`now() + make_interval(hours => ${keepHours})`,
        }
      : {};
    await trx
      .updateTable('restores')
      .set({ finished_oid: databaseOid, ...kept })
      .where('id', '=', id)
      .execute();
  }

  /** Notes the transaction that is about to commit; after a crash the server tells whether it did. */
  async recordTransaction(trx: Trx, id: string, transactionId: string): Promise<void> {
    await trx.updateTable('restores').set({ transaction_id: transactionId }).where('id', '=', id).execute();
  }

  async recordSafetyBackup(trx: Trx, id: string, backupId: string): Promise<void> {
    await trx.updateTable('restores').set({ safety_backup_id: backupId }).where('id', '=', id).execute();
  }

  /** The swap was taken back: what is kept now is the database that it had brought. */
  async recordReverted(trx: Trx, id: string, kept: PreviousDatabase): Promise<void> {
    await trx
      .updateTable('restores')
      .set({ reverted_at: sql<Date>`now()`, previous_database: kept.name, previous_oid: kept.oid })
      .where('id', '=', id)
      .execute();
  }

  /** Swaps whose kept database has had its time. */
  async findExpired(): Promise<RestoreRow[]> {
    return this.catalog.db
      .selectFrom('restores')
      .selectAll()
      .where('previous_database', 'is not', null)
      .where('previous_until', '<', sql<Date>`now()`)
      .where('status', 'in', ['completed', 'failed', 'canceled'])
      .limit(100)
      .execute();
  }

  async forgetKept(trx: Trx, id: string): Promise<void> {
    await trx
      .updateTable('restores')
      .set({ previous_database: null, previous_oid: null, previous_until: null })
      .where('id', '=', id)
      .execute();
  }

  async complete(trx: Trx, id: string): Promise<void> {
    await trx
      .updateTable('restores')
      .set({
        ...COMPLETED_RUN,
      })
      .where('id', '=', id)
      .execute();
  }
}
