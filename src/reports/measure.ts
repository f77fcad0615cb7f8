/** A completed backup, as a point in time that can be gone back to. */
export interface RestorePoint {
  id: string;
  /** What it holds is as of then. */
  startedAt: Date;
  /** From then on it can be used. */
  finishedAt: Date;
}

/** For how long changes could have been lost. */
export interface Exposure {
  ms: number;
  /** As of when the newest backup was that could be used. */
  from: Date;
  /** Until when it was the newest. */
  to: Date;
}

/**
 * The longest time whose changes would have been lost, had the database been lost at the worst moment between `from` and `to`: at
 * every moment that is the age of what the newest finished backup holds.
 * @param points in any order; those that were finished before `from` count as what there was at the beginning
 * @returns null when the time is empty
 */
export function longestExposure(points: readonly RestorePoint[], from: Date, to: Date): Exposure | null {
  if (from >= to) return null;
  const before = points.filter(({ finishedAt }) => finishedAt <= from).map(({ startedAt }) => startedAt.getTime());
  const later = points
    .filter(({ finishedAt }) => finishedAt > from && finishedAt <= to)
    .toSorted((a, b) => a.finishedAt.getTime() - b.finishedAt.getTime());
  let held = before.length > 0 ? Math.max(...before) : from.getTime();
  let worst: Exposure = { ms: -1, from, to };
  const look = (until: Date) => {
    const ms = until.getTime() - held;
    if (ms > worst.ms) worst = { ms, from: new Date(held), to: until };
  };
  for (const { startedAt, finishedAt } of later) {
    look(finishedAt);
    held = Math.max(held, startedAt.getTime());
  }
  look(to);
  return worst;
}

/** What was measured held against what is promised; null when there is no promise, or nothing was measured. */
export function within(measuredMs: number | null, targetMinutes: number | null): boolean | null {
  return measuredMs === null || targetMinutes === null ? null : measuredMs <= targetMinutes * 60_000;
}

/** Several findings as one: missed if any is, met if some are and none is missed, unknown when nothing can be said. */
export function verdictOf(findings: readonly (boolean | null)[]): 'met' | 'missed' | 'unknown' {
  if (findings.includes(false)) return 'missed';
  return findings.includes(true) ? 'met' : 'unknown';
}
