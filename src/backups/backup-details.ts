import { Injectable } from '@nestjs/common';
import { BackupCopies } from '../destinations/backup-copies.js';
import { RunControl } from '../jobs/run-control.js';
import { toBackupDetails } from './backup-view.js';
import type { BackupDetailsDto } from './backup.dto.js';
import { type BackupRow, BackupsRepository } from './backups.repository.js';

/** Gathers everything that is known of one backup. */
@Injectable()
export class BackupDetails {
  constructor(
    private readonly backups: BackupsRepository,
    private readonly runs: RunControl,
    private readonly copies: BackupCopies,
  ) {}

  async of(backup: BackupRow): Promise<BackupDetailsDto> {
    const artifacts = await this.backups.artifacts(backup.id);
    const tables = await this.backups.tables(backup.id);
    const attempts = await this.runs.attempts([backup.id, ...(await this.backups.runIds(backup.id))]);
    return toBackupDetails(backup, artifacts, tables, attempts, await this.copies.of(backup.id));
  }
}
