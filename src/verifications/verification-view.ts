import { toRun } from '../jobs/run-view.js';
import type { CheckDto, VerificationDto } from './verification.dto.js';
import type { VerificationRow } from './verifications.repository.js';

/** The answer's fields, each named. */
export function toVerification(row: VerificationRow): VerificationDto {
  return {
    ...toRun(row),
    backupId: row.backup_id,
    requestedLevel: row.requested_level,
    provenLevel: row.proven_level,
    checks: (row.checks ?? []) as CheckDto[],
  };
}
