import { describe, expect, it } from '@jest/globals';
import { type CountedSchedule, countSlots } from './slots.js';

const at = (text: string) => new Date(`2026-03-${text}:00Z`);
const nightly: CountedSchedule = {
  cron: '0 2 * * *',
  timezone: 'UTC',
  enabled: true,
  jitterSeconds: 0,
  changedAt: at('01T00:00'),
};
const done = (text: string) => ({ slot: at(text), completed: true, open: false });
const failed = (text: string) => ({ slot: at(text), completed: false, open: false });

describe('the slots of a schedule', () => {
  it('are missed where no backup was completed, be it that it failed or that nobody was there', () => {
    const runs = [done('02T02:00'), failed('03T02:00')];
    expect(countSlots(nightly, runs, 0, at('02T00:00'), at('05T00:00'), 100)).toEqual({
      expected: 3,
      completed: 1,
      missed: 2,
      firstMissed: [at('03T02:00'), at('04T02:00')],
      countedFrom: at('02T00:00'),
    });
  });

  it('are met by a retry that went well', () => {
    expect(countSlots(nightly, [failed('02T02:00'), done('02T02:00')], 0, at('02T00:00'), at('03T00:00'), 100)).toMatchObject({
      expected: 1,
      completed: 1,
      missed: 0,
    });
  });

  it('do not count while their backup goes on, or could just be beginning', () => {
    const open = { slot: at('02T02:00'), completed: false, open: true };
    expect(countSlots(nightly, [open], 0, at('02T00:00'), at('02T09:00'), 100).expected).toBe(0);
    expect(countSlots(nightly, [], 0, at('02T00:00'), at('02T02:01'), 100).expected).toBe(0);
    expect(countSlots(nightly, [], 0, at('02T00:00'), at('02T02:06'), 100).missed).toBe(1);
  });

  it('are, before the last change, those that were begun or noted as missed', () => {
    const changed = { ...nightly, cron: '0 5 * * *', changedAt: at('03T12:00') };
    expect(
      countSlots(changed, [done('02T02:00'), done('03T02:00'), done('04T05:00')], 1, at('01T00:00'), at('05T00:00'), 100),
    ).toMatchObject({
      expected: 4,
      completed: 3,
      missed: 1,
    });
  });

  it('end when it is disabled', () => {
    const runs = [done('02T02:00')];
    expect(
      countSlots({ ...nightly, enabled: false, changedAt: at('02T12:00') }, runs, 0, at('01T00:00'), at('09T00:00'), 100),
    ).toMatchObject({
      expected: 1,
      missed: 0,
    });
  });

  it('are counted from later on where there are too many, which shows', () => {
    const often = { ...nightly, cron: '* * * * *' };
    const count = countSlots(often, [], 0, at('01T00:00'), at('09T00:00'), 60);
    expect(count.expected).toBeLessThanOrEqual(60);
    expect(count.countedFrom).toEqual(at('08T23:00'));
  });
});
