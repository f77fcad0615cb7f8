import { Cron } from 'croner';

const FIELDS = ['minute', 'hour', 'day of the month', 'month', 'day of the week'] as const;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Slots that are looked through; one of each minute for a week. */
const MOST_SLOTS = 10_080;

/** What is wrong with a cron expression, or null: which field, and why. */
export function cronFault(cron: string): string | null {
  const fields = cron.trim().split(/\s+/);
  if (fields.length !== FIELDS.length)
    return `has ${fields.length} field${fields.length === 1 ? '' : 's'} instead of 5 (minute hour day-of-month month day-of-week), such as 0 2 * * *`;
  for (const [index, name] of FIELDS.entries()) {
    const field = fields[index] ?? '';
    if (!/^[\w*,/-]+$/.test(field) || /[LWR#?]/i.test(field.replace(/[A-Z]{3}/gi, '')))
      return `has "${field}" for the ${name}, which may hold numbers, names, and * , - /`;
    const alone = FIELDS.map((_, place) => (place === index ? field : '*')).join(' ');
    const why = refusalOf(alone);
    if (why !== null) return `has "${field}" for the ${name}: ${why}`;
  }
  const whole = refusalOf(fields.join(' '));
  if (whole !== null) return whole;
  return slotAfter(cron, 'UTC', new Date()) === null ? 'never comes: there is no such day' : null;
}

function refusalOf(cron: string): string | null {
  try {
    parse(cron, 'UTC');
    return null;
  } catch (error) {
    return (error as Error).message.replace(/^CronPattern: /, '');
  }
}

/** Whether it is a zone of the IANA database that this machine knows, such as Europe/Berlin; offsets are none. */
export function isTimeZone(zone: string): boolean {
  if (/^[+-]|^\d/.test(zone)) return false;
  try {
    return new Intl.DateTimeFormat('en', { timeZone: zone }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

/**
 * The first slot after a moment. A local time that a change of the clocks leaves out runs once, at the moment of the change; one that
 * comes twice runs the first time only, unless the hour is a wildcard: then every real hour has its own.
 * @returns null when there is none any more
 */
export function slotAfter(cron: string, timezone: string, after: Date): Date | null {
  const isEveryHour = (cron.trim().split(/\s+/)[1] ?? '').startsWith('*');
  if (isEveryHour) return parse(cron, timezone).nextRun(after);
  // Fixed times are looked for on the wall clock, which leaves nothing out, and only then turned into moments: where a change of the
  // clocks leaves a time out, the library drops some (lists of minutes, and times just before midnight).
  const onTheWall = parse(cron, 'UTC');
  let shown: Date | null = new Date(after.getTime() + offsetAt(after, timezone));
  while ((shown = onTheWall.nextRun(shown)) !== null) {
    const slot = momentOf(shown, timezone);
    if (slot > after) return slot;
  }
  return null;
}

/** When a zone's clocks show a time: the first time where they do so twice, and the moment of the change where they never do. */
function momentOf(shown: Date, timezone: string): Date {
  const before = offsetAt(new Date(shown.getTime() - DAY_MS), timezone);
  const later = offsetAt(new Date(shown.getTime() + DAY_MS), timezone);
  const [early, late] = [shown.getTime() - Math.max(before, later), shown.getTime() - Math.min(before, later)];
  for (const moment of [early, late]) {
    if (moment + offsetAt(new Date(moment), timezone) === shown.getTime()) return new Date(moment);
  }
  let [from, to] = [early, late];
  while (to - from > 1000) {
    const middle = from + Math.floor((to - from) / 2000) * 1000;
    if (offsetAt(new Date(middle), timezone) === later) to = middle;
    else from = middle;
  }
  return new Date(to);
}

/** The next few slots. */
export function slotsAfter(cron: string, timezone: string, after: Date, count: number): Date[] {
  const slots: Date[] = [];
  let from = after;
  while (slots.length < count) {
    const slot = slotAfter(cron, timezone, from);
    if (slot === null) break;
    slots.push(slot);
    from = slot;
  }
  return slots;
}

/** What is due by now, of a schedule whose next slot is `first`. */
export interface DueSlots {
  /** The last slot that is not after now. */
  latest: Date;
  /** How many there are, `latest` included; counting ends at a week of minutes. */
  count: number;
  /** The first slot after now; null when there is none. */
  next: Date | null;
}

/** @returns null when nothing is due */
export function dueSlots(cron: string, timezone: string, first: Date, now: Date): DueSlots | null {
  if (first > now) return null;
  let latest = first;
  let count = 1;
  let next = slotAfter(cron, timezone, latest);
  while (next !== null && next <= now) {
    if (count >= MOST_SLOTS) {
      // Too long ago to count: the rest is left out, but not the last one.
      const recent = slotsAfter(cron, timezone, new Date(now.getTime() - 2 * HOUR_MS), MOST_SLOTS).filter((slot) => slot <= now);
      return { latest: recent.at(-1) ?? latest, count, next: slotAfter(cron, timezone, now) };
    }
    latest = next;
    count++;
    next = slotAfter(cron, timezone, latest);
  }
  return { latest, count, next };
}

const MOST_PATTERNS = 1000;
const patterns = new Map<string, Cron>();

function parse(cron: string, timezone: string): Cron {
  const key = `${timezone} ${cron.trim()}`;
  const known = patterns.get(key);
  if (known) return known;
  const pattern = new Cron(cron.trim(), { timezone, mode: '5-part', paused: true });
  if (patterns.size >= MOST_PATTERNS) patterns.clear();
  patterns.set(key, pattern);
  return pattern;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** How far a zone's clocks are ahead of UTC, in milliseconds. */
function offsetAt(moment: Date, timezone: string): number {
  let format = formats.get(timezone);
  if (!format) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: timezone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
    formats.set(timezone, format);
  }
  const parts = Object.fromEntries(format.formatToParts(moment).map(({ type, value }) => [type, Number(value)]));
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts;
  const shown = Date.UTC(year, month - 1, day, hour, minute, second);
  return shown - Math.floor(moment.getTime() / 1000) * 1000;
}
