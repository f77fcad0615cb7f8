import { Injectable } from '@nestjs/common';
import { BackupArchives } from '../backups/backup-archives.js';
import type { BackupRow } from '../backups/backups.repository.js';
import { planRestore, type RestorePlan } from '../engine/restore-plan.js';
import type { ArchiveSource } from '../engine/restore-archive.js';
import { type RestoreTarget, serverOf } from '../engine/restore-target.js';
import { SourceTester } from '../sources/source-tester.js';
import { selectionOf } from './restore-targets.js';
import type { CreateRestoreDto } from './restore.dto.js';

const LOOK_TIMEOUT_MS = 60_000;

/** Looks at archive and target before a restore, and opens archives for those who restore them. */
@Injectable()
export class RestorePlanner {
  constructor(
    private readonly archives: BackupArchives,
    private readonly tester: SourceTester,
  ) {}

  /** What the restore would do. @param lent age secrets that came with the request */
  async plan(backup: BackupRow, target: RestoreTarget, dto: CreateRestoreDto, lent: readonly string[]): Promise<RestorePlan> {
    const signal = AbortSignal.timeout(LOOK_TIMEOUT_MS);
    if (target.mode === 'url') await this.tester.refuseCatalog(serverOf(target), signal);
    return planRestore({
      ...(await this.archiveOf(backup, signal, lent)),
      target,
      selection: selectionOf(dto),
      createRoles: dto.createRoles ?? false,
    });
  }

  /** Where a backup's archive lies, and what it is opened with. */
  async archiveOf(backup: BackupRow, signal: AbortSignal, lent: readonly string[]): Promise<ArchiveSource> {
    return (await this.archives.of(backup, signal, lent)).source;
  }
}
