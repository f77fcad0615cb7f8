import { durationMs } from '../backups/backup-view.js';
import type { ProgressDto } from '../backups/backup.dto.js';
import type { RunStatus } from '../jobs/run.js';
import type { CheckDto, VerificationDto } from './verification.dto.js';
import type { VerificationRow } from './verifications.repository.js';

/** The answer's fields, each named. */
export function toVerification(row: VerificationRow): VerificationDto {
  return {
    id: row.id,
    backupId: row.backup_id,
    status: row.status as RunStatus,
    requestedLevel: row.requested_level,
    provenLevel: row.proven_level,
    checks: (row.checks ?? []) as CheckDto[],
    createdAt: row.created_at.toISOString(),
    startedAt: row.started_at?.toISOString() ?? null,
    finishedAt: row.finished_at?.toISOString() ?? null,
    durationMs: durationMs(row),
    attempt: row.attempt,
    error: row.error,
    progress: row.progress as ProgressDto | null,
  };
}
