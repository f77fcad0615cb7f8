import { Injectable } from '@nestjs/common';
import { BackupsService } from '../backups/backups.service.js';
import { durationMs } from '../backups/backup-view.js';
import { Catalog } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import type { RunEvent } from '../common/events/event-map.js';
import { Settings } from '../config/settings.js';
import { cleanUpRestore, restoreBackup } from '../engine/restore.js';
import { ArtifactStore } from '../engine/store/artifact-store.js';
import { Installation } from '../installation/installation.js';
import type { HeldRun } from '../jobs/held-run.js';
import { type RunHandler, RunHandlerOf } from '../jobs/run-handler.js';
import { ServerKeys } from '../keys/server-keys.js';
import { RestoreTargets } from './restore-targets.js';
import { type RestoreRow, RestoresRepository } from './restores.repository.js';

/** Does the restores that were queued. */
@Injectable()
@RunHandlerOf('restore')
export class RestoreRunner implements RunHandler {
  constructor(
    private readonly restores: RestoresRepository,
    private readonly backups: BackupsService,
    private readonly targets: RestoreTargets,
    private readonly catalog: Catalog,
    private readonly store: ArtifactStore,
    private readonly keys: ServerKeys,
    private readonly installation: Installation,
    private readonly settings: Settings,
    private readonly cache: CacheService,
  ) {}

  async run(run: HeldRun): Promise<void> {
    const restore = await this.row(run.id);
    const backup = await this.backups.get(restore.organization_id, restore.backup_id);
    const outcome = await restoreBackup({
      runId: run.id,
      ids: {
        installation: this.installation.id,
        organization: backup.organization_id,
        source: backup.source_id ?? '',
        backup: backup.id,
      },
      target: await this.targets.resolve(backup, restore),
      store: this.store,
      verifyingKeys: [this.keys.verifyingKeyPem],
      identities: [this.keys.ageIdentity],
      programs: { binDirs: this.settings.pgBinDirs, requirePatched: this.settings.pgRequirePatched },
      jobs: restore.target.jobs,
      finishedOid: restore.finished_oid,
      signal: run.signal,
      onProgress: (progress) => run.report(progress),
      onFinished: (finished) =>
        this.catalog.transaction(async (trx) => {
          await run.fence(trx);
          await this.restores.recordOutcome(trx, run.id, finished, finished.databaseOid);
        }),
    });
    await this.catalog.transaction(async (trx) => {
      await run.fence(trx);
      // What a dead attempt had found stays: its database was whole when it noted its OID.
      if (restore.finished_oid === null) await this.restores.recordOutcome(trx, run.id, outcome, null);
      await this.restores.complete(trx, run.id);
    });
    await this.cache.invalidate(run.organizationId, ['restores']);
  }

  async cleanUp(runId: string): Promise<void> {
    const restore = await this.restores.findAnywhere(runId);
    if (!restore) return;
    await this.cache.invalidate(restore.organization_id, ['restores']);
    const backup = await this.backups.get(restore.organization_id, restore.backup_id);
    await cleanUpRestore(runId, await this.targets.resolve(backup, restore));
  }

  async describe(runId: string): Promise<Pick<RunEvent, 'organizationId' | 'backupId' | 'source' | 'attempt' | 'durationMs'>> {
    const row = await this.row(runId);
    const backup = await this.backups.get(row.organization_id, row.backup_id);
    const source = backup.source_id === null ? null : { id: backup.source_id, name: backup.source_name ?? '' };
    return {
      organizationId: row.organization_id,
      backupId: row.backup_id,
      source,
      attempt: row.attempt,
      durationMs: durationMs(row),
    };
  }

  private async row(id: string): Promise<RestoreRow> {
    const row = await this.restores.findAnywhere(id);
    if (!row) throw new Error(`The restore ${id} has no row`);
    return row;
  }
}
