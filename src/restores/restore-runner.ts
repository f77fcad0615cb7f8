import { Injectable, Logger } from '@nestjs/common';
import type { BackupRow } from '../backups/backups.repository.js';
import { toBackup } from '../backups/backup-view.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog, type Db, type Trx } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import type { Actor } from '../common/http/request-context.js';
import { endSessionsOf } from '../engine/backup.js';
import { cleanUpRestore, dropStagingOf, isRestored } from '../engine/restore-staging.js';
import { type RestoreTarget, serverOf } from '../engine/restore-target.js';
import type { RestoreOutcome, RestoreRequest } from '../engine/restore-request.js';
import { compareAfterCommit, restoreBackup } from '../engine/restore.js';
import type { HeldRun } from '../jobs/held-run.js';
import { type RunDescription, type RunHandler, RunHandlerOf } from '../jobs/run-handler.js';
import { durationMs } from '../jobs/run-view.js';
import { hasEnded } from '../jobs/run.js';
import { identityGone, LentIdentities } from '../keys/lent-identities.js';
import { RestorePlanner } from './restore-planner.js';
import { RestoreTargets } from './restore-targets.js';
import { toRestore } from './restore-view.js';
import { type RestoreRow, RestoresRepository } from './restores.repository.js';
import { SafetyBackups } from './safety-backups.js';
import { isOfStorage, StorageRestores } from './storage-restores.js';

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
    private readonly planner: RestorePlanner,
    private readonly safety: SafetyBackups,
    private readonly lent: LentIdentities,
    private readonly cache: CacheService,
    private readonly storage: StorageRestores,
  ) {}

  async run(run: HeldRun): Promise<void> {
    const restore = await this.row(run.id);
    const backup = await this.backups.get(restore.organization_id, restore.backup_id);
    if (isOfStorage(restore)) return this.runStorage(run, restore, backup);
    const target = await this.targets.resolve(backup, restore);
    const lent = await this.lent.take(run.id);
    const request = await this.requestOf(run, restore, backup, target, lent.identities);
    if (run.attempt > 1) {
      // First nobody works on it any more, then it can be told whether it was done.
      await endSessionsOf(serverOf(target), run.id);
      if (await isRestored(target, notedOf(restore))) return this.finish(run, await this.lookAgain(restore, request));
      await cleanUpRestore(run.id, target);
    }
    if (lent.isGone) throw identityGone();
    await this.dropLeftovers(target);
    if (target.mode === 'in-place') await this.safety.ensure(run, restore);
    await this.finish(run, await restoreBackup(request));
  }

  /** Whatever a dead attempt has put there is what this one puts there again. */
  private async runStorage(run: HeldRun, restore: RestoreRow, backup: BackupRow): Promise<void> {
    const lent = await this.lent.take(run.id);
    if (lent.isGone) throw identityGone();
    if (restore.target.mode === 'in-place') await this.safety.ensure(run, restore);
    await this.finish(run, await this.storage.run(run, restore, backup, lent.identities));
  }

  private async requestOf(
    run: HeldRun,
    restore: RestoreRow,
    backup: BackupRow,
    target: RestoreTarget,
    lent: readonly string[],
  ): Promise<RestoreRequest> {
    const { selection, createRoles, continueOnErrors = false, jobs, keepPreviousHours } = restore.target;
    const fenced = (work: (trx: Trx) => Promise<void>) =>
      this.catalog.transaction(async (trx) => {
        await run.fence(trx);
        await work(trx);
      });
    const lockTimeoutMs = await this.targets.lockTimeoutMs(backup);
    return {
      ...(await this.planner.archiveOf(backup, run.signal, lent)),
      ...(lockTimeoutMs === undefined ? {} : { lockTimeoutMs }),
      runId: run.id,
      target,
      selection,
      createRoles,
      continueOnErrors,
      jobs,
      attempt: run.attempt,
      onProgress: (progress) => run.report(progress),
      beforeChange: () => fenced(async () => undefined),
      onFinished: (finished) =>
        fenced(async (trx) => {
          await this.restores.recordOutcome(trx, run.id, finished);
          await this.restores.recordFinished(trx, run.id, finished.databaseOid, finished.previous, keepPreviousHours);
        }),
      onCommitting: (transactionId) => fenced((trx) => this.restores.recordTransaction(trx, run.id, transactionId)),
    };
  }

  /** What a dead attempt found, it has noted, unless it died between its commit and the look. */
  private async lookAgain(restore: RestoreRow, request: RestoreRequest): Promise<RestoreOutcome | undefined> {
    if (restore.counts_equal !== null) return undefined;
    return compareAfterCommit(request).catch((error: unknown) => {
      this.logger.warn({ event: 'restore.not-compared', runId: restore.id, err: error }, 'restore.not-compared');
      return undefined;
    });
  }

  /** Without an outcome, what a dead attempt had found stays. */
  private async finish(run: HeldRun, outcome?: RestoreOutcome): Promise<void> {
    await this.catalog.transaction(async (trx) => {
      await run.fence(trx);
      if (outcome) await this.restores.recordOutcome(trx, run.id, outcome);
      await this.restores.complete(trx, run.id);
      await run.completed(trx);
    });
    await this.lent.forget(run.id);
    await this.cache.invalidate(run.organizationId, ['restores']);
  }

  async isDone(runId: string): Promise<boolean> {
    const restore = await this.restores.findAnywhere(runId);
    if (!restore || restore.status === 'completed' || (restore.finished_oid === null && restore.transaction_id === null))
      return false;
    const backup = await this.backups.get(restore.organization_id, restore.backup_id);
    return isRestored(await this.targets.resolve(backup, restore), notedOf(restore));
  }

  complete(trx: Trx, runId: string): Promise<void> {
    return this.restores.complete(trx, runId);
  }

  async cleanUp(runId: string): Promise<void> {
    const restore = await this.restores.findAnywhere(runId);
    if (!restore) return;
    await this.cache.invalidate(restore.organization_id, ['restores']);
    if (isOfStorage(restore)) return;
    const backup = await this.backups.get(restore.organization_id, restore.backup_id);
    await cleanUpRestore(runId, await this.targets.resolve(backup, restore));
  }

  async describe(runId: string, db?: Db | Trx): Promise<RunDescription> {
    const row = await this.row(runId, db);
    const { mode, host, port, database } = row.target;
    const backup = await this.backups.get(row.organization_id, row.backup_id, db);
    const source = backup.source_id === null ? null : { id: backup.source_id, name: backup.source_name ?? '' };
    return {
      organizationId: row.organization_id,
      backupId: row.backup_id,
      source,
      attempt: row.attempt,
      durationMs: durationMs(row),
      ...(row.requested_by ? { actor: row.requested_by as Actor } : {}),
      target: { mode, host, port, database },
      data: { restore: toRestore(row), backup: toBackup(backup) },
    };
  }

  /** What restores left on this server that ended while it could not be reached. */
  private async dropLeftovers(target: RestoreTarget): Promise<void> {
    if (!('server' in target)) return;
    const isOver = async (runId: string) => hasEnded((await this.restores.findAnywhere(runId))?.status ?? 'unknown');
    await dropStagingOf(target.server, isOver).catch((error: unknown) =>
      this.logger.debug({ event: 'restore.leftovers-stay', err: error }, 'restore.leftovers-stay'),
    );
  }

  private async row(id: string, db?: Db | Trx): Promise<RestoreRow> {
    const row = await this.restores.findAnywhere(id, db);
    if (!row) throw new Error(`The restore ${id} has no row`);
    return row;
  }
}

function notedOf(restore: RestoreRow): { finishedOid: number | null; transactionId: string | null } {
  return { finishedOid: restore.finished_oid, transactionId: restore.transaction_id };
}
