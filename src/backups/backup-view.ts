import type { Selectable } from 'kysely';
import type { CatalogTables, RunErrorColumn } from '../catalog/tables.js';
import type { CopyRow } from '../destinations/backup-copies.js';
import type { CopyState } from '../destinations/destination.js';
import { toRun } from '../jobs/run-view.js';
import type { BackupOrigin, BackupType, Component } from './backup.js';
import type { ArtifactDto, AttemptDto, BackupDetailsDto, BackupDto, OmissionDto } from './backup.dto.js';
import type { ArtifactRow, BackupRow, BackupTableRow } from './backups.repository.js';

type AttemptRow = Selectable<CatalogTables['attempts']>;

/** The answer's fields, each named. */
export function toBackup(row: BackupRow): BackupDto {
  return {
    ...toRun(row),
    type: row.type as BackupType,
    source: row.source_id === null ? null : { id: row.source_id, name: row.source_name ?? '' },
    origin: row.origin as BackupOrigin,
    components: row.components as Component[],
    label: row.label,
    tags: row.tags,
    pinned: row.pinned,
    includePasswords: row.include_passwords,
    sizeBytes: row.stored_bytes,
    plainBytes: row.plain_bytes,
    tableCount: row.table_count,
    rowCount: row.row_count,
    warnings: row.warnings,
    proofLevel: row.proof_level,
    provenAt: row.proven_at?.toISOString() ?? null,
    broken: row.broken,
    brokenCause: row.broken_cause,
    deletedAt: row.deleted_at?.toISOString() ?? null,
    removedBy: row.removal_rule === null ? null : { policy: row.removal_policy ?? '', rule: row.removal_rule },
    schedule: row.schedule_id === null ? null : { id: row.schedule_id, name: row.schedule_name ?? '' },
    scheduledFor: row.scheduled_for?.toISOString() ?? null,
  };
}

export function toBackupDetails(
  row: BackupRow,
  artifacts: ArtifactRow[],
  tables: BackupTableRow[],
  attempts: AttemptRow[],
  copies: CopyRow[],
): BackupDetailsDto {
  return {
    ...toBackup(row),
    serverVersion: row.server_version,
    artifacts: artifacts.map((artifact) => toArtifact(artifact, copies)),
    tables: tables.map((table) => ({
      schema: table.schema_name,
      name: table.table_name,
      rows: table.row_count,
      bytes: table.byte_count,
      sha256: table.sha256,
    })),
    storage: row.storage,
    omissions: row.omissions as OmissionDto[] | null,
    runs: attempts.map(toAttempt),
  };
}

function toArtifact(row: ArtifactRow, copies: CopyRow[]): ArtifactDto {
  return {
    component: row.component as Component,
    name: row.name,
    storedBytes: row.stored_bytes,
    storedSha256: row.stored_sha256,
    plainBytes: row.plain_bytes,
    plainSha256: row.plain_sha256,
    copies: copies.map(({ destination_name, state, error, locked_until }) => ({
      destination: destination_name,
      state: state as CopyState,
      error,
      lockedUntil: locked_until?.toISOString() ?? null,
    })),
  };
}

function toAttempt(row: AttemptRow): AttemptDto {
  return {
    kind: row.run_kind,
    id: row.run_id,
    attempt: row.attempt,
    startedAt: row.started_at.toISOString(),
    finishedAt: row.finished_at?.toISOString() ?? null,
    outcome: row.outcome,
    error: row.error as RunErrorColumn | null,
  };
}
