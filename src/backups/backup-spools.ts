import { Injectable, Logger } from '@nestjs/common';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Settings } from '../config/settings.js';
import { type Spool, SpoolBudget } from '../engine/spool/spool.js';
import { Installation } from '../installation/installation.js';
import { BackupsRepository } from './backups.repository.js';

/** Left to others on the disk of the spool, which is DATA_DIR's own unless SPOOL_DIR says otherwise. */
const LEAST_FREE_BYTES = 512 * 1024 * 1024;

/** The folders in which dumps wait for slow destinations, by attempt: `SPOOL_DIR/<installation>/<backup>.<attempt>`. */
@Injectable()
export class BackupSpools {
  private readonly logger = new Logger('backup');
  private readonly budget: SpoolBudget;

  constructor(
    private readonly settings: Settings,
    private readonly installation: Installation,
    private readonly backups: BackupsRepository,
  ) {
    this.budget = new SpoolBudget(settings.spoolMaxBytes);
  }

  /** Where an attempt spools; nobody else writes there. */
  of(backupId: string, attempt: number): Spool {
    return { folder: join(this.home, `${backupId}.${attempt}`), budget: this.budget, leastFreeBytes: LEAST_FREE_BYTES };
  }

  /** Removes what the attempts at a backup have left; none of them is at work. */
  async clear(backupId: string): Promise<void> {
    for (const name of await this.names()) if (name.startsWith(`${backupId}.`)) await this.remove(name);
  }

  /** Removes what attempts have left that nobody works on any more. Only ever of this installation. @returns how many folders */
  async sweep(): Promise<number> {
    let removed = 0;
    for (const name of await this.names()) {
      const [, backupId = '', attempt = ''] = /^(backup_[0-9a-z_-]+)\.(\d+)$/.exec(name) ?? [];
      if (backupId === '') continue;
      const row = await this.backups.findAnywhere(backupId);
      // The row is written before the folder is made.
      if (row?.status === 'running' && row.attempt === Number(attempt)) continue;
      await this.remove(name);
      removed += 1;
      this.logger.warn({ event: 'backup.spool-swept', backupId, attempt }, 'a spool that no run owns was removed');
    }
    return removed;
  }

  private remove(name: string): Promise<void> {
    return rm(join(this.home, name), { recursive: true, force: true });
  }

  private names(): Promise<string[]> {
    return readdir(this.home).catch(() => []);
  }

  private get home(): string {
    return join(this.settings.spoolDir, this.installation.id);
  }
}
