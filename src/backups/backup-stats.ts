import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Catalog } from '../catalog/catalog.js';
import type { BackupStatsDto } from './backup.dto.js';

interface TotalsRow {
  total: number;
  queued: number;
  running: number;
  completed: number;
  failed: number;
  canceled: number;
  broken: number;
  pinned: number;
  stored: number;
  plain: number;
  average_ms: number | null;
  longest_ms: number | null;
  last_completed_at: Date | null;
}

interface SourceRow {
  id: string;
  name: string;
  completed: number;
  failed: number;
  stored: number;
  newest_id: string | null;
  newest_at: Date | null;
  proven_id: string | null;
  proven_level: number | null;
  proven_at: Date | null;
}

const DURATION_MS = sql`extract(epoch FROM finished_at - started_at) * 1000`;

/** Figures over backups, counted by the catalog. */
@Injectable()
export class BackupStats {
  constructor(private readonly catalog: Catalog) {}

  async of(organizationId: string): Promise<BackupStatsDto> {
    const totals = await this.totals(organizationId);
    const sources = await this.sources(organizationId);
    const ended = Number(totals.completed) + Number(totals.failed);
    return {
      total: Number(totals.total),
      queued: Number(totals.queued),
      running: Number(totals.running),
      completed: Number(totals.completed),
      failed: Number(totals.failed),
      canceled: Number(totals.canceled),
      broken: Number(totals.broken),
      pinned: Number(totals.pinned),
      successRate: ended === 0 ? null : Number(totals.completed) / ended,
      sizeBytes: Number(totals.stored),
      plainBytes: Number(totals.plain),
      averageDurationMs: rounded(totals.average_ms),
      longestDurationMs: rounded(totals.longest_ms),
      lastCompletedAt: totals.last_completed_at?.toISOString() ?? null,
      sources: sources.map((row) => ({
        source: { id: row.id, name: row.name },
        completed: Number(row.completed),
        failed: Number(row.failed),
        sizeBytes: Number(row.stored),
        newestBackupId: row.newest_id,
        newestFinishedAt: row.newest_at?.toISOString() ?? null,
        newestProvenBackupId: row.proven_id,
        newestProvenLevel: row.proven_level,
        newestProvenAt: row.proven_at?.toISOString() ?? null,
      })),
    };
  }

  private async totals(organizationId: string): Promise<TotalsRow> {
    const { rows } = await sql<TotalsRow>`SELECT count(*) AS total,
        count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status = 'running') AS running,
        count(*) FILTER (WHERE status = 'completed') AS completed, count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status = 'canceled') AS canceled, count(*) FILTER (WHERE broken) AS broken, count(*) FILTER (WHERE pinned) AS pinned,
        coalesce(sum(stored_bytes) FILTER (WHERE status = 'completed'), 0)::bigint AS stored,
        coalesce(sum(plain_bytes) FILTER (WHERE status = 'completed'), 0)::bigint AS plain,
        (avg(${DURATION_MS}) FILTER (WHERE status = 'completed'))::float8 AS average_ms,
        (max(${DURATION_MS}) FILTER (WHERE status = 'completed'))::float8 AS longest_ms,
        max(finished_at) FILTER (WHERE status = 'completed') AS last_completed_at
      FROM backups WHERE organization_id = ${organizationId} AND deleted_at IS NULL`.execute(this.catalog.db);
    return rows[0] as TotalsRow;
  }

  private async sources(organizationId: string): Promise<SourceRow[]> {
    const { rows } = await sql<SourceRow>`
      WITH counted AS (
        SELECT source_id, count(*) FILTER (WHERE status = 'completed') AS completed, count(*) FILTER (WHERE status = 'failed') AS failed,
               coalesce(sum(stored_bytes) FILTER (WHERE status = 'completed'), 0)::bigint AS stored
        FROM backups WHERE organization_id = ${organizationId} AND deleted_at IS NULL GROUP BY source_id),
      good AS (
        SELECT source_id, id, finished_at, proof_level, proven_at FROM backups
        WHERE organization_id = ${organizationId} AND deleted_at IS NULL AND status = 'completed' AND NOT broken),
      newest AS (SELECT DISTINCT ON (source_id) * FROM good ORDER BY source_id, finished_at DESC),
      proven AS (SELECT DISTINCT ON (source_id) * FROM good ORDER BY source_id, proof_level DESC NULLS LAST, finished_at DESC)
      SELECT s.id, s.name, coalesce(c.completed, 0) AS completed, coalesce(c.failed, 0) AS failed, coalesce(c.stored, 0) AS stored,
             n.id AS newest_id, n.finished_at AS newest_at, p.id AS proven_id, p.proof_level AS proven_level, p.proven_at AS proven_at
      FROM sources s LEFT JOIN counted c ON c.source_id = s.id LEFT JOIN newest n ON n.source_id = s.id LEFT JOIN proven p ON p.source_id = s.id
      WHERE s.organization_id = ${organizationId} AND s.deleted_at IS NULL ORDER BY s.name`.execute(this.catalog.db);
    return rows;
  }
}

function rounded(milliseconds: number | null): number | null {
  return milliseconds === null ? null : Math.round(milliseconds);
}
