import { describe, expect, it } from '@jest/globals';
import { longestExposure, verdictOf, within } from './measure.js';

const at = (hours: number) => new Date(Date.UTC(2026, 0, 1) + hours * 3_600_000);
const point = (started: number, finished: number) => ({ id: `b${started}`, startedAt: at(started), finishedAt: at(finished) });
const hours = (points: ReturnType<typeof point>[], from: number, to: number) => {
  const exposure = longestExposure(points, at(from), at(to));
  return exposure && { hours: exposure.ms / 3_600_000, from: exposure.from, to: exposure.to };
};

describe('the longest exposure', () => {
  it('is the age of what the newest finished backup holds, at the worst moment', () => {
    // At hour 5 the backup that was begun at hour 1 is still the only one that can be used.
    expect(hours([point(3, 5), point(1, 2)], 1, 6)).toEqual({ hours: 4, from: at(1), to: at(5) });
  });

  it('begins with the backup that was there before the time that is looked at', () => {
    expect(hours([point(-10, -9), point(1, 2)], 0, 3)).toEqual({ hours: 12, from: at(-10), to: at(2) });
  });

  it('does not shrink by a backup that was begun earlier and ended later', () => {
    expect(hours([point(2, 3), point(1, 4)], 0, 5)).toEqual({ hours: 3, from: at(0), to: at(3) });
  });

  it('goes to the end, and is the whole time when there was no backup', () => {
    expect(hours([point(0, 1)], 0, 9)).toEqual({ hours: 9, from: at(0), to: at(9) });
    expect(hours([], 2, 9)).toEqual({ hours: 7, from: at(2), to: at(9) });
  });

  it('looks at no backup that ended after the time, and at no empty time', () => {
    expect(hours([point(1, 8)], 0, 6)).toEqual({ hours: 6, from: at(0), to: at(6) });
    expect(hours([point(1, 2)], 6, 6)).toBeNull();
  });
});

describe('a verdict', () => {
  it('is met to the very millisecond of the target', () => {
    expect([within(60_000, 1), within(60_001, 1), within(null, 1), within(1, null)]).toEqual([true, false, null, null]);
  });

  it('is missed by one finding, and unknown without any', () => {
    expect([verdictOf([true, null]), verdictOf([true, false]), verdictOf([null]), verdictOf([])]).toEqual([
      'met',
      'missed',
      'unknown',
      'unknown',
    ]);
  });
});
