import type { BackupType } from '../backups/backup.js';
import { slotsAfter } from './next-run.js';
import type { MissedRuns, Overlap, ScheduleAction, ScheduleRunStatus } from './schedule.js';
import type { ScheduleDto, ScheduleRunDto } from './schedule.dto.js';
import type { ScheduleRow, ScheduleRunRow } from './schedules.repository.js';

const SHOWN_SLOTS = 5;

/** The answer's fields, each named. */
export function toSchedule(row: ScheduleRow, now: Date): ScheduleDto {
  const slots = row.enabled ? slotsAfter(row.cron, row.timezone, now, SHOWN_SLOTS) : [];
  return {
    id: row.id,
    name: row.name,
    source: row.source_name,
    cron: row.cron,
    timezone: row.timezone,
    action: row.action as ScheduleAction,
    type: row.type as BackupType,
    compress: row.compress,
    label: row.label,
    tags: row.tags,
    destinations: row.destinations,
    quorum: row.quorum ?? 'all',
    enabled: row.enabled,
    jitterSeconds: row.jitter_seconds,
    missedRuns: row.missed_runs as MissedRuns,
    overlap: row.overlap as Overlap,
    verifyLevel: row.verify_level,
    retentionPolicy: row.retention_policy,
    maxAttempts: row.max_attempts,
    retryDelaySeconds: row.retry_delay_seconds,
    lastRunAt: row.last_run_at?.toISOString() ?? null,
    lastStatus: row.last_status,
    nextRunAt: row.enabled ? (row.next_slot?.toISOString() ?? null) : null,
    nextRuns: slots.map((slot) => slot.toISOString()),
    runCount: row.run_count,
    failureCount: row.failure_count,
    missedCount: row.missed_count,
    skippedCount: row.skipped_count,
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
  };
}

export function toScheduleRun(row: ScheduleRunRow): ScheduleRunDto {
  return {
    id: row.id,
    scheduledFor: row.slot?.toISOString() ?? null,
    trigger: row.trigger,
    attempt: row.attempt,
    status: row.status as ScheduleRunStatus,
    backupId: row.backup_id,
    missed: row.missed,
    note: row.note,
    createdAt: row.created_at.toISOString(),
    finishedAt: row.finished_at?.toISOString() ?? null,
  };
}
