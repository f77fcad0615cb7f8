/** What a schedule may do. */
export const SCHEDULE_ACTIONS = ['backup', 'status-check'] as const;
export type ScheduleAction = (typeof SCHEDULE_ACTIONS)[number];

/** What becomes of slots at which no server was there: the last one is made up for, or none is. */
export const MISSED_RUNS = ['run-once', 'skip'] as const;
export type MissedRuns = (typeof MISSED_RUNS)[number];

/** What becomes of a slot while the run before it goes on. */
export const OVERLAPS = ['skip', 'queue'] as const;
export type Overlap = (typeof OVERLAPS)[number];

export const SCHEDULE_RUN_STATUSES = [
  'waiting',
  'queued',
  'completed',
  'failed',
  'canceled',
  'missed',
  'skipped',
  'healthy',
  'degraded',
] as const;
export type ScheduleRunStatus = (typeof SCHEDULE_RUN_STATUSES)[number];

/** What a backup by schedule is proven to, unless its schedule says otherwise: readable, every table equal to the manifest. */
export const DEFAULT_VERIFY_LEVEL = 2;

/** A slot that is begun later than this was missed: the server was not there. */
export const LATE_MS = 300_000;

/** Seconds before the next attempt after this one failed: doubled each time, an hour at most. */
export function retryDelaySeconds(first: number, attempt: number): number {
  return Math.min(first * 2 ** (attempt - 1), Math.max(first, 3600));
}

/** The moment to begin a slot at: somewhere within the jitter, so that many schedules of one time don't all begin at once. */
export function dueAt(slot: Date, jitterSeconds: number, random: number): Date {
  return new Date(slot.getTime() + Math.floor(random * jitterSeconds * 1000));
}
