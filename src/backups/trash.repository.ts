import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { IN_USE, LOCKED_UNTIL } from './backup-use.js';
import type { BackupRow } from './backups.repository.js';

/** What retention has thrown away and must not lose yet: an alert is open for its source, or nothing whole is left beside it. */
const HELD = sql<boolean>`(b.removal_rule IS NOT NULL AND b.purge_started_at IS NULL AND (
  EXISTS (SELECT FROM alerts a WHERE a.source_id = b.source_id AND a.closed_at IS NULL)
  OR (b.status = 'completed' AND NOT b.broken AND b.source_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM backups o WHERE o.organization_id = b.organization_id AND o.source_id = b.source_id AND o.type = b.type
      AND o.status = 'completed' AND NOT o.broken AND o.origin <> 'external' AND o.deleted_at IS NULL))))`;

/** Its destination would refuse to remove it. */
const LOCKED = sql<boolean>`coalesce(${LOCKED_UNTIL} > now(), false)`;

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
    const isDue = sql<boolean>`(b.deleted_at < now() - make_interval(days => ${trashDays}) AND NOT b.pinned AND NOT ${HELD} AND NOT ${LOCKED})`;
    const { rows } = await sql<BackupRow>`SELECT b.* FROM backups b WHERE b.deleted_at IS NOT NULL
      AND ${onlyBegun ? begun : sql<boolean>`(${begun} OR ${isDue})`}
      AND b.id > ${after} ORDER BY b.id LIMIT ${limit}`.execute(this.catalog.db);
    return rows;
  }

  /** From here on it can't be brought back. @returns false when it was pinned, undeleted, held, locked or taken into use meanwhile */
  async beginPurge(trx: Trx, id: string): Promise<boolean> {
    await sql`SELECT FROM backups WHERE id = ${id} FOR UPDATE`.execute(trx);
    const { rows } = await sql<{ id: string }>`UPDATE backups b SET purge_started_at = coalesce(b.purge_started_at, now())
      WHERE b.id = ${id} AND b.deleted_at IS NOT NULL AND (b.purge_started_at IS NOT NULL OR NOT (b.pinned OR ${IN_USE} OR ${HELD} OR ${LOCKED}))
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

  /** Its objects are gone; what happened to it stays in the audit entries and in the history of runs. @returns false when another process was quicker */
  async forget(trx: Trx, id: string): Promise<boolean> {
    await this.keepHistory(trx, id);
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

  /** What reports need of a backup that is about to go, and of its restores and verifications. */
  private async keepHistory(trx: Trx, id: string): Promise<void> {
    const common = sql.raw('r.status, r.requested_by, r.created_at, r.started_at, r.finished_at');
    await sql`INSERT INTO run_history (id, kind, organization_id, source_id, backup_id, status, requested_by, created_at, started_at,
        finished_at, detail, origin, components, broken, recipients, schedule_id, scheduled_for, deleted_at, removal_rule)
      SELECT r.id, 'backup', r.organization_id, r.source_id, r.id, ${common}, NULL, r.origin, r.components, r.broken, r.recipients,
        r.schedule_id, r.scheduled_for, r.deleted_at, r.removal_rule
      FROM backups r WHERE r.id = ${id}
      UNION ALL
      SELECT r.id, 'restore', r.organization_id, b.source_id, b.id, ${common},
        jsonb_build_object('target', r.target, 'countsEqual', r.counts_equal), NULL, r.components, false, NULL, NULL, NULL, NULL, NULL
      FROM restores r JOIN backups b ON b.id = r.backup_id WHERE b.id = ${id}
      UNION ALL
      SELECT r.id, 'verification', r.organization_id, b.source_id, b.id, ${common},
        jsonb_build_object('provenLevel', r.proven_level, 'restoreMs', r.evidence -> 'restoreMs'),
        NULL, NULL, false, NULL, NULL, NULL, NULL, NULL
      FROM verifications r JOIN backups b ON b.id = r.backup_id WHERE b.id = ${id}
      ON CONFLICT (id) DO NOTHING`.execute(trx);
  }

  /** Forgets what is too old to be reported on. */
  async pruneHistory(years: number): Promise<void> {
    await sql`DELETE FROM run_history WHERE created_at < now() - make_interval(years => ${years})`.execute(this.catalog.db);
  }

  async purgeState(): Promise<PurgeState> {
    const { rows } = await sql<PurgeState>`SELECT count(*) AS open, count(*) FILTER (WHERE purge_error IS NOT NULL) AS failing,
      min(purge_error) AS error FROM backups WHERE purge_started_at IS NOT NULL`.execute(this.catalog.db);
    return { open: Number(rows[0]?.open ?? 0), failing: Number(rows[0]?.failing ?? 0), error: rows[0]?.error ?? null };
  }
}
