const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** Waits before each attempt, as Standard Webhooks proposes them: ten attempts over three days. */
const WAITS_MS = [0, 5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
const LONGEST_WAIT_MS = 24 * HOUR;

/**
 * When to try again.
 * @param tries attempts so far
 * @param retryAfterMs how long the receiver asked to be left alone
 * @returns null when the plan is at its end
 */
export function nextAttemptAt(tries: number, now: Date, retryAfterMs: number | null): Date | null {
  const wait = WAITS_MS[tries];
  if (wait === undefined) return null;
  return new Date(now.getTime() + Math.max(wait, Math.min(retryAfterMs ?? 0, LONGEST_WAIT_MS)));
}

/** What a Retry-After header says, in milliseconds from now; null when it says nothing. */
export function retryAfterMs(header: string | undefined, now: Date): number | null {
  const text = header?.trim() ?? '';
  if (/^\d{1,9}$/.test(text)) return Number(text) * SECOND;
  // A date in HTTP begins with the day's name; Date.parse alone would take much else for one.
  const at = /^[A-Za-z]{3,9}, /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(at) ? null : Math.max(0, at - now.getTime());
}
