import { Injectable } from '@nestjs/common';
import { BackupsService } from '../backups/backups.service.js';
import { EngineError } from '../engine/errors.js';
import type { HeldRun } from '../jobs/held-run.js';
import { RunWatcher } from '../jobs/run-watcher.js';
import { hasEnded } from '../jobs/run.js';
import { type RestoreRow, RestoresRepository } from './restores.repository.js';

/** Makes sure that what an in-place restore is about to replace is backed up. */
@Injectable()
export class SafetyBackups {
  constructor(
    private readonly backups: BackupsService,
    private readonly restores: RestoresRepository,
    private readonly watcher: RunWatcher,
  ) {}

  /** Waits for the restore's safety backup, which an earlier attempt may have begun. @throws EngineError when it did not come about */
  async ensure(run: HeldRun, restore: RestoreRow): Promise<void> {
    const { organization_id: organizationId } = restore;
    const id = restore.safety_backup_id ?? (await this.begin(run, restore));
    for await (const { status } of this.watcher.follow(organizationId, 'backup', id, run.signal)) {
      run.report({
        phase: 'safety-backup',
        percent: 0,
        bytes: 0,
        tablesDone: 0,
        tablesTotal: 0,
        bytesPerSecond: 0,
        etaSeconds: null,
      });
      if (hasEnded(status)) break;
    }
    run.signal.throwIfAborted();
    const backup = await this.backups.get(organizationId, id);
    if (backup.status === 'completed') return;
    throw new EngineError(
      'SAFETY_BACKUP_FAILED',
      `The safety backup ${id} ${backup.status === 'failed' ? `failed: ${backup.error?.message ?? ''}` : `is ${backup.status}.`}`,
      'Nothing was changed. Mend what keeps the source from being backed up, then restore again.',
    );
  }

  private async begin(run: HeldRun, restore: RestoreRow): Promise<string> {
    const backup = await this.backups.get(restore.organization_id, restore.backup_id);
    const safety = await this.backups.createSafety(backup, restore.id, async (trx, id) => {
      await run.fence(trx);
      await this.restores.recordSafetyBackup(trx, restore.id, id);
    });
    return safety.id;
  }
}
