import { Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { sql } from 'kysely';
import { AuditService } from '../audit/audit.service.js';
import { Catalog } from '../catalog/catalog.js';
import { Clock } from '../common/clock.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import { newId } from '../common/identifiers.js';
import { Installation } from '../installation/installation.js';
import { SourcesService } from '../sources/sources.service.js';
import { slotAfter } from './next-run.js';
import { DEFAULT_VERIFY_LEVEL } from './schedule.js';
import { SchedulesRepository } from './schedules.repository.js';

const DEFAULTS = [
  { name: 'daily-backup', cron: '0 2 * * *', action: 'backup', type: 'full' },
  { name: 'weekly-db-backup', cron: '0 3 * * 0', action: 'backup', type: 'database' },
  { name: 'hourly-status-check', cron: '0 * * * *', action: 'status-check', type: 'full' },
] as const;

/** Makes the usual schedules at the first start at which there is a source; once, so that those that were deleted stay deleted. */
@Injectable()
export class DefaultSchedules implements OnApplicationBootstrap {
  private readonly logger = new Logger('schedules');

  constructor(
    private readonly schedules: SchedulesRepository,
    private readonly catalog: Catalog,
    private readonly installation: Installation,
    private readonly sources: SourcesService,
    private readonly audit: AuditService,
    private readonly clock: Clock,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    const { defaultOrganizationId: organizationId } = this.installation;
    const [source] = await this.sources.all(organizationId, null);
    if (!source) return;
    await this.catalog.transaction(async (trx) => {
      const { rows } =
        await sql`UPDATE installation SET schedules_made_at = now() WHERE schedules_made_at IS NULL RETURNING id`.execute(trx);
      if (rows.length === 0) return;
      for (const { name, cron, action, type } of DEFAULTS) {
        if (await this.schedules.find(organizationId, name, trx)) continue;
        const id = newId('sched');
        const slot = slotAfter(cron, 'UTC', this.clock.now());
        await this.schedules.insert(trx, organizationId, id, {
          name,
          cron,
          action,
          type,
          source_id: action === 'backup' ? source.id : null,
          timezone: 'UTC',
          compress: true,
          label: null,
          tags: [],
          destinations: [],
          quorum: null,
          enabled: true,
          jitter_seconds: 0,
          missed_runs: 'run-once',
          overlap: 'skip',
          verify_level: DEFAULT_VERIFY_LEVEL,
          retention_policy: null,
          max_attempts: 1,
          retry_delay_seconds: 60,
          next_slot: slot,
          due_at: slot,
        });
        const resource = { kind: 'schedule', id };
        await this.audit.record(trx, {
          organizationId,
          actor: SYSTEM_ACTOR,
          action: 'schedule.created',
          resource,
          changes: { name, cron },
        });
      }
      this.logger.log({ event: 'schedules.made', source: source.name }, 'schedules.made');
    });
  }
}
