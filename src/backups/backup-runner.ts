import { Injectable, Logger } from '@nestjs/common';
import { randomBytes } from 'node:crypto';
import { AlertsService } from '../alerts/alerts.service.js';
import { Catalog, type Db, type Trx } from '../catalog/catalog.js';
import type { RunErrorColumn } from '../catalog/tables.js';
import { CacheService } from '../common/cache/cache.service.js';
import { Settings } from '../config/settings.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import type { OpenDestination } from '../destinations/stores.js';
import {
  type BackupRequest,
  commitManifest,
  endSessionsOf,
  placeArtifacts,
  type StagedBackup,
  stageBackup,
} from '../engine/backup.js';
import type { ArtifactStore } from '../engine/store/artifact-store.js';
import { loadManifest } from '../engine/artifact/load-manifest.js';
import { EngineError } from '../engine/errors.js';
import { TeeStore } from '../engine/store/tee-store.js';
import { type BackupIds, MANIFEST_NAME, objectKey } from '../engine/store/layout.js';
import { Installation } from '../installation/installation.js';
import { HeldRun } from '../jobs/held-run.js';
import { toRunError } from '../jobs/run-error.js';
import { type RunDescription, type RunHandler, RunHandlerOf } from '../jobs/run-handler.js';
import { durationMs } from '../jobs/run-view.js';
import { Keyring } from '../keys/keyring.js';
import { ServerKeys } from '../keys/server-keys.js';
import { SourceTester } from '../sources/source-tester.js';
import { exclusionsOf } from '../sources/source-values.js';
import type { SourceRow } from '../sources/sources.repository.js';
import { SourcesService } from '../sources/sources.service.js';
import { VERSION } from '../version.js';
import { BackupSpools } from './backup-spools.js';
import { toBackup } from './backup-view.js';
import { type BackupRow, BackupsRepository } from './backups.repository.js';

/** Makes the backups that were queued. */
@Injectable()
@RunHandlerOf('backup')
export class BackupRunner implements RunHandler {
  private readonly logger = new Logger('backup');

  constructor(
    private readonly backups: BackupsRepository,
    private readonly catalog: Catalog,
    private readonly sources: SourcesService,
    private readonly tester: SourceTester,
    private readonly copies: BackupCopies,
    private readonly keys: ServerKeys,
    private readonly keyring: Keyring,
    private readonly installation: Installation,
    private readonly settings: Settings,
    private readonly cache: CacheService,
    private readonly alerts: AlertsService,
    private readonly spools: BackupSpools,
  ) {}

  async run(run: HeldRun): Promise<void> {
    const backup = await this.row(run.id);
    if (await this.completeFromManifest(run, backup)) return;
    // What an attempt that died has left is nobody's: this worker holds the run.
    const tee = await this.openDestinations(run, backup);
    if (run.attempt > 1) {
      await this.endSessions(backup);
      await this.backups.forgetWarnings(run.id);
    }
    const source = await this.sources.get(backup.organization_id, backup.source_id ?? '');
    const warned: Promise<void>[] = [];
    const request = await this.requestOf(run, backup, source, tee);
    const onWarning = (warning: string) => void warned.push(this.warn(run, warning));
    const staged = await stageBackup({ ...request, onWarning }).finally(() => Promise.all(warned));
    await this.tester.noteServerVersion(source, staged.manifest.source.serverVersion);
    await this.catalog.transaction(async (trx) => {
      await run.fence(trx);
      await this.backups.recordContents(trx, run.id, contentsOf(staged));
    });
    await this.commit(run, staged, tee);
    await this.cache.invalidate(run.organizationId, ['backups']);
  }

  async cleanUp(runId: string): Promise<void> {
    const backup = await this.backups.findAnywhere(runId);
    if (!backup) return;
    await this.cache.invalidate(backup.organization_id, ['backups']);
    await this.spools.clear(runId);
    // With a manifest in place the run is about to be completed, not cleared away.
    if (backup.status === 'completed' || (await this.storedManifest(backup))) return;
    await this.clearDestinations(backup);
    if (backup.manifest_sha256 !== null) await this.catalog.transaction((trx) => this.backups.forgetContents(trx, runId));
    await this.endSessions(backup);
  }

  async isDone(runId: string): Promise<boolean> {
    const backup = await this.backups.findAnywhere(runId);
    return backup !== undefined && backup.status !== 'completed' && this.storedManifest(backup);
  }

  async complete(trx: Trx, runId: string): Promise<void> {
    await this.backups.complete(trx, runId);
    await this.alerts.observe(trx, runId);
  }

  async describe(runId: string, db?: Db | Trx): Promise<RunDescription> {
    const row = await this.row(runId, db);
    const source = row.source_id === null ? null : { id: row.source_id, name: row.source_name ?? '' };
    return {
      organizationId: row.organization_id,
      backupId: row.id,
      source,
      attempt: row.attempt,
      durationMs: durationMs(row),
      data: { backup: toBackup(row) },
    };
  }

  private async commit(run: HeldRun, staged: StagedBackup, tee: TeeStore): Promise<void> {
    try {
      // A bucket copies what it places, and any store may be slow: no transaction waits for it. A worker that lost the run puts nothing into place.
      await run.alone(async () => {
        await this.atEach(run, tee, (store) => placeArtifacts(staged, store, run.signal));
        await this.atEach(run, tee, (store) => commitManifest(staged, store, this.keys.verifyingKeyPems, run.signal));
      });
      await this.catalog.transaction(async (trx) => {
        await run.fence(trx);
        await this.copies.settle(trx, run.id, errorsOf(tee));
        await this.complete(trx, run.id);
        await run.completed(trx);
      });
    } catch (error) {
      // With the manifest in place the backup is made, whatever went wrong while saying so.
      if (!(await this.completeFromManifest(run, await this.row(run.id)))) throw error;
    }
  }

  /** An attempt that died after its manifest was written did everything but say so. */
  private async completeFromManifest(run: HeldRun, backup: BackupRow): Promise<boolean> {
    if (!(await this.storedManifest(backup))) return false;
    const missing = await this.missingCopies(backup);
    await this.catalog.transaction(async (trx) => {
      await run.fence(trx);
      await this.copies.settle(trx, backup.id, missing);
      await this.complete(trx, run.id);
      await run.completed(trx);
    });
    await this.cache.invalidate(run.organizationId, ['backups']);
    this.logger.log(
      { event: 'backup.completed-from-manifest', runId: run.id },
      'the manifest of an earlier attempt was in place',
    );
    return true;
  }

  /** Makes each destination ready; one that can't be is left out, as long as the quorum can be met without it. */
  private async openDestinations(run: HeldRun, backup: BackupRow): Promise<TeeStore> {
    const destinations = await this.copies.destinationsOf(backup.id);
    const tee = new TeeStore(destinations, backup.quorum ?? destinations.length);
    await Promise.all(
      destinations.map(async ({ id, store }) => {
        try {
          await store.removeTree(backup.prefix, { signal: run.signal });
        } catch (error) {
          run.signal.throwIfAborted();
          tee.leaveOut(id, error);
        }
      }),
    );
    return tee;
  }

  /** At each destination that holds the artifacts: one that fails now is left out, as long as the quorum is met. */
  private async atEach(run: HeldRun, tee: TeeStore, work: (store: ArtifactStore) => Promise<void>): Promise<void> {
    await Promise.all(
      tee.alive.map(async ({ id, store }) => {
        try {
          await work(store);
        } catch (error) {
          run.signal.throwIfAborted();
          tee.leaveOut(id, error);
        }
      }),
    );
  }

  /** Whether the very manifest that the catalog knows of lies at as many destinations as the quorum asks for. */
  private async storedManifest(backup: BackupRow): Promise<boolean> {
    if (backup.manifest_sha256 === null) return false;
    const destinations = await this.copies.destinationsOf(backup.id);
    const found = await Promise.allSettled(destinations.map((destination) => this.holdsManifest(destination, backup)));
    const held = found.filter((each) => each.status === 'fulfilled' && each.value).length;
    if (held >= (backup.quorum ?? destinations.length)) return true;
    // Where nobody could look, it may lie.
    for (const each of found) if (each.status === 'rejected') throw each.reason;
    return false;
  }

  private async holdsManifest({ store }: OpenDestination, backup: BackupRow): Promise<boolean> {
    try {
      const { sha256 } = await loadManifest(store, backup.prefix, this.keys.verifyingKeyPems, { backup: backup.id });
      return sha256 === backup.manifest_sha256;
    } catch (error) {
      if (error instanceof EngineError && ['OBJECT_MISSING', 'SIGNATURE_INVALID', 'MANIFEST_CORRUPT'].includes(error.code))
        return false;
      throw error;
    }
  }

  /** Copies that lack the manifest, though the backup is completed, are repaired. */
  private async missingCopies(backup: BackupRow): Promise<Map<string, RunErrorColumn>> {
    const failures = new Map<string, RunErrorColumn>();
    for (const destination of await this.copies.destinationsOf(backup.id))
      if (!(await this.holdsManifest(destination, backup).catch(() => false))) failures.set(destination.id, NOT_COMMITTED);
    return failures;
  }

  /** What can't be cleared away now, since its destination is away, is swept. */
  private async clearDestinations(backup: BackupRow): Promise<void> {
    const results = await Promise.allSettled(
      (await this.copies.destinationsOf(backup.id)).map(async ({ store }) => {
        await store.remove(objectKey(backup.prefix, MANIFEST_NAME));
        await store.removeTree(backup.prefix);
      }),
    );
    const failed = results.find((each) => each.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** A pg_dump that outlived its server may be waiting for a lock, or hold one. Where the source can't be reached, it ends by itself. */
  private async endSessions(backup: BackupRow): Promise<void> {
    try {
      const source = await this.sources.get(backup.organization_id, backup.source_id ?? '');
      await endSessionsOf(this.sources.connectionOf(source), backup.id);
    } catch (error) {
      this.logger.debug({ event: 'backup.sessions-not-ended', runId: backup.id, err: error }, 'backup.sessions-not-ended');
    }
  }

  /** While the run goes on: whoever looks at it sees it at once. */
  private async warn(run: HeldRun, warning: string): Promise<void> {
    this.logger.warn({ event: 'backup.warned', runId: run.id, warning }, warning);
    try {
      await this.backups.addWarning(run.id, run.attempt, warning);
      await this.cache.invalidate(run.organizationId, ['backups']);
    } catch (error) {
      this.logger.error({ event: 'backup.warning-not-kept', runId: run.id, err: error }, 'backup.warning-not-kept');
    }
  }

  private async requestOf(
    run: HeldRun,
    backup: BackupRow,
    source: SourceRow,
    tee: TeeStore,
  ): Promise<Omit<BackupRequest, 'onWarning'>> {
    const connection = this.sources.connectionOf(source);
    await this.tester.refuseCatalog(connection, run.signal);
    const { schemas, tables } = exclusionsOf(source.options);
    const storage = this.sources.storageOf(source);
    return {
      ids: this.idsOf(backup),
      attempt: `${run.attempt}-${randomBytes(4).toString('hex')}`,
      source: {
        name: source.name,
        connection,
        excludeSchemas: schemas,
        excludeTables: tables,
        lockTimeoutMs: source.options.lockTimeoutMs,
        statementTimeoutMs: source.options.statementTimeoutMs,
        maxRunMs: source.options.maxRunMs,
        configPaths: source.options.configPaths,
        ...(storage ? { storage: { access: storage, excludeBuckets: source.options.excludeBuckets ?? [] } } : {}),
      },
      type: backup.type as BackupRequest['type'],
      components: backup.components as BackupRequest['components'],
      compress: backup.compress,
      includePasswords: backup.include_passwords ?? false,
      configRoots: this.settings.configRoots,
      programs: { binDirs: this.settings.pgBinDirs, requirePatched: this.settings.pgRequirePatched },
      store: tee,
      ...(source.options.spool ? { spool: this.spools.of(run.id, run.attempt) } : {}),
      snapshotWarningMs: this.settings.snapshotWarningSeconds * 1000,
      recipients: await this.keyring.recipientsFor(backup.organization_id, source.options.recipients),
      signingKeyPem: this.keys.signingKeyPem,
      previousManifestSha256: await this.backups.previousManifest(source.id),
      backstayVersion: VERSION,
      signal: run.signal,
      onProgress: (progress) => run.report(progress),
    };
  }

  private idsOf(backup: BackupRow): BackupIds {
    return {
      installation: this.installation.id,
      organization: backup.organization_id,
      source: backup.source_id ?? '',
      backup: backup.id,
    };
  }

  private async row(id: string, db?: Db | Trx): Promise<BackupRow> {
    const row = await this.backups.findAnywhere(id, db);
    if (!row) throw new Error(`The backup ${id} has no row`);
    return row;
  }
}

const NOT_COMMITTED: RunErrorColumn = {
  code: 'INTERRUPTED',
  message: 'The server ended before the backup was whole at this destination.',
  hint: 'It is copied from another destination later.',
};

/** Why each destination that was left out was. */
function errorsOf(tee: TeeStore): Map<string, RunErrorColumn> {
  return new Map([...tee.failures].map(([id, error]) => [id, toRunError(error)]));
}

function contentsOf(staged: StagedBackup): Parameters<BackupsRepository['recordContents']>[2] {
  const { manifest } = staged;
  return {
    artifacts: manifest.artifacts,
    tables: staged.tables,
    serverVersion: manifest.source.serverVersion,
    omissions: manifest.omissions,
    largeObjects: manifest.largeObjects,
    storage: manifest.storage,
    manifestSha256: staged.manifestSha256,
    previousManifestSha256: manifest.previousManifestSha256,
    recipients: manifest.recipients,
  };
}
