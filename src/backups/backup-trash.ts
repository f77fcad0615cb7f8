import { type BeforeApplicationShutdown, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import { AuditService } from '../audit/audit.service.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import { Settings } from '../config/settings.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import type { BackupRow } from './backups.repository.js';
import { type PurgeState, TrashRepository } from './trash.repository.js';

const PER_STEP = 100;
const ERROR_LENGTH = 500;
/** What became of removed backups is kept as long, for reports. */
const HISTORY_YEARS = 3;

/** Where backups lie that are thrown away, and how they leave it for good. */
@Injectable()
export class BackupTrash implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('backup');
  private emptying: Promise<void> = Promise.resolve();
  private isStopped = false;

  constructor(
    private readonly trash: TrashRepository,
    private readonly catalog: Catalog,
    private readonly copies: BackupCopies,
    private readonly settings: Settings,
    private readonly audit: AuditService,
    private readonly cache: CacheService,
  ) {}

  /** What a crash has cut off is finished at once. */
  onApplicationBootstrap(): void {
    if (this.settings.role !== 'api') void this.empty(true);
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.isStopped = true;
    await this.emptying;
  }

  /** Moves a backup there, and writes down by which rule. @returns the row, when it was there to be moved */
  async moveByRule(trx: Trx, id: string, policy: string, rule: string): Promise<BackupRow | undefined> {
    const backup = await this.trash.moveByRule(trx, id, policy, rule);
    if (!backup) return undefined;
    await this.audit.record(trx, {
      organizationId: backup.organization_id,
      actor: SYSTEM_ACTOR,
      action: 'backup.deleted',
      resource: { kind: 'backup', id },
      changes: { policy, rule, source: backup.source_name, createdAt: backup.created_at.toISOString() },
    });
    return backup;
  }

  /** How many removals have begun and not ended, and whether something stands in their way. */
  purgeState(): Promise<PurgeState> {
    return this.trash.purgeState();
  }

  @Cron('17 * * * *')
  async emptyHourly(): Promise<void> {
    if (this.settings.role !== 'api') await this.empty();
  }

  @Cron('41 3 * * *')
  async pruneHistory(): Promise<void> {
    if (this.settings.role !== 'api') await this.trash.pruneHistory(HISTORY_YEARS);
  }

  /** Removes the backups whose time in the trash is over; goes on past one that can't be removed. One round at a time. */
  empty(onlyBegun = false): Promise<void> {
    this.emptying = this.emptying
      .then(() => this.emptyAll(onlyBegun))
      .catch((error: unknown) => this.logger.error({ event: 'backup.purge-failed', err: error }, 'backup.purge-failed'));
    return this.emptying;
  }

  private async emptyAll(onlyBegun: boolean): Promise<void> {
    let last: string | undefined = '';
    do {
      const page = await this.trash.findPurgeable(this.settings.trashDays, onlyBegun, last, PER_STEP);
      last = page.length === PER_STEP ? page.at(-1)?.id : undefined;
      for (const backup of page) {
        if (this.isStopped) return;
        await this.purgeOrNote(backup);
      }
    } while (last !== undefined);
    await this.trash.forgetDestinations();
  }

  private async purgeOrNote(backup: BackupRow): Promise<void> {
    try {
      await this.purge(backup);
    } catch (error) {
      this.logger.error({ event: 'backup.purge-failed', backupId: backup.id, err: error }, 'backup.purge-failed');
      const message = error instanceof Error ? error.message : String(error);
      await this.trash.recordFailure(backup.id, message.slice(0, ERROR_LENGTH));
    }
  }

  /** Marked first, then the manifest goes, then the rest, then the row: after a crash anywhere it is finished later. */
  private async purge(backup: BackupRow): Promise<void> {
    // A lock that the catalog does not know of, since somebody else has set or lengthened it.
    if (backup.purge_started_at === null && backup.origin !== 'external') await this.copies.noteLocks(backup);
    if (!(await this.catalog.transaction((trx) => this.trash.beginPurge(trx, backup.id)))) return;
    // Nothing of one that was made elsewhere is ours.
    if (backup.origin !== 'external') await this.copies.remove(backup);
    await this.catalog.transaction(async (trx) => {
      if (!(await this.trash.forget(trx, backup.id))) return;
      const { removal_policy: policy, removal_rule: rule } = backup;
      const trashDays = this.settings.trashDays;
      await this.audit.record(trx, {
        organizationId: backup.organization_id,
        actor: SYSTEM_ACTOR,
        action: 'backup.purged',
        resource: { kind: 'backup', id: backup.id },
        changes: { rule: `TRASH_DAYS ${trashDays}`, ...(rule === null ? {} : { removedBy: { policy, rule } }) },
      });
    });
    await this.cache.invalidate(backup.organization_id, ['backups']);
  }
}
