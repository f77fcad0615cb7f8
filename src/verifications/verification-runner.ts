import { Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { BackupArchives } from '../backups/backup-archives.js';
import { toBackup } from '../backups/backup-view.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog, type Db, type Trx } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import { Settings } from '../config/settings.js';
import type { DrillOutcome } from '../engine/drill.js';
import { sweepScratch } from '../engine/drill-scratch.js';
import { sweepThrowawayClusters } from '../engine/postgres/cluster-folder.js';
import { parsePostgresUrl, type PgConnection } from '../engine/postgres/connection.js';
import { type Check, verifyBackup } from '../engine/verify.js';
import type { HeldRun } from '../jobs/held-run.js';
import { type RunDescription, type RunHandler, RunHandlerOf } from '../jobs/run-handler.js';
import { durationMs } from '../jobs/run-view.js';
import { identityGone, LentIdentities } from '../keys/lent-identities.js';
import { SourcesService } from '../sources/sources.service.js';
import { DrillTurns } from './drill-turns.js';
import { toVerification } from './verification-view.js';
import { type VerificationRow, VerificationsRepository } from './verifications.repository.js';

/** Does the verifications that were queued. */
@Injectable()
@RunHandlerOf('verification')
export class VerificationRunner implements RunHandler, OnApplicationBootstrap {
  private readonly logger = new Logger('verification');

  constructor(
    private readonly verifications: VerificationsRepository,
    private readonly backups: BackupsService,
    private readonly catalog: Catalog,
    private readonly archives: BackupArchives,
    private readonly lent: LentIdentities,
    private readonly cache: CacheService,
    private readonly sources: SourcesService,
    private readonly settings: Settings,
    private readonly turns: DrillTurns,
  ) {}

  async run(run: HeldRun): Promise<void> {
    const verification = await this.row(run.id);
    const backup = await this.backups.get(verification.organization_id, verification.backup_id);
    const lent = await this.lent.take(run.id);
    if (lent.isGone) throw identityGone();
    const { source, copy } = await this.archives.of(backup, run.signal, lent.identities);
    const { provenLevel, checks, failure, impossible, drill } = await verifyBackup({
      ...source,
      runId: run.id,
      level: verification.requested_level,
      ...this.scratch(),
      drillLimits: { diskBytes: this.settings.drillDiskLimitBytes, memoryBytes: this.settings.drillMemoryLimitBytes },
      drillInTurn: (drill) => this.turns.take(run.signal, drill),
      assertions: await this.sources.assertionsOf(backup.organization_id, backup.source_id),
      onProgress: (progress) => run.report(progress),
    });
    await this.catalog.transaction(async (trx) => {
      await run.fence(trx);
      const seen = [...(copy.only ? [] : [copyCheck(copy.name)]), ...checks];
      await this.verifications.recordChecks(trx, run.id, provenLevel, seen, drill && evidenceOf(drill));
      if (failure) await this.verifications.recordBroken(trx, backup.id, failure);
      else {
        await this.verifications.recordProof(trx, backup.id, provenLevel ?? 0);
        if (impossible) return;
        await this.verifications.complete(trx, run.id);
        await run.completed(trx);
      }
    });
    await this.lent.forget(run.id);
    await this.cache.invalidate(run.organizationId, ['verifications', 'backups']);
    // The checks and the verdict are written; the run itself ends as failed, with the cause.
    if (failure ?? impossible) throw failure ?? impossible;
  }

  async isDone(): Promise<boolean> {
    return false;
  }

  complete(trx: Trx, runId: string): Promise<void> {
    return this.verifications.complete(trx, runId);
  }

  /** A verification only reads, but its drill may have left something. */
  async cleanUp(): Promise<void> {
    await this.sweep();
  }

  /** What servers that were killed have left of their drills goes at the next start. */
  onApplicationBootstrap(): void {
    if (this.settings.role !== 'api') void this.sweep();
  }

  private async sweep(): Promise<void> {
    try {
      await sweepThrowawayClusters();
      const { scratch } = this.scratch();
      if (scratch) await sweepScratch(scratch);
    } catch (error) {
      this.logger.warn({ event: 'verification.not-swept', err: error }, 'verification.not-swept');
    }
  }

  private scratch(): { scratch?: PgConnection } {
    const url = this.settings.drillDatabaseUrl;
    return url === undefined ? {} : { scratch: parsePostgresUrl(url, { allowUnixSockets: true }) };
  }

  async describe(runId: string, db?: Db | Trx): Promise<RunDescription> {
    const row = await this.row(runId, db);
    const backup = await this.backups.get(row.organization_id, row.backup_id, db);
    const source = backup.source_id === null ? null : { id: backup.source_id, name: backup.source_name ?? '' };
    return {
      organizationId: row.organization_id,
      backupId: row.backup_id,
      source,
      attempt: row.attempt,
      durationMs: durationMs(row),
      data: { verification: toVerification(row), backup: toBackup(backup) },
    };
  }

  private async row(id: string, db?: Db | Trx): Promise<VerificationRow> {
    const row = await this.verifications.findAnywhere(id, db);
    if (!row) throw new Error(`The verification ${id} has no row`);
    return row;
  }
}

/** What the certificate tells of a drill. */
function evidenceOf({ serverVersion, restoreMs, tables, rows, isolation, leftOut, skipped, warnings }: DrillOutcome): object {
  return { serverVersion, restoreMs, tables, rows, isolation, leftOut, skipped, warnings };
}

/** Which of the copies was looked at. */
function copyCheck(destination: string): Check {
  return { level: 0, name: 'copy', ok: true, detail: `The copy at the destination ${destination} was read.` };
}
