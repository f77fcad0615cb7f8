import type { Selectable } from 'kysely';
import type { RunColumns } from '../catalog/tables.js';
import type { ProgressDto, RunDto } from './run.dto.js';
import type { RunStatus } from './run.js';

/** The fields that every kind of run is shown with, each named. */
export function toRun(row: Selectable<RunColumns>): RunDto {
  return {
    id: row.id,
    status: row.status as RunStatus,
    createdAt: row.created_at.toISOString(),
    startedAt: row.started_at?.toISOString() ?? null,
    finishedAt: row.finished_at?.toISOString() ?? null,
    durationMs: durationMs(row),
    attempt: row.attempt,
    error: row.error,
    progress: row.progress as ProgressDto | null,
  };
}

/** Milliseconds from the first start to the end; null until then. */
export function durationMs(row: { started_at: Date | null; finished_at: Date | null }): number | null {
  return row.started_at && row.finished_at ? row.finished_at.getTime() - row.started_at.getTime() : null;
}
