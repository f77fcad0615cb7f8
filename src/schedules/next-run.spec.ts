import { describe, expect, it } from '@jest/globals';
import { cronFault, dueSlots, isTimeZone, slotAfter, slotsAfter } from './next-run.js';

const iso = (dates: readonly (Date | null)[]) => dates.map((date) => date?.toISOString().slice(0, 16));
const slots = (cron: string, zone: string, from: string, count: number) => iso(slotsAfter(cron, zone, new Date(from), count));

describe('the slots of a cron expression', () => {
  it('follow the clock of the zone through the year', () => {
    expect(slots('0 2 * * *', 'Europe/Berlin', '2026-01-14T12:00:00Z', 1)).toEqual(['2026-01-15T01:00']);
    expect(slots('0 2 * * *', 'Europe/Berlin', '2026-07-14T12:00:00Z', 1)).toEqual(['2026-07-15T00:00']);
    expect(slots('0 3 * * SUN', 'UTC', '2026-11-24T00:00:00Z', 2)).toEqual(['2026-11-29T03:00', '2026-12-06T03:00']);
    expect(slots('0 9-17/4 * JAN-MAR MON-FRI', 'UTC', '2026-03-31T14:00:00Z', 2)).toEqual([
      '2026-03-31T17:00',
      '2027-01-01T09:00',
    ]);
  });

  it('run once where the local time is left out', () => {
    expect(slots('30 2 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z', 2)).toEqual(['2026-03-29T01:00', '2026-03-30T00:30']);
  });

  it('run once where the local time comes twice, and in every real hour where the hour is a wildcard', () => {
    expect(slots('30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', 2)).toEqual(['2026-10-25T00:30', '2026-10-26T01:30']);
    expect(slots('*/30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', 3)).toEqual([
      '2026-10-25T00:00',
      '2026-10-25T00:30',
      '2026-10-26T01:00',
    ]);
    expect(slots('0 * * * *', 'Europe/Berlin', '2026-10-24T23:30:00Z', 3)).toEqual([
      '2026-10-25T00:00',
      '2026-10-25T01:00',
      '2026-10-25T02:00',
    ]);
    expect(slots('45 1 * * *', 'Australia/Lord_Howe', '2026-04-04T00:00:00Z', 2)).toEqual([
      '2026-04-04T14:45',
      '2026-04-05T15:15',
    ]);
  });

  it('that were missed are counted, and the last of them is known', () => {
    const due = dueSlots('0 * * * *', 'UTC', new Date('2026-01-01T00:00:00Z'), new Date('2026-01-01T03:59:00Z'));
    expect(due).toEqual({ latest: new Date('2026-01-01T03:00:00Z'), count: 4, next: new Date('2026-01-01T04:00:00Z') });
    expect(dueSlots('0 * * * *', 'UTC', new Date('2026-01-01T00:00:00Z'), new Date('2025-12-31T23:59:59Z'))).toBeNull();
    const long = dueSlots('* * * * *', 'UTC', new Date('2024-01-01T00:00:00Z'), new Date('2026-01-01T00:00:30Z'));
    expect(long).toEqual({ latest: new Date('2026-01-01T00:00:00Z'), count: 10_080, next: new Date('2026-01-01T00:01:00Z') });
  });
});

const ZONES = [
  'UTC',
  'Europe/Berlin',
  'Europe/London',
  'Europe/Dublin',
  'Europe/Moscow',
  'America/New_York',
  'America/Los_Angeles',
  'America/Sao_Paulo',
  'America/Santiago',
  'America/St_Johns',
  'America/Havana',
  'Africa/Cairo',
  'Africa/Casablanca',
  'Asia/Kolkata',
  'Asia/Kathmandu',
  'Asia/Tehran',
  'Asia/Beirut',
  'Australia/Lord_Howe',
  'Australia/Adelaide',
  'Pacific/Chatham',
];

/** Days of the zone's own calendar between two moments, first and last included. */
function localDays(zone: string, from: Date, to: Date): Set<string> {
  const format = new Intl.DateTimeFormat('en-CA', { timeZone: zone, dateStyle: 'short' });
  const days = new Set<string>();
  for (let at = from.getTime(); at < to.getTime(); at += 6 * 3_600_000) days.add(format.format(at));
  return days;
}

describe('two years of a schedule, in twenty zones, with a clock that jumps', () => {
  it.each(ZONES)('runs each day once and misses none: %s', (zone) => {
    const [from, to] = [new Date('2025-01-01T12:00:00Z'), new Date('2027-01-01T12:00:00Z')];
    const format = new Intl.DateTimeFormat('en-CA', { timeZone: zone, dateStyle: 'short' });
    for (const cron of ['30 2 * * *']) {
      const ran: Date[] = [];
      let missed = 0;
      let next = slotAfter(cron, zone, from);
      // Half an hour a tick; now and then the clock is set an hour or a day on, or for one tick an hour back.
      let tick = 0;
      for (let now = from.getTime(); now < to.getTime(); now += 1_800_000) {
        tick++;
        if (tick % 1301 === 0) now += 3_600_000;
        if (tick % 3001 === 0) now += 86_400_000;
        const seen = tick % 1709 === 0 ? now - 3_600_000 : now;
        const due: ReturnType<typeof dueSlots> = next === null ? null : dueSlots(cron, zone, next, new Date(seen));
        if (!due) continue;
        ran.push(due.latest);
        missed += due.count - 1;
        next = due.next;
      }
      const days = ran.map((at) => format.format(at));
      expect(new Set(days).size).toBe(days.length);
      expect(ran.every((at, index) => index === 0 || at > ran[index - 1]!)).toBe(true);
      // The first and the last day are cut off by the noon of UTC.
      const all = localDays(zone, from, to).size;
      expect(ran.length + missed).toBeGreaterThanOrEqual(all - 2);
      expect(ran.length + missed).toBeLessThanOrEqual(all);
    }
  });

  it.each(ZONES)('has a slot in every real hour: %s', (zone) => {
    const from = new Date('2026-02-10T00:00:00Z');
    const found = slotsAfter('0 * * * *', zone, from, 24 * 100);
    const gaps = found.map((slot, index) => slot.getTime() - (index === 0 ? from : found[index - 1]!).getTime());
    // Where the clocks move by half an hour, so does the full hour.
    expect(Math.max(...gaps)).toBeLessThanOrEqual(5_400_000);
    expect(gaps.filter((gap) => gap !== 3_600_000).length).toBeLessThanOrEqual(5);
  });
});

describe('a cron expression', () => {
  it.each(['0 2 * * *', '*/5 0-6 1,15 * *', '0 0 * JAN,jul mon-fri', '0 0 29 2 *', ' 0  2 * * 7 '])('is taken: %s', (cron) =>
    expect(cronFault(cron)).toBeNull(),
  );

  it.each([
    ['', /fields? instead of 5/],
    ['* * * *', /4 fields instead of 5/],
    ['0 0 2 * * *', /6 fields instead of 5/],
    ['@daily', /1 field instead of 5/],
    ['60 * * * *', /"60" for the minute/],
    ['0 24 * * *', /"24" for the hour/],
    ['0 0 32 * *', /"32" for the day of the month/],
    ['0 0 * 13 *', /"13" for the month/],
    ['0 0 * * 8', /"8" for the day of the week/],
    ['0 0 * * FOO', /"FOO" for the day of the week/],
    ['5-1 * * * *', /"5-1" for the minute/],
    ['*/0 * * * *', /for the minute/],
    ['0 0 L * *', /"L" for the day of the month/],
    ['0 0 ? * *', /"\?" for the day of the month/],
    ['0 0 * * MON#1', /for the day of the week/],
    ['0 0 30 2 *', /never comes/],
    ['0 0; * * *', /for the hour/],
  ])('is refused with the field and why: %s', (cron, why) => expect(cronFault(cron)).toMatch(why));

  it('needs a zone that there is', () => {
    expect(['UTC', 'Europe/Berlin', 'America/Argentina/Buenos_Aires'].map(isTimeZone)).toEqual([true, true, true]);
    expect(['Mars/Olympus', '', '+02:00', 'Europe', 'UTC; x'].map(isTimeZone)).toEqual([false, false, false, false, false]);
  });
});
