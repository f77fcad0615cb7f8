import { Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import { AuditService } from '../audit/audit.service.js';
import { Catalog } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import { Settings } from '../config/settings.js';
import { ArtifactStore } from '../engine/store/artifact-store.js';
import { backupPrefix, MANIFEST_NAME, objectKey, parseKey } from '../engine/store/layout.js';
import { sweepTemporaryFolders } from '../engine/temporary-folder.js';
import { Installation } from '../installation/installation.js';
import { type BackupRow, BackupsRepository } from './backups.repository.js';

/** What is younger may belong to a run that is just beginning. */
const SWEEP_MIN_AGE_MS = 3_600_000;

type Owner = 'run' | 'backup' | 'nobody';

/** Removes what no run owns, and backups whose time in the trash is over. Only ever of this installation. */
@Injectable()
export class BackupSweeper implements OnApplicationBootstrap {
  private readonly logger = new Logger('backup');

  constructor(
    private readonly backups: BackupsRepository,
    private readonly catalog: Catalog,
    private readonly store: ArtifactStore,
    private readonly installation: Installation,
    private readonly settings: Settings,
    private readonly audit: AuditService,
    private readonly cache: CacheService,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    await sweepTemporaryFolders().catch((error: unknown) =>
      this.logger.warn({ event: 'backup.sweep-failed', err: error }, 'backup.sweep-failed'),
    );
  }

  @Cron('17 * * * *')
  async sweepHourly(): Promise<void> {
    if (this.settings.role === 'api') return;
    try {
      await this.sweep(SWEEP_MIN_AGE_MS);
      await this.emptyTrash();
    } catch (error) {
      this.logger.error({ event: 'backup.sweep-failed', err: error }, 'backup.sweep-failed');
    }
  }

  /**
   * Removes temporary files, and objects in folders without a manifest that no queued or running backup owns.
   * @returns how many objects were removed
   */
  async sweep(minAgeMs: number, now = Date.now()): Promise<number> {
    let removed = await this.store.removeStaleTemporaries(minAgeMs, this.installation.id);
    const owned = new Map<string, Owner>();
    for await (const object of this.store.list(this.installation.id)) {
      if (now - object.modifiedAt.getTime() < minAgeMs) continue;
      const parsed = parseKey(object.key);
      if (!parsed) continue;
      const prefix = backupPrefix(parsed);
      const owner = owned.get(prefix) ?? (await this.ownerOf(parsed.backup, prefix));
      owned.set(prefix, owner);
      // A backup that is made needs nothing of its attempts any more.
      if (owner === 'run' || (owner === 'backup' && parsed.attempt === null)) continue;
      await this.store.remove(object.key);
      removed += 1;
      this.logger.warn({ event: 'backup.swept', key: object.key, bytes: object.bytes }, 'an object that no run owns was removed');
    }
    return removed;
  }

  /** Removes the backups whose time in the trash is over; goes on past one that can't be removed. */
  async emptyTrash(): Promise<void> {
    for (const backup of await this.backups.findPurgeable(this.settings.trashDays)) {
      try {
        await this.purge(backup);
      } catch (error) {
        this.logger.error({ event: 'backup.purge-failed', backupId: backup.id, err: error }, 'backup.purge-failed');
      }
    }
  }

  /** Marked first, then the manifest goes, then the rest, then the row: after a crash anywhere it is finished later. */
  private async purge(backup: BackupRow): Promise<void> {
    if (!(await this.catalog.transaction((trx) => this.backups.beginPurge(trx, backup.id)))) return;
    await this.store.remove(objectKey(backup.prefix, MANIFEST_NAME));
    await this.store.removeTree(backup.prefix);
    await this.catalog.transaction(async (trx) => {
      await this.backups.remove(trx, backup.id);
      await this.audit.record(trx, {
        organizationId: backup.organization_id,
        actor: SYSTEM_ACTOR,
        action: 'backup.purged',
        resource: { kind: 'backup', id: backup.id },
        changes: { rule: `TRASH_DAYS ${this.settings.trashDays}` },
      });
    });
    await this.cache.invalidate(backup.organization_id, ['backups']);
  }

  /** A run that has not ended owns its folder, and so does a manifest: even one that the catalog does not know of may be adopted. */
  private async ownerOf(backupId: string, prefix: string): Promise<Owner> {
    const row = await this.backups.findAnywhere(backupId);
    if (row?.status === 'queued' || row?.status === 'running') return 'run';
    if (row?.status === 'completed') return 'backup';
    return (await this.store.stat(objectKey(prefix, MANIFEST_NAME))) === null ? 'nobody' : 'backup';
  }
}
