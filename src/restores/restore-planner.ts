import { Injectable } from '@nestjs/common';
import type { BackupRow } from '../backups/backups.repository.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import { Errors } from '../common/errors.js';
import { Settings } from '../config/settings.js';
import { planRestore, type RestorePlan } from '../engine/restore-plan.js';
import type { ArchiveSource } from '../engine/restore-archive.js';
import { type RestoreTarget, serverOf } from '../engine/restore-target.js';
import { Installation } from '../installation/installation.js';
import { ServerKeys } from '../keys/server-keys.js';
import { SourceTester } from '../sources/source-tester.js';
import { selectionOf } from './restore-targets.js';
import type { CreateRestoreDto } from './restore.dto.js';

const LOOK_TIMEOUT_MS = 60_000;

/** Looks at archive and target before a restore, and opens archives for those who restore them. */
@Injectable()
export class RestorePlanner {
  constructor(
    private readonly copies: BackupCopies,
    private readonly keys: ServerKeys,
    private readonly installation: Installation,
    private readonly settings: Settings,
    private readonly tester: SourceTester,
  ) {}

  /** What the restore would do. @throws PRECONDITION_FAILED when not even that can be told */
  async plan(backup: BackupRow, target: RestoreTarget, dto: CreateRestoreDto): Promise<RestorePlan> {
    if (!this.keys.holdsIdentity) {
      throw Errors.precondition(
        'The server holds no key that decrypts its backups (BACKUP_RECIPIENTS names only keys of yours). Restore by hand with your key, as docs/RESTORE-BY-HAND.md shows.',
      );
    }
    const signal = AbortSignal.timeout(LOOK_TIMEOUT_MS);
    if (target.mode === 'url') await this.tester.refuseCatalog(serverOf(target), signal);
    return planRestore({
      ...(await this.archiveOf(backup, signal)),
      target,
      selection: selectionOf(dto),
      createRoles: dto.createRoles ?? false,
    });
  }

  /** Where a backup's archive lies, and what it is opened with. */
  async archiveOf(backup: BackupRow, signal: AbortSignal): Promise<ArchiveSource> {
    const { store } = await this.copies.readable(backup, signal);
    return {
      ids: {
        installation: this.installation.id,
        organization: backup.organization_id,
        source: backup.source_id ?? '',
        backup: backup.id,
      },
      store,
      verifyingKeys: [this.keys.verifyingKeyPem],
      identities: [this.keys.ageIdentity],
      programs: { binDirs: this.settings.pgBinDirs, requirePatched: this.settings.pgRequirePatched },
      signal,
    };
  }
}
