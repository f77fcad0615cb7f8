import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { IN_USE } from './backup-use.js';
import type { BackupRow } from './backups.repository.js';

/** What retention has thrown away and must not lose yet: an alert is open for its source, or nothing whole is left beside it. */
const HELD = sql<boolean>`(b.removal_rule IS NOT NULL AND b.purge_started_at IS NULL AND (
  EXISTS (SELECT FROM alerts a WHERE a.source_id = b.source_id AND a.closed_at IS NULL)
  OR (b.status = 'completed' AND NOT b.broken AND b.source_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM backups o WHERE o.organization_id = b.organization_id AND o.source_id = b.source_id AND o.type = b.type
      AND o.status = 'completed' AND NOT o.broken AND o.origin <> 'external' AND o.deleted_at IS NULL))))`;

export interface PurgeState {
  /** Backups whose removal has begun and has not come to its end. */
  open: number;
  /** Of these, those where something could not be removed. */
  failing: number;
  error: string | null;
}

/** Backups on their way out. */
@Injectable()
export class TrashRepository {
  constructor(private readonly catalog: Catalog) {}

  /** @returns the row, when it was there to be moved */
  async moveByRule(trx: Trx, id: string, policy: string, rule: string): Promise<BackupRow | undefined> {
    return trx
      .updateTable('backups')
      .set({ deleted_at: sql<Date>`now()`, removal_rule: rule, removal_policy: policy })
      .where('id', '=', id)
      .where('deleted_at', 'is', null)
      .where('purge_started_at', 'is', null)
      .returningAll()
      .executeTakeFirst();
  }

  /**
   * Backups whose time in the trash is over, and those whose removal began and did not end.
   * @param after id of the last of the page before
   */
  async findPurgeable(trashDays: number, onlyBegun: boolean, after: string, limit: number): Promise<BackupRow[]> {
    const begun = sql<boolean>`b.purge_started_at IS NOT NULL`;
    const isDue = sql<boolean>`(b.deleted_at < now() - make_interval(days => ${trashDays}) AND NOT b.pinned AND NOT ${HELD})`;
    const { rows } = await sql<BackupRow>`SELECT b.* FROM backups b WHERE b.deleted_at IS NOT NULL
      AND ${onlyBegun ? begun : sql<boolean>`(${begun} OR ${isDue})`}
      AND b.id > ${after} ORDER BY b.id LIMIT ${limit}`.execute(this.catalog.db);
    return rows;
  }

  /** From here on it can't be brought back. @returns false when it was pinned, undeleted, held or taken into use meanwhile */
  async beginPurge(trx: Trx, id: string): Promise<boolean> {
    await sql`SELECT FROM backups WHERE id = ${id} FOR UPDATE`.execute(trx);
    const { rows } = await sql<{ id: string }>`UPDATE backups b SET purge_started_at = coalesce(b.purge_started_at, now())
      WHERE b.id = ${id} AND b.deleted_at IS NOT NULL AND (b.purge_started_at IS NOT NULL OR NOT (b.pinned OR ${IN_USE} OR ${HELD}))
      RETURNING b.id`.execute(trx);
    return rows.length > 0;
  }

  async recordFailure(id: string, error: string): Promise<void> {
    await this.catalog.db
      .updateTable('backups')
      .set({ purge_attempts: sql<number>`purge_attempts + 1`, purge_error: error })
      .where('id', '=', id)
      .execute();
  }

  /** Its objects are gone; what happened to it stays in the audit entries. @returns false when another process was quicker */
  async forget(trx: Trx, id: string): Promise<boolean> {
    await trx.deleteFrom('restores').where('backup_id', '=', id).execute();
    await trx.deleteFrom('verifications').where('backup_id', '=', id).execute();
    const { numDeletedRows } = await trx.deleteFrom('backups').where('id', '=', id).executeTakeFirstOrThrow();
    return numDeletedRows > 0n;
  }

  /** Destinations of deleted organizations, with their credentials, once no copy lies there any more. */
  async forgetDestinations(): Promise<void> {
    await sql`DELETE FROM destinations d USING organizations o WHERE o.id = d.organization_id AND o.deleted_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM backup_copies c WHERE c.destination_id = d.id)`.execute(this.catalog.db);
  }

  async purgeState(): Promise<PurgeState> {
    const { rows } = await sql<PurgeState>`SELECT count(*) AS open, count(*) FILTER (WHERE purge_error IS NOT NULL) AS failing,
      min(purge_error) AS error FROM backups WHERE purge_started_at IS NOT NULL`.execute(this.catalog.db);
    return { open: Number(rows[0]?.open ?? 0), failing: Number(rows[0]?.failing ?? 0), error: rows[0]?.error ?? null };
  }
}
