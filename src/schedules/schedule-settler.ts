import { Injectable, Logger } from '@nestjs/common';
import type { BackupType } from '../backups/backup.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { Clock } from '../common/clock.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import { newId } from '../common/identifiers.js';
import type { QueuedRun } from '../jobs/run-events.js';
import { VerificationsService } from '../verifications/verifications.service.js';
import { DueRepository, type EndedRun } from './due.repository.js';
import { retryDelaySeconds } from './schedule.js';
import { StatusChecks } from './status-checks.js';
import type { ScheduleRow, ScheduleRunRow } from './schedules.repository.js';

const PER_STEP = 200;
/** A status check takes less; one that was cut off is made again after that. */
const CHECK_LEASE_MS = 300_000;

/** What follows a run: its status, a verification, another try. Each is written with what it follows from. */
@Injectable()
export class ScheduleSettler {
  private readonly logger = new Logger('schedules');

  constructor(
    private readonly due: DueRepository,
    private readonly catalog: Catalog,
    private readonly backups: BackupsService,
    private readonly verifications: VerificationsService,
    private readonly checks: StatusChecks,
    private readonly clock: Clock,
  ) {}

  /** Settles all that has ended, then begins what was waiting. */
  async settle(isStopped: () => boolean): Promise<void> {
    while (!isStopped() && (await this.settleEnded()) === PER_STEP);
    while (!isStopped() && (await this.beginWaiting()) === PER_STEP);
  }

  private async settleEnded(): Promise<number> {
    const { count, verifications } = await this.catalog.transaction(async (trx) => {
      const ended = await this.due.claimEnded(trx, PER_STEP);
      const begun: string[] = [];
      for (const run of ended) {
        await this.due.settle(trx, run, run.backup_status);
        if (run.backup_status === 'completed' && run.verify_level > 0)
          begun.push(await this.verifications.enqueue(trx, run.organization_id, run.backup_id, run.verify_level));
        if (run.backup_status === 'failed') await this.retry(trx, run);
      }
      return { count: ended.length, verifications: begun };
    });
    for (const id of verifications) await this.verifications.announce(id);
    return count;
  }

  /** Another try at the same slot, after a while. */
  private async retry(trx: Trx, run: EndedRun): Promise<void> {
    if (run.trigger === 'manual' || run.attempt >= run.max_attempts) return;
    const delay = retryDelaySeconds(run.retry_delay_seconds, run.attempt);
    await this.due.insertRuns(trx, [
      {
        id: newId('srun'),
        schedule_id: run.schedule_id,
        slot: run.slot,
        trigger: 'retry',
        attempt: run.attempt + 1,
        status: 'waiting',
        due_at: new Date(this.clock.now().getTime() + delay * 1000),
        note: `Try ${run.attempt + 1} of ${run.max_attempts}, after ${run.backup_id} failed.`,
      },
    ]);
  }

  private async beginWaiting(): Promise<number> {
    const now = this.clock.now();
    const { count, queued, checks } = await this.catalog.transaction(async (trx) => {
      const waiting = await this.due.claimWaiting(trx, now, PER_STEP);
      const toCheck = waiting.filter(({ schedule }) => schedule.action === 'status-check');
      for (const { run } of toCheck) await this.due.lease(trx, run.id, new Date(now.getTime() + CHECK_LEASE_MS));
      const begun: QueuedRun[] = [];
      for (const { run, schedule } of waiting) {
        if (schedule.action !== 'backup') continue;
        const backup = await this.order(trx, run, schedule);
        await this.due.begin(trx, run.id, backup.id);
        begun.push(backup);
      }
      return { count: waiting.length, queued: begun, checks: toCheck };
    });
    await this.backups.announce(queued);
    for (const { run, schedule } of checks) await this.check(run, schedule);
    return count;
  }

  private async order(trx: Trx, run: ScheduleRunRow, schedule: ScheduleRow): Promise<QueuedRun> {
    const [backup] = await this.backups.enqueueScheduled(trx, [
      {
        organizationId: schedule.organization_id,
        source: { id: schedule.source_id ?? '', name: schedule.source_name ?? '' },
        type: schedule.type as BackupType,
        compress: schedule.compress,
        label: schedule.label,
        tags: schedule.tags,
        destinations: schedule.destinations,
        quorum: schedule.quorum,
        schedule: { id: schedule.id, name: schedule.name, slot: run.slot },
        requestedBy: SYSTEM_ACTOR,
      },
    ]);
    return backup as QueuedRun;
  }

  private async check(run: ScheduleRunRow, schedule: ScheduleRow): Promise<void> {
    try {
      const problems = await this.checks.problems(schedule.organization_id, schedule.source_id);
      await this.catalog.transaction(async (trx) => {
        const before = await this.due.lastStatus(trx, schedule.id);
        await this.due.note(trx, run.id, problems.join(' ') || null);
        await this.due.settle(trx, run, problems.length > 0 ? 'degraded' : 'healthy');
        if ((before === 'degraded') !== problems.length > 0) await this.checks.tell(trx, schedule, problems);
      });
    } catch (error) {
      this.logger.error({ event: 'schedules.check-failed', scheduleId: schedule.id, err: error }, 'schedules.check-failed');
    }
  }
}
