/** The calendar periods of grandfather-father-son, from the shortest to the longest. */
export const PERIODS = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
export type Period = (typeof PERIODS)[number];

const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** The calendar day in a zone, as the midnight of that day in UTC. */
function localDay(at: Date, timeZone: string): Date {
  if (timeZone === 'UTC') return new Date(Math.floor(at.getTime() / DAY_MS) * DAY_MS);
  const parts = formatOf(timeZone).formatToParts(at);
  const number = (type: string) => Number(parts.find((part) => part.type === type)?.value);
  return new Date(Date.UTC(number('year'), number('month') - 1, number('day')));
}

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone);
  if (known) return known;
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    calendar: 'gregory',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
  });
  formats.set(timeZone, format);
  return format;
}

/**
 * The periods that a moment falls into, each as a number that is the same for all moments of the period: days, ISO weeks (from
 * Monday), months and years of the zone. Hours are those of UTC, so that an hour which the clocks repeat is two.
 */
export function bucketsOf(at: Date, timeZone: string): Record<Period, number> {
  const day = localDay(at, timeZone);
  const days = day.getTime() / DAY_MS;
  return {
    hourly: Math.floor(at.getTime() / HOUR_MS),
    daily: days,
    // 1970-01-01 was a Thursday: three days after a Monday.
    weekly: Math.floor((days + 3) / 7),
    monthly: day.getUTCFullYear() * 12 + day.getUTCMonth(),
    yearly: day.getUTCFullYear(),
  };
}
