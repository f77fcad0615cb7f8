import { type BeforeApplicationShutdown, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import type { Insertable } from 'kysely';
import type { BackupType } from '../backups/backup.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';
import { Clock } from '../common/clock.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import { newId } from '../common/identifiers.js';
import type { QueuedRun } from '../jobs/run-events.js';
import { Outbox } from '../outbox/outbox.js';
import { type Advanced, DueRepository } from './due.repository.js';
import { type DueSlots, dueSlots } from './next-run.js';
import { dueAt, LATE_MS } from './schedule.js';
import { ScheduleSettler } from './schedule-settler.js';
import type { ScheduleRow } from './schedules.repository.js';

const PER_STEP = 500;
/** What is older goes, but not the newest of each schedule. */
const KEPT_DAYS = 30;
const KEPT_RUNS = 100;
/** Slots of a schedule that wait for the run before them; a schedule that is always too slow must not pile them up. */
const MOST_WAITING = 10;

/** What one due schedule comes to. */
interface Decision {
  schedule: ScheduleRow;
  slots: DueSlots;
  /** Whether its work is begun, and why not. */
  outcome: 'run' | 'waiting' | 'missed' | 'skipped';
  /** Slots that nobody ran. */
  missed: number;
}

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

/** @param waiting how many slots wait for the run that goes on; undefined when none goes on */
function decide(schedule: ScheduleRow, waiting: number | undefined, now: Date): Decision[] {
  const { cron, timezone, next_slot: first, missed_runs: policy, overlap } = schedule;
  const slots = first === null ? null : dueSlots(cron, timezone, first, now);
  if (!slots) return [];
  // Where more than one is due, nobody was there for a while, however fresh the last one is.
  if (policy === 'skip' && (isLate(schedule, slots, now) || slots.count > 1))
    return [{ schedule, slots, outcome: 'missed', missed: slots.count }];
  // The last slot is run, late or not; those before it nobody ran.
  const missed = slots.count - 1;
  if (waiting === undefined) return [{ schedule, slots, outcome: 'run', missed }];
  const outcome = overlap === 'queue' && waiting < MOST_WAITING ? 'waiting' : 'skipped';
  return [{ schedule, slots, outcome, missed }];
}

function isLate(schedule: ScheduleRow, slots: DueSlots, now: Date): boolean {
  return now.getTime() - slots.latest.getTime() > LATE_MS + schedule.jitter_seconds * 1000;
}

function runOf(
  { schedule, slots, outcome, missed }: Decision,
  backupId: string | null,
  now: Date,
): Insertable<CatalogTables['schedule_runs']> {
  const isBegun = outcome === 'run' || outcome === 'waiting';
  const isWaiting = outcome === 'waiting' || (outcome === 'run' && schedule.action === 'status-check');
  return {
    id: newId('srun'),
    schedule_id: schedule.id,
    slot: slots.latest,
    trigger: 'schedule',
    status: isWaiting ? 'waiting' : outcome === 'run' ? 'queued' : outcome,
    due_at: isWaiting ? now : null,
    backup_id: backupId,
    missed,
    note: noteOf(outcome, missed, isLate(schedule, slots, now), schedule.overlap === 'queue'),
    finished_at: isBegun ? null : now,
  };
}

function noteOf(outcome: Decision['outcome'], missed: number, late: boolean, queues: boolean): string | null {
  if (outcome === 'skipped')
    return queues
      ? `The run before it was still going on, with ${MOST_WAITING} waiting for it.`
      : 'The run before it was still going on.';
  if (outcome === 'missed' || missed > 0) return sentenceOf(missed, outcome);
  if (outcome === 'waiting') return 'It begins when the run before it has ended.';
  return late ? 'It began late: no server was there at its time.' : null;
}

function sentenceOf(missed: number, outcome: Decision['outcome']): string {
  const times = missed === 1 ? 'One time' : `${missed} times`;
  const then = outcome === 'run' || outcome === 'waiting' ? ' The last one is made up for.' : '';
  return `${times} of the schedule passed without a server.${then}`;
}

/** A slot that comes a second time, as after the clock was set back, is only left behind. */
function passedBy(decision: Decision): Advanced {
  return { ...advanced(decision), lastStatus: null, isRun: false, missed: 0, isSkipped: false };
}

function advanced({ schedule, slots, outcome, missed }: Decision): Advanced {
  return {
    id: schedule.id,
    nextSlot: slots.next,
    dueAt: slots.next && dueAt(slots.next, schedule.jitter_seconds, Math.random()),
    lastStatus: lastStatusOf(schedule, outcome),
    isRun: outcome === 'run' || outcome === 'waiting',
    missed,
    isSkipped: outcome === 'skipped',
  };
}

/** What a run comes to is not known before it has ended. */
function lastStatusOf(schedule: ScheduleRow, outcome: Decision['outcome']): string | null {
  if (outcome === 'waiting') return null;
  if (outcome === 'run') return schedule.action === 'backup' ? 'queued' : null;
  return outcome;
}
