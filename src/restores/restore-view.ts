import { toRun } from '../jobs/run-view.js';
import type { RestorePlan } from '../engine/restore-plan.js';
import type { DifferenceDto, RestoreDto, RestorePlanDto } from './restore.dto.js';
import type { RestoreRow } from './restores.repository.js';

/** The answer's fields, each named: the target's credentials can't slip out. */
export function toRestore(row: RestoreRow): RestoreDto {
  return {
    ...toRun(row),
    backupId: row.backup_id,
    target: {
      mode: row.target.mode,
      host: row.target.host,
      port: row.target.port,
      database: row.target.database,
      ...(row.target.schema === undefined ? {} : { schema: row.target.schema }),
    },
    components: row.components,
    countsEqual: row.counts_equal,
    differences: (row.differences ?? []) as DifferenceDto[],
    warnings: row.warnings ?? [],
    safetyBackupId: row.safety_backup_id,
    previousDatabase: row.previous_database,
    previousUntil: row.previous_until?.toISOString() ?? null,
    revertedAt: row.reverted_at?.toISOString() ?? null,
  };
}

/** A plan, and whether it can be carried out. */
export function toRestorePlan(plan: RestorePlan): RestorePlanDto {
  return { ok: plan.problems.length === 0, ...plan };
}
