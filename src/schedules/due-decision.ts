import type { Insertable } from 'kysely';
import type { CatalogTables } from '../catalog/tables.js';
import { newId } from '../common/identifiers.js';
import type { Advanced } from './due.repository.js';
import { type DueSlots, dueSlots } from './next-run.js';
import { dueAt, LATE_MS } from './schedule.js';
import type { ScheduleRow } from './schedules.repository.js';

/** Slots of a schedule that wait for the run before them; a schedule that is always too slow must not pile them up. */
const MOST_WAITING = 10;

/** What one due schedule comes to. */
export interface Decision {
  schedule: ScheduleRow;
  slots: DueSlots;
  /** Whether its work is begun, and why not. */
  outcome: 'run' | 'waiting' | 'missed' | 'skipped';
  /** Slots that nobody ran. */
  missed: number;
}

/**
 * What a schedule comes to now; nothing when it is not due.
 * @param waiting how many slots wait for the run that goes on; undefined when none goes on
 */
export function decide(schedule: ScheduleRow, waiting: number | undefined, now: Date): Decision[] {
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

/** The entry of the history. */
export function runOf(
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

/** What is told of slots that passed. */
export function sentenceOf(missed: number, outcome: Decision['outcome']): string {
  const times = missed === 1 ? 'One time' : `${missed} times`;
  const then = outcome === 'run' || outcome === 'waiting' ? ' The last one is made up for.' : '';
  return `${times} of the schedule passed without a server.${then}`;
}

/** A slot that comes a second time, as after the clock was set back, is only left behind. */
export function passedBy({ schedule, slots }: Decision): Advanced {
  return { ...NOT_RUN, id: schedule.id, ...nextOf(slots.next, schedule.jitter_seconds) };
}

/** Moves a schedule on, and nothing else. */
export const NOT_RUN = { lastStatus: null, isRun: false, missed: 0, isSkipped: false } as const;

/** Where a schedule goes on, and what it has done. */
export function advanced({ schedule, slots, outcome, missed }: Decision): Advanced {
  return {
    id: schedule.id,
    ...nextOf(slots.next, schedule.jitter_seconds),
    lastStatus: lastStatusOf(schedule, outcome),
    isRun: outcome === 'run' || outcome === 'waiting',
    missed,
    isSkipped: outcome === 'skipped',
  };
}

/** A slot, and when it is begun. */
export function nextOf(slot: Date | null, jitterSeconds: number): Pick<Advanced, 'nextSlot' | 'dueAt'> {
  return { nextSlot: slot, dueAt: slot && dueAt(slot, jitterSeconds, Math.random()) };
}

/** What a run comes to is not known before it has ended. */
function lastStatusOf(schedule: ScheduleRow, outcome: Decision['outcome']): string | null {
  if (outcome === 'waiting') return null;
  if (outcome === 'run') return schedule.action === 'backup' ? 'queued' : null;
  return outcome;
}
