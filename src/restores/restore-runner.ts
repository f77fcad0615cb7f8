import { Injectable, Logger } from '@nestjs/common';
import { BackupsService } from '../backups/backups.service.js';
import { durationMs } from '../backups/backup-view.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import type { RunEvent } from '../common/events/event-map.js';
import { Settings } from '../config/settings.js';
import { cleanUpRestore, dropStagingOf, isRestored } from '../engine/restore-staging.js';
import type { RestoreTarget } from '../engine/restore-target.js';
import { restoreBackup, type RestoreOutcome } from '../engine/restore.js';
import { ArtifactStore } from '../engine/store/artifact-store.js';
import { Installation } from '../installation/installation.js';
import type { HeldRun } from '../jobs/held-run.js';
import { type RunHandler, RunHandlerOf } from '../jobs/run-handler.js';
import { hasEnded } from '../jobs/run.js';
import { ServerKeys } from '../keys/server-keys.js';
import { RestoreTargets } from './restore-targets.js';
import { type RestoreRow, RestoresRepository } from './restores.repository.js';

/** Does the restores that were queued. */
@Injectable()
@RunHandlerOf('restore')
export class RestoreRunner implements RunHandler {
  private readonly logger = new Logger('restore');

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
    const target = await this.targets.resolve(backup, restore);
    if (run.attempt > 1 && (await isRestored(target, restore.finished_oid))) return this.finish(run);
    if (run.attempt > 1) await cleanUpRestore(run.id, target);
    await this.dropLeftovers(target);
    const outcome = await restoreBackup({
      runId: run.id,
      ids: {
        installation: this.installation.id,
        organization: backup.organization_id,
        source: backup.source_id ?? '',
        backup: backup.id,
      },
      target,
      store: this.store,
      verifyingKeys: [this.keys.verifyingKeyPem],
      identities: [this.keys.ageIdentity],
      programs: { binDirs: this.settings.pgBinDirs, requirePatched: this.settings.pgRequirePatched },
      jobs: restore.target.jobs,
      attempt: run.attempt,
      signal: run.signal,
      onProgress: (progress) => run.report(progress),
      beforeChange: () => this.catalog.transaction((trx) => run.fence(trx)),
      onFinished: (finished) =>
        this.catalog.transaction(async (trx) => {
          await run.fence(trx);
          await this.restores.recordOutcome(trx, run.id, finished, finished.databaseOid);
        }),
    });
    await this.finish(run, outcome);
  }

  /** Without an outcome, what a dead attempt had found stays: its database was whole when it noted its OID. */
  private async finish(run: HeldRun, outcome?: RestoreOutcome): Promise<void> {
    await this.catalog.transaction(async (trx) => {
      await run.fence(trx);
      if (outcome) await this.restores.recordOutcome(trx, run.id, outcome, null);
      await this.restores.complete(trx, run.id);
    });
    await this.cache.invalidate(run.organizationId, ['restores']);
  }

  async isDone(runId: string): Promise<boolean> {
    const restore = await this.restores.findAnywhere(runId);
    if (!restore || restore.finished_oid === null || restore.status === 'completed') return false;
    const backup = await this.backups.get(restore.organization_id, restore.backup_id);
    return isRestored(await this.targets.resolve(backup, restore), restore.finished_oid);
  }

  complete(trx: Trx, runId: string): Promise<void> {
    return this.restores.complete(trx, runId);
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

  /** What restores left on this server that ended while it could not be reached. */
  private async dropLeftovers(target: RestoreTarget): Promise<void> {
    if (target.mode !== 'new-database') return;
    const isOver = async (runId: string) => hasEnded((await this.restores.findAnywhere(runId))?.status ?? 'unknown');
    await dropStagingOf(target.server, isOver).catch((error: unknown) =>
      this.logger.debug({ event: 'restore.leftovers-stay', err: error }, 'restore.leftovers-stay'),
    );
  }

  private async row(id: string): Promise<RestoreRow> {
    const row = await this.restores.findAnywhere(id);
    if (!row) throw new Error(`The restore ${id} has no row`);
    return row;
  }
}
