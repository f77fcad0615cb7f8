import { Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import { Settings } from '../config/settings.js';
import { Stores } from '../destinations/stores.js';
import type { ArtifactStore } from '../engine/store/artifact-store.js';
import { backupPrefix, MANIFEST_NAME, objectKey, parseKey } from '../engine/store/layout.js';
import { sweepTemporaryFolders } from '../engine/temporary-folder.js';
import { Installation } from '../installation/installation.js';
import { BackupSpools } from './backup-spools.js';
import { BackupsRepository } from './backups.repository.js';

/** What is younger may belong to a run that is just beginning. */
const SWEEP_MIN_AGE_MS = 3_600_000;

type Owner = 'run' | 'backup' | 'nobody';

/** Removes what no run owns. Only ever of this installation. */
@Injectable()
export class BackupSweeper implements OnApplicationBootstrap {
  private readonly logger = new Logger('backup');

  constructor(
    private readonly backups: BackupsRepository,
    private readonly spools: BackupSpools,
    private readonly stores: Stores,
    private readonly installation: Installation,
    private readonly settings: Settings,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    await Promise.all([sweepTemporaryFolders(), this.spools.sweep()]).catch((error: unknown) =>
      this.logger.warn({ event: 'backup.sweep-failed', err: error }, 'backup.sweep-failed'),
    );
  }

  @Cron('17 * * * *')
  async sweepHourly(): Promise<void> {
    if (this.settings.role === 'api') return;
    try {
      await this.spools.sweep();
      await this.sweep(SWEEP_MIN_AGE_MS);
    } catch (error) {
      this.logger.error({ event: 'backup.sweep-failed', err: error }, 'backup.sweep-failed');
    }
  }

  /**
   * Removes temporary files, and objects in folders without a manifest that no queued or running backup owns.
   * @returns how many objects were removed
   */
  async sweep(minAgeMs: number, now = Date.now()): Promise<number> {
    let removed = 0;
    for (const { id, store } of await this.stores.everywhere()) {
      try {
        removed += await this.sweepStore(store, minAgeMs, now);
      } catch (error) {
        // One that is away must not keep the others from being swept.
        this.logger.error({ event: 'backup.sweep-failed', destinationId: id, err: error }, 'backup.sweep-failed');
      }
    }
    return removed;
  }

  private async sweepStore(store: ArtifactStore, minAgeMs: number, now: number): Promise<number> {
    let removed = await store.removeStaleTemporaries(minAgeMs, this.installation.id);
    const owned = new Map<string, Owner>();
    for await (const object of store.list(this.installation.id)) {
      if (now - object.modifiedAt.getTime() < minAgeMs) continue;
      const parsed = parseKey(object.key);
      if (!parsed) continue;
      const prefix = backupPrefix(parsed);
      const owner = owned.get(prefix) ?? (await this.ownerOf(store, parsed.backup, prefix));
      owned.set(prefix, owner);
      // A backup that is made needs nothing of its attempts any more.
      if (owner === 'run' || (owner === 'backup' && parsed.attempt === null)) continue;
      await store.remove(object.key);
      removed += 1;
      this.logger.warn({ event: 'backup.swept', key: object.key, bytes: object.bytes }, 'an object that no run owns was removed');
    }
    return removed;
  }

  /**
   * A run that has not ended owns its folder, and so does a manifest: even one that the catalog does not know of may be adopted. What was said to
   * have failed is none, though its manifest is there: nobody could read it back then.
   */
  private async ownerOf(store: ArtifactStore, backupId: string, prefix: string): Promise<Owner> {
    const row = await this.backups.findAnywhere(backupId);
    if (row?.status === 'queued' || row?.status === 'running') return 'run';
    if (row?.status === 'completed') return 'backup';
    const manifest = objectKey(prefix, MANIFEST_NAME);
    if (row?.status === 'failed' || row?.status === 'canceled') {
      // First, so that nobody takes the rest for a backup.
      await store.remove(manifest);
      return 'nobody';
    }
    return (await store.stat(manifest)) === null ? 'nobody' : 'backup';
  }
}
