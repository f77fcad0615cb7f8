import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import type { Trx } from '../catalog/catalog.js';

/** A backup that is to be looked at, and how far. */
export interface Sample {
  organizationId: string;
  backupId: string;
  level: number;
}

const KEPT_DAYS = 30;
/** What was looked at within this time is not looked at again: a schedule that verifies each backup has just done so. */
const FRESH_HOURS = 20;
/** Younger ones are not old. */
const OLD_HOURS = 24;

/** Backups that can be verified: whole, ours, there, and not being verified now. */
const ABLE = sql`b.status = 'completed' AND b.origin <> 'external' AND b.deleted_at IS NULL AND b.purge_started_at IS NULL
  AND b.source_id IS NOT NULL AND NOT EXISTS (SELECT FROM verifications o WHERE o.backup_id = b.id AND o.status IN ('queued','running'))`;

/** Which backups are drawn for verification. */
@Injectable()
export class SamplesRepository {
  /** @returns whether nobody else has taken this day */
  async takeDay(trx: Trx, now: Date): Promise<boolean> {
    const { rows } = await sql`INSERT INTO sampled_days (day) VALUES ((${now}::timestamptz AT TIME ZONE 'UTC')::date)
      ON CONFLICT DO NOTHING RETURNING day`.execute(trx);
    if (rows.length === 0) return false;
    await sql`DELETE FROM sampled_days WHERE sampled_at < now() - make_interval(days => ${KEPT_DAYS})`.execute(trx);
    return true;
  }

  async noteQueued(trx: Trx, now: Date, count: number): Promise<void> {
    await sql`UPDATE sampled_days SET queued = ${count} WHERE day = (${now}::timestamptz AT TIME ZONE 'UTC')::date`.execute(trx);
  }

  /** The newest backup of each living source, to the level of the schedule that made it, or else of the source's strictest one. */
  async newest(trx: Trx, now: Date, usualLevel: number): Promise<Sample[]> {
    const { rows } = await sql<Sample>`SELECT "organizationId", "backupId", level FROM (
        SELECT DISTINCT ON (b.source_id) b.organization_id AS "organizationId", b.id AS "backupId", b.source_id, b.proof_level, b.proven_at,
          coalesce((SELECT c.verify_level FROM schedules c WHERE c.id = b.schedule_id),
            (SELECT max(c.verify_level) FROM schedules c WHERE c.source_id = b.source_id AND c.action = 'backup'), ${usualLevel}) AS level
        FROM backups b JOIN sources s ON s.id = b.source_id AND s.deleted_at IS NULL
        WHERE b.status = 'completed' AND b.origin <> 'external' AND b.deleted_at IS NULL
        ORDER BY b.source_id, b.finished_at DESC) AS newest
      WHERE level > 0 AND NOT (coalesce(proof_level, 0) >= level AND proven_at > ${now}::timestamptz - make_interval(hours => ${FRESH_HOURS}))
        AND EXISTS (SELECT FROM backups b WHERE b.id = "backupId" AND ${ABLE})
      ORDER BY "backupId"`.execute(trx);
    return rows;
  }

  /** A share of the backups that are older than a day and not the newest of their source: those that were not looked at for longest. */
  async longestUnseen(trx: Trx, now: Date, percent: number, level: number): Promise<Sample[]> {
    const { rows } = await sql<Sample>`WITH old AS (
        SELECT b.id, b.organization_id, (SELECT max(v.finished_at) FROM verifications v WHERE v.backup_id = b.id) AS seen_at, b.finished_at
        FROM backups b WHERE ${ABLE} AND b.finished_at < ${now}::timestamptz - make_interval(hours => ${OLD_HOURS})
          AND EXISTS (SELECT FROM backups n WHERE n.source_id = b.source_id AND n.status = 'completed' AND n.origin <> 'external'
            AND n.deleted_at IS NULL AND n.finished_at > b.finished_at))
      SELECT organization_id AS "organizationId", id AS "backupId", ${level}::int AS level FROM old
      ORDER BY coalesce(seen_at, finished_at), id
      LIMIT (SELECT ceil(count(*) * ${percent}::numeric / 100) FROM old)`.execute(trx);
    return rows;
  }
}
