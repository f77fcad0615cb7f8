import { slotAfter } from '../schedules/next-run.js';

/** A slot that has just begun has no backup yet; after this, it should have been begun. */
const START_GRACE_MS = 5 * 60_000;
const NAMED = 10;

/** A schedule as the report looks at it. */
export interface CountedSchedule {
  cron: string;
  timezone: string;
  enabled: boolean;
  jitterSeconds: number;
  /** Since when it is as it is now. */
  changedAt: Date;
}

/** What became of a slot: whether a backup of it was completed, or goes on. */
export interface SlotRun {
  slot: Date;
  completed: boolean;
  open: boolean;
}

export interface SlotCount {
  /** Slots that should have a backup by now. */
  expected: number;
  completed: number;
  missed: number;
  /** The first of those without one. */
  firstMissed: Date[];
  /** Later than the beginning of the period when there are too many slots to count. */
  countedFrom: Date;
}

/**
 * Counts a schedule's slots between two moments and those that came to a completed backup. As the schedule is now counts from its last
 * change on; before that, what was begun or noted as not begun.
 * @param unrun slots before the last change that nobody ran
 * @param most slots to count at most: the newest
 */
export function countSlots(
  schedule: CountedSchedule,
  runs: readonly SlotRun[],
  unrun: number,
  from: Date,
  to: Date,
  most: number,
): SlotCount {
  const bySlot = new Map<number, { completed: boolean; open: boolean }>();
  for (const { slot, completed, open } of runs) {
    const known = bySlot.get(slot.getTime());
    bySlot.set(slot.getTime(), { completed: completed || known?.completed === true, open: open || known?.open === true });
  }
  const since = new Date(Math.max(from.getTime(), Math.min(schedule.changedAt.getTime(), to.getTime())));
  const recorded = [...bySlot.keys()].filter((slot) => slot >= from.getTime() && slot < since.getTime());
  const slots = schedule.enabled ? slotsBetween(schedule, since, to, most) : { slots: [], countedFrom: since };
  const count: SlotCount = {
    expected: unrun,
    completed: 0,
    missed: unrun,
    firstMissed: [],
    countedFrom: slots.countedFrom > since ? slots.countedFrom : from,
  };
  // A disabled schedule has no slots of its own any more, but what ran of it since its last change is still true.
  const later = schedule.enabled
    ? slots.slots
    : [...bySlot.keys()].filter((slot) => slot >= since.getTime() && slot < to.getTime());
  for (const slot of [...recorded, ...later].toSorted((a, b) => a - b)) {
    const run = bySlot.get(slot);
    const isYoung = slot > to.getTime() - START_GRACE_MS - schedule.jitterSeconds * 1000;
    if (!run?.completed && (run?.open || (!run && isYoung))) continue;
    count.expected++;
    if (run?.completed) count.completed++;
    else {
      count.missed++;
      if (count.firstMissed.length < NAMED) count.firstMissed.push(new Date(slot));
    }
  }
  return count;
}

function slotsBetween(
  { cron, timezone }: CountedSchedule,
  from: Date,
  to: Date,
  most: number,
): { slots: number[]; countedFrom: Date } {
  let countedFrom = from;
  const first = slotAfter(cron, timezone, from);
  const second = first && slotAfter(cron, timezone, first);
  if (first && second) {
    const guess = (to.getTime() - from.getTime()) / (second.getTime() - first.getTime());
    if (guess > most) countedFrom = new Date(to.getTime() - most * (second.getTime() - first.getTime()));
  }
  const slots: number[] = [];
  // The slot of the very moment counts: the search is for what comes after.
  let slot = slotAfter(cron, timezone, new Date(countedFrom.getTime() - 1));
  while (slot && slot < to && slots.length < most) {
    slots.push(slot.getTime());
    slot = slotAfter(cron, timezone, slot);
  }
  return { slots, countedFrom };
}
