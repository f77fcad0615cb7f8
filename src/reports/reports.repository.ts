import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog } from '../catalog/catalog.js';

/** A source, also one that is deleted while backups of it are in the period. */
export interface ReportedSource {
  id: string;
  name: string;
  createdAt: Date;
  deleted: boolean;
  rpoMinutes: number | null;
  rtoMinutes: number | null;
}

export interface ReportedBackup {
  id: string;
  sourceId: string;
  status: string;
  components: string[];
  broken: boolean;
  recipients: string[] | null;
  scheduleId: string | null;
  scheduledFor: Date | null;
  createdAt: Date;
  startedAt: Date | null;
  finishedAt: Date | null;
  deletedAt: Date | null;
  removalRule: string | null;
}

export interface ReportedRestore {
  id: string;
  sourceId: string | null;
  backupId: string;
  status: string;
  components: string[];
  target: { mode: string; host: string; database: string; selection?: object };
  countsEqual: boolean | null;
  requestedBy: { kind: string; id: string; name: string } | null;
  createdAt: Date;
  startedAt: Date | null;
  finishedAt: Date | null;
}

export interface ReportedVerification {
  id: string;
  sourceId: string | null;
  status: string;
  provenLevel: number | null;
  restoreMs: number | null;
}

export interface NewestBackup {
  sourceId: string;
  id: string;
  finishedAt: Date;
  level: number;
  provenAt: Date | null;
  broken: boolean;
}

export interface ReportedSchedule {
  id: string;
  sourceId: string;
  name: string;
  cron: string;
  timezone: string;
  enabled: boolean;
  jitterSeconds: number;
  changedAt: Date;
  /** Slots of the period before the last change that nobody began. */
  unrun: number;
}

/** Rows of a kind that the report would not end with; what is left out shows. */
const MOST_ROWS = 200_000;

/** What a report is made of: living runs, and those whose backup is gone. */
@Injectable()
export class ReportsRepository {
  constructor(private readonly catalog: Catalog) {}

  async organizationName(id: string): Promise<string> {
    const row = await this.catalog.db.selectFrom('organizations').select('name').where('id', '=', id).executeTakeFirst();
    return row?.name ?? id;
  }

  async sources(organizationId: string, from: Date, to: Date): Promise<ReportedSource[]> {
    const { rows } =
      await sql<ReportedSource>`SELECT s.id, s.name, s.created_at AS "createdAt", s.deleted_at IS NOT NULL AS deleted,
        (s.options #>> '{targets,rpoMinutes}')::int AS "rpoMinutes", (s.options #>> '{targets,rtoMinutes}')::int AS "rtoMinutes"
      FROM sources s WHERE s.organization_id = ${organizationId} AND s.created_at < ${to} AND (s.deleted_at IS NULL OR s.deleted_at >= ${from})
      ORDER BY s.name, s.id`.execute(this.catalog.db);
    return rows;
  }

  /** Backups that were begun or ended in the period, and of each source the last that ended before it; none that were made elsewhere. */
  async backups(organizationId: string, from: Date, to: Date): Promise<ReportedBackup[]> {
    const { rows } = await sql<ReportedBackup>`WITH every AS (
        SELECT id, source_id, status, components, broken, recipients, schedule_id, scheduled_for, created_at, started_at, finished_at,
          deleted_at, removal_rule, origin FROM backups WHERE organization_id = ${organizationId}
        UNION ALL
        SELECT id, source_id, status, components, broken, recipients, schedule_id, scheduled_for, created_at, started_at, finished_at,
          deleted_at, removal_rule, origin FROM run_history WHERE organization_id = ${organizationId} AND kind = 'backup'),
      own AS (SELECT * FROM every WHERE origin <> 'external' AND source_id IS NOT NULL),
      chosen AS (
        SELECT * FROM own WHERE created_at < ${to} AND (created_at >= ${from} OR finished_at >= ${from} OR deleted_at >= ${from})
        UNION
        SELECT * FROM (SELECT DISTINCT ON (source_id) * FROM own
          WHERE status = 'completed' AND NOT broken AND 'database' = ANY(components) AND finished_at < ${from}
          ORDER BY source_id, finished_at DESC) AS before)
      SELECT id, source_id AS "sourceId", status, components, broken, recipients, schedule_id AS "scheduleId", scheduled_for AS "scheduledFor",
        created_at AS "createdAt", started_at AS "startedAt", finished_at AS "finishedAt", deleted_at AS "deletedAt", removal_rule AS "removalRule"
      FROM chosen ORDER BY created_at DESC LIMIT ${MOST_ROWS}`.execute(this.catalog.db);
    return rows;
  }

  async restores(organizationId: string, from: Date, to: Date): Promise<ReportedRestore[]> {
    const { rows } =
      await sql<ReportedRestore>`SELECT r.id, b.source_id AS "sourceId", r.backup_id AS "backupId", r.status, r.components, r.target,
        r.counts_equal AS "countsEqual", r.requested_by AS "requestedBy", r.created_at AS "createdAt", r.started_at AS "startedAt", r.finished_at AS "finishedAt"
      FROM restores r JOIN backups b ON b.id = r.backup_id WHERE r.organization_id = ${organizationId} AND r.created_at >= ${from} AND r.created_at < ${to}
      UNION ALL
      SELECT id, source_id, backup_id, status, components, detail -> 'target', (detail ->> 'countsEqual')::boolean, requested_by, created_at, started_at, finished_at
      FROM run_history WHERE organization_id = ${organizationId} AND kind = 'restore' AND created_at >= ${from} AND created_at < ${to}
      ORDER BY "createdAt" DESC LIMIT ${MOST_ROWS}`.execute(this.catalog.db);
    return rows;
  }

  async verifications(organizationId: string, from: Date, to: Date): Promise<ReportedVerification[]> {
    const { rows } =
      await sql<ReportedVerification>`SELECT v.id, b.source_id AS "sourceId", v.status, v.proven_level AS "provenLevel", (v.evidence ->> 'restoreMs')::float8 AS "restoreMs"
      FROM verifications v JOIN backups b ON b.id = v.backup_id WHERE v.organization_id = ${organizationId} AND v.created_at >= ${from} AND v.created_at < ${to}
      UNION ALL
      SELECT id, source_id, status, (detail ->> 'provenLevel')::int, (detail ->> 'restoreMs')::float8
      FROM run_history WHERE organization_id = ${organizationId} AND kind = 'verification' AND created_at >= ${from} AND created_at < ${to}
      LIMIT ${MOST_ROWS}`.execute(this.catalog.db);
    return rows;
  }

  /** Of each source the newest completed backup that is still there, and the newest of those that are proven furthest. */
  async newest(organizationId: string, to: Date): Promise<{ newest: NewestBackup[]; proven: NewestBackup[] }> {
    const there = sql`FROM backups WHERE organization_id = ${organizationId} AND status = 'completed' AND origin <> 'external'
      AND source_id IS NOT NULL AND deleted_at IS NULL AND finished_at < ${to}`;
    const columns = sql.raw(
      'DISTINCT ON (source_id) source_id AS "sourceId", id, finished_at AS "finishedAt", coalesce(proof_level, 0) AS level, proven_at AS "provenAt", broken',
    );
    const newest = await sql<NewestBackup>`SELECT ${columns} ${there} ORDER BY source_id, finished_at DESC`.execute(
      this.catalog.db,
    );
    const proven = await sql<NewestBackup>`SELECT ${columns} ${there} AND NOT broken
      ORDER BY source_id, proof_level DESC NULLS LAST, finished_at DESC`.execute(this.catalog.db);
    return { newest: newest.rows, proven: proven.rows };
  }

  /** What is kept of each source now. */
  async kept(organizationId: string): Promise<{ sourceId: string; count: number; oldestAt: Date | null }[]> {
    const { rows } = await sql<{
      sourceId: string;
      count: number;
      oldestAt: Date | null;
    }>`SELECT source_id AS "sourceId", count(*)::int AS count, min(finished_at) AS "oldestAt"
      FROM backups WHERE organization_id = ${organizationId} AND status = 'completed' AND NOT broken AND origin <> 'external' AND deleted_at IS NULL
        AND source_id IS NOT NULL GROUP BY source_id`.execute(this.catalog.db);
    return rows;
  }

  async schedules(organizationId: string, from: Date, to: Date): Promise<ReportedSchedule[]> {
    const { rows } =
      await sql<ReportedSchedule>`SELECT s.id, s.source_id AS "sourceId", s.name, s.cron, s.timezone, s.enabled, s.jitter_seconds AS "jitterSeconds",
        s.updated_at AS "changedAt",
        (SELECT (coalesce(sum(r.missed), 0) + count(*) FILTER (WHERE r.status = 'skipped'))::int
          FROM schedule_runs r WHERE r.schedule_id = s.id AND r.trigger = 'schedule' AND r.slot >= ${from} AND r.slot < least(${to}, s.updated_at)) AS unrun
      FROM schedules s WHERE s.organization_id = ${organizationId} AND s.action = 'backup' AND s.source_id IS NOT NULL AND s.created_at < ${to}
      ORDER BY s.name`.execute(this.catalog.db);
    return rows;
  }
}
