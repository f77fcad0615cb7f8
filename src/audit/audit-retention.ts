import { Injectable, Logger } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import { Catalog } from '../catalog/catalog.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import { Settings } from '../config/settings.js';
import { AuditRepository } from './audit.repository.js';
import { AuditService } from './audit.service.js';

const DAY_MS = 86_400_000;

/** Removes what is older than `AUDIT_RETENTION_DAYS`, and writes down that it did; the rest of the chain stays provable. */
@Injectable()
export class AuditRetention {
  private readonly logger = new Logger('audit');

  constructor(
    private readonly settings: Settings,
    private readonly entries: AuditRepository,
    private readonly audit: AuditService,
    private readonly catalog: Catalog,
  ) {}

  @Cron('23 4 * * *')
  async atNight(): Promise<void> {
    await this.run(new Date()).catch((err: unknown) => this.logger.error({ event: 'audit.retention-failed', err }));
  }

  /** @returns how many entries were removed */
  async run(now: Date): Promise<number> {
    const { auditRetentionDays: days } = this.settings;
    if (days === 0 || this.settings.role === 'worker') return 0;
    let removed = 0;
    for (const organizationId of await this.entries.organizations()) {
      removed += await this.catalog.transaction(async (trx) => {
        const count = await this.entries.removeBefore(trx, organizationId, new Date(now.getTime() - days * DAY_MS));
        if (count > 0)
          await this.audit.record(trx, {
            organizationId,
            actor: SYSTEM_ACTOR,
            action: 'audit.pruned',
            resource: { kind: 'audit', id: organizationId },
            changes: { removed: count, days },
          });
        return count;
      });
    }
    return removed;
  }
}
