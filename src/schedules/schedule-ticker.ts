import { type BeforeApplicationShutdown, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import type { BackupType } from '../backups/backup.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { Clock } from '../common/clock.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import type { QueuedRun } from '../jobs/run-events.js';
import { Outbox } from '../outbox/outbox.js';
import { advanced, decide, type Decision, nextOf, NOT_RUN, passedBy, runOf, sentenceOf } from './due-decision.js';
import { DueRepository } from './due.repository.js';
import { slotAfter } from './next-run.js';
import { ScheduleSettler } from './schedule-settler.js';

const PER_STEP = 500;
/** What is older goes, but not the newest of each schedule. */
const KEPT_DAYS = 30;
const KEPT_RUNS = 100;

/**
 * Begins what is due. Every process ticks; each takes the rows that no other holds, and moves them on in the transaction that queues the
 * work: a slot is begun once, whoever dies when.
 */
@Injectable()
export class ScheduleTicker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('schedules');
  private ticking: Promise<void> | undefined;
  private isStopped = true;

  constructor(
    private readonly due: DueRepository,
    private readonly catalog: Catalog,
    private readonly backups: BackupsService,
    private readonly settler: ScheduleSettler,
    private readonly outbox: Outbox,
    private readonly clock: Clock,
  ) {}

  onApplicationBootstrap(): void {
    this.isStopped = false;
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.isStopped = true;
    await this.ticking;
  }

  @Cron('*/2 * * * * *', { name: 'schedules' })
  tick(): Promise<void> {
    if (this.isStopped) return Promise.resolve();
    this.ticking ??= this.work().finally(() => (this.ticking = undefined));
    return this.ticking;
  }

  /** After the clock was set back, what lies between the real time and the next slot has its slots again. */
  @Cron('15 * * * * *')
  async goBack(): Promise<void> {
    if (this.isStopped) return;
    try {
      const now = this.clock.now();
      await this.catalog.transaction(async (trx) => {
        const ahead = await this.due.claimAhead(trx, now);
        const earlier = ahead.flatMap(({ id, cron, timezone, jitter_seconds: jitter, next_slot: planned }) => {
          const slot = slotAfter(cron, timezone, now);
          return slot === null || planned === null || slot >= planned ? [] : [{ ...NOT_RUN, id, ...nextOf(slot, jitter) }];
        });
        await this.due.advance(trx, now, earlier);
        if (earlier.length > 0)
          this.logger.warn({ event: 'schedules.clock-set-back', schedules: earlier.length }, 'schedules.clock-set-back');
      });
    } catch (error) {
      this.logger.error({ event: 'schedules.not-set-back', err: error }, 'schedules.not-set-back');
    }
  }

  /** Forgets what nobody looks for in the history any more. */
  @Cron('29 * * * *')
  async prune(): Promise<void> {
    while (!this.isStopped && (await this.due.prune(KEPT_DAYS, KEPT_RUNS, PER_STEP)) === PER_STEP);
  }

  private async work(): Promise<void> {
    try {
      if (!(await this.due.anyDue(this.clock.now()))) return;
      while (!this.isStopped && (await this.step()) === PER_STEP);
      await this.settler.settle(() => this.isStopped);
    } catch (error) {
      this.logger.error({ event: 'schedules.tick-failed', err: error }, 'schedules.tick-failed');
    }
  }

  /** @returns how many schedules were due */
  private async step(): Promise<number> {
    const now = this.clock.now();
    const { count, queued } = await this.catalog.transaction(async (trx) => {
      const schedules = await this.due.claim(trx, now, PER_STEP);
      const ids = schedules.map(({ id }) => id);
      const running = await this.due.running(trx, ids);
      const decided = schedules.flatMap((schedule) => decide(schedule, running.get(schedule.id), now));
      const taken = await this.due.takenSlots(
        trx,
        decided.map(({ schedule, slots }) => ({ scheduleId: schedule.id, slot: slots.latest })),
      );
      const isTaken = ({ schedule, slots }: Decision) => taken.has(`${schedule.id} ${slots.latest.getTime()}`);
      const decisions = decided.filter((decision) => !isTaken(decision));
      const begun = await this.begin(trx, decisions, now);
      await this.due.advance(trx, now, [...decisions.map(advanced), ...decided.filter(isTaken).map(passedBy)]);
      await this.tellOfMissed(trx, decisions);
      return { count: schedules.length, queued: begun };
    });
    await this.backups.announce(queued);
    return count;
  }

  private async begin(trx: Trx, decisions: readonly Decision[], now: Date): Promise<QueuedRun[]> {
    const orders = decisions.filter(({ schedule, outcome }) => outcome === 'run' && schedule.action === 'backup');
    const queued =
      orders.length === 0
        ? []
        : await this.backups.enqueueScheduled(
            trx,
            orders.map(({ schedule, slots }) => ({
              organizationId: schedule.organization_id,
              source: { id: schedule.source_id ?? '', name: schedule.source_name ?? '' },
              type: schedule.type as BackupType,
              compress: schedule.compress,
              label: schedule.label,
              tags: schedule.tags,
              destinations: schedule.destinations,
              quorum: schedule.quorum,
              schedule: { id: schedule.id, name: schedule.name, slot: slots.latest },
              requestedBy: SYSTEM_ACTOR,
            })),
          );
    const backupOf = new Map(orders.map(({ schedule }, index) => [schedule.id, queued[index]?.id]));
    await this.due.insertRuns(
      trx,
      decisions.map((decision) => runOf(decision, backupOf.get(decision.schedule.id) ?? null, now)),
    );
    return queued;
  }

  private async tellOfMissed(trx: Trx, decisions: readonly Decision[]): Promise<void> {
    const missed = decisions.filter((decision) => decision.missed > 0);
    await this.outbox.recordAll(
      trx,
      missed.map(({ schedule, slots, missed: count, outcome }) => ({
        organizationId: schedule.organization_id,
        type: 'schedule.missed',
        subject: schedule.id,
        data: {
          schedule: {
            id: schedule.id,
            name: schedule.name,
            source: schedule.source_id === null ? null : { id: schedule.source_id, name: schedule.source_name },
            missed: count,
            lastSlot: slots.latest.toISOString(),
            message: sentenceOf(count, outcome),
          },
        },
      })),
    );
    for (const { schedule, missed: count } of missed)
      this.logger.warn(
        { event: 'schedule.missed', scheduleId: schedule.id, name: schedule.name, missed: count },
        'schedule.missed',
      );
  }
}
