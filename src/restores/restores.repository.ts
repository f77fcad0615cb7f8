import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import type { CatalogTables, RestoreTargetColumn } from '../catalog/tables.js';
import type { RestoreOutcome } from '../engine/restore.js';
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
  async findAnywhere(id: string): Promise<RestoreRow | undefined> {
    return this.catalog.db.selectFrom('restores').selectAll().where('id', '=', id).executeTakeFirst();
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

  /** Notes that the new database is whole; after a crash its OID tells that it got its name. */
  async recordOutcome(trx: Trx, id: string, outcome: RestoreOutcome, finishedOid: number | null): Promise<void> {
    await trx
      .updateTable('restores')
      .set({
        counts_equal: outcome.countsEqual,
        differences: json(outcome.differences),
        warnings: json(outcome.warnings),
        finished_oid: finishedOid,
      })
      .where('id', '=', id)
      .execute();
  }

  async complete(trx: Trx, id: string): Promise<void> {
    await trx
      .updateTable('restores')
      .set({
        status: 'completed',
        finished_at: sql<Date>`now()`,
        worker_id: null,
        heartbeat_at: null,
        progress: null,
        error: null,
      })
      .where('id', '=', id)
      .execute();
  }
}
