import { type BeforeApplicationShutdown, Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import { BackupTrash } from '../backups/backup-trash.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import { EventBus } from '../common/events/event-bus.js';
import type { RetentionEvent } from '../common/events/event-map.js';
import { Settings } from '../config/settings.js';
import { Outbox } from '../outbox/outbox.js';
import { chooseKept, type Decision } from './choose-kept.js';
import { toPolicy } from './retention-view.js';
import { RetentionRepository } from './retention.repository.js';

/** Removes what no policy keeps: after each backup, and by the clock. */
@Injectable()
export class RetentionRunner implements OnModuleInit, BeforeApplicationShutdown {
  private readonly logger = new Logger('retention');
  private working: Promise<void> = Promise.resolve();
  private readonly waiting = new Set<string>();
  private isStopped = false;

  constructor(
    private readonly retention: RetentionRepository,
    private readonly trash: BackupTrash,
    private readonly catalog: Catalog,
    private readonly settings: Settings,
    private readonly bus: EventBus,
    private readonly outbox: Outbox,
    private readonly cache: CacheService,
  ) {}

  onModuleInit(): void {
    this.bus.on('backup.completed', ({ organizationId }) => this.wake(organizationId));
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.isStopped = true;
    await this.working;
  }

  /** For what no backup has set off: days that went by, alerts that were closed, policies that were changed. */
  @Cron('37 * * * *')
  async runHourly(): Promise<void> {
    if (this.settings.role === 'api') return;
    for (const organizationId of await this.retention.organizationsWithPolicies()) this.wake(organizationId);
    await this.working;
  }

  /** Applies an organization's policies soon; many calls before it has begun are one. */
  private wake(organizationId: string): void {
    if (this.waiting.has(organizationId)) return;
    this.waiting.add(organizationId);
    this.working = this.working.then(async () => {
      this.waiting.delete(organizationId);
      if (this.isStopped) return;
      try {
        if ((await this.apply(organizationId)) > 0 && this.settings.trashDays === 0) await this.trash.empty();
      } catch (error) {
        this.logger.error({ event: 'retention.run-failed', organizationId, err: error }, 'retention.run-failed');
      }
    });
  }

  /** Moves to the trash what no policy keeps. @returns how many backups */
  async apply(organizationId: string, now = new Date()): Promise<number> {
    const removed = await this.catalog.transaction(async (trx) => {
      await this.retention.lock(trx, organizationId);
      await this.retention.noteNamed(trx, organizationId);
      const first = await this.choose(trx, organizationId, now);
      if (first.length === 0) return [];
      // Locked, and looked at again: somebody may have pinned one, or begun to restore from it, in between.
      await this.retention.lockBackups(
        trx,
        first.map(({ backupId }) => backupId),
      );
      const again = await this.choose(trx, organizationId, now);
      const locked = new Set(first.map(({ backupId }) => backupId));
      const backups: RetentionEvent['backups'] = [];
      for (const { backupId, rule, policy } of again) {
        if (!locked.has(backupId) || policy === null) continue;
        const row = await this.trash.moveByRule(trx, backupId, policy, rule);
        if (!row) continue;
        const source = row.source_id === null ? null : { id: row.source_id, name: row.source_name ?? '' };
        backups.push({ id: backupId, source, policy, rule });
      }
      if (backups.length > 0)
        await this.outbox.record(trx, { organizationId, type: 'retention.removed', subject: organizationId, data: { backups } });
      return backups;
    });
    if (removed.length === 0) return 0;
    await this.cache.invalidate(organizationId, ['backups']);
    this.bus.emit('retention.removed', { organizationId, backups: removed });
    return removed.length;
  }

  private async choose(trx: Trx, organizationId: string, now: Date): Promise<Decision[]> {
    const policies = (await this.retention.policies(trx, organizationId)).map(toPolicy);
    if (policies.length === 0) return [];
    const candidates = await this.retention.candidates(trx, organizationId);
    const heldSources = await this.retention.heldSources(trx, organizationId);
    return chooseKept(candidates, policies, { now, heldSources }).filter(({ kept }) => !kept);
  }
}
