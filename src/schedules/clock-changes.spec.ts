import { describe, expect, it } from '@jest/globals';
import { slotAfter } from './next-run.js';

const HOUR_MS = 3_600_000;
const STEP_MS = 300_000;
/** Zones that change their clocks in as many ways: at other hours, by half an hour, by two, at midnight, before midnight. */
const ZONES = [
  'Europe/Berlin',
  'Europe/London',
  'Europe/Lisbon',
  'America/New_York',
  'America/Los_Angeles',
  'America/Santiago',
  'America/St_Johns',
  'America/Havana',
  'America/Scoresbysund',
  'America/Nuuk',
  'Europe/Chisinau',
  'Africa/Cairo',
  'Africa/Casablanca',
  'Asia/Jerusalem',
  'Asia/Beirut',
  'Australia/Adelaide',
  'Australia/Lord_Howe',
  'Pacific/Auckland',
  'Pacific/Chatham',
  'Antarctica/Troll',
];
/** Minutes and hours; all minutes are multiples of five, the step in which time is looked through. */
const CRONS: [cron: string, minutes: readonly number[], hours: readonly number[] | 'every'][] = [
  ['30 2 * * *', [30], [2]],
  ['0 2 * * *', [0], [2]],
  ['0 0 * * *', [0], [0]],
  ['15 0 * * *', [15], [0]],
  ['30 1 * * *', [30], [1]],
  ['55 23 * * *', [55], [23]],
  ['10,40 2 * * *', [10, 40], [2]],
  ['*/20 1 * * *', [0, 20, 40], [1]],
  ['0 1-3 * * *', [0], [1, 2, 3]],
  ['45 2,3 * * *', [45], [2, 3]],
  ['0 * * * *', [0], 'every'],
  ['*/30 * * * *', [0, 30], 'every'],
];

/** What a zone's clocks show, as if it were UTC. */
function wallClock(zone: string): (moment: number) => number {
  const format = new Intl.DateTimeFormat('sv-SE', { timeZone: zone, dateStyle: 'short', timeStyle: 'short' });
  return (moment) => Date.parse(`${format.format(moment).replace(' ', 'T')}Z`);
}

/** The last moments, to the hour, before the clocks are changed within two years. */
function changesOf(shown: (moment: number) => number): number[] {
  const changes: number[] = [];
  const end = Date.UTC(2027, 0, 1);
  for (let day = Date.UTC(2025, 0, 1); day < end; day += 24 * HOUR_MS) {
    if (shown(day + 24 * HOUR_MS) - shown(day) === 24 * HOUR_MS) continue;
    for (let at = day; at < day + 24 * HOUR_MS; at += HOUR_MS) if (shown(at + HOUR_MS) - shown(at) !== HOUR_MS) changes.push(at);
  }
  return changes;
}

describe.each(ZONES)('around each change of the clocks of two years in %s', (zone) => {
  const shown = wallClock(zone);
  const changes = changesOf(shown);

  it('there are changes to look at', () => expect(changes.length).toBeGreaterThanOrEqual(4));

  it.each(CRONS)('%s comes as often as the clocks let it', (cron, minutes, hours) => {
    const matches = (wall: number) => {
      const at = new Date(wall);
      return minutes.includes(at.getUTCMinutes()) && (hours === 'every' || hours.includes(at.getUTCHours()));
    };
    for (const change of changes) {
      const [from, to] = [change - 30 * HOUR_MS, change + 30 * HOUR_MS];
      // Looked for by no rule at all: every five minutes that there are, and what the clocks show then.
      const firstShown = new Map<number, number>();
      const expected = new Set<number>();
      for (let at = from - 3 * HOUR_MS; at < to + 3 * HOUR_MS; at += STEP_MS) {
        const wall = shown(at);
        if (matches(wall) && (hours === 'every' || !firstShown.has(wall))) expected.add(at);
        if (!firstShown.has(wall)) firstShown.set(wall, at);
      }
      const lastWall = hours === 'every' ? 0 : shown(to);
      for (let wall = shown(from); wall < lastWall; wall += STEP_MS) {
        // Left out by the clocks: it comes at the change, which is when the next later time is shown.
        let later = wall;
        while (!firstShown.has(later)) later += STEP_MS;
        if (matches(wall)) expected.add(firstShown.get(later)!);
      }
      const found: number[] = [];
      for (let slot = slotAfter(cron, zone, new Date(from - 1)); slot && slot.getTime() < to; slot = slotAfter(cron, zone, slot))
        found.push(slot.getTime());
      const wanted = [...expected].filter((at) => at >= from && at < to).sort((a, b) => a - b);
      expect(found.map((at) => new Date(at))).toEqual(wanted.map((at) => new Date(at)));
    }
  });
});
