import { describe, expect, it } from '@jest/globals';
import { parseDuration, parseSize, timeOfId } from './report-values.js';

describe('what a report from outside says', () => {
  it.each<[string | number, number | undefined]>([
    ['15s', 15_000],
    ['15 s', 15_000],
    ['1m30s', 90_000],
    ['1h 2m 3.5s', 3_723_500],
    ['2.5h', 9_000_000],
    ['500ms', 500],
    ['3 min', 180_000],
    ['1d', 86_400_000],
    ['00:01:30', 90_000],
    ['01:30', 90_000],
    ['PT15S', 15_000],
    ['PT1H2M', 3_720_000],
    ['P1DT1S', 86_401_000],
    ['15', 15_000],
    [15, 15_000],
    [1.5, 1500],
    [0, 0],
    ['', undefined],
    ['P', undefined],
    ['PT', undefined],
    ['-5s', undefined],
    [-1, undefined],
    [Number.NaN, undefined],
    ['5 fortnights', undefined],
    ['s', undefined],
    ['15s!', undefined],
  ])('as a duration: %s', (value, expected) => expect(parseDuration(value)).toBe(expected));

  it.each<[string | number, number | undefined]>([
    [1024, 1024],
    ['1024', 1024],
    ['12MB', 12_000_000],
    ['1.5 GiB', 1_610_612_736],
    ['0', 0],
    [-1, undefined],
    [1.5, undefined],
    ['12 parsecs', undefined],
    ['9999999999TB', undefined],
  ])('as a size: %s', (value, expected) => expect(parseSize(value)).toBe(expected));

  it.each([
    ['backup_2025-12-22_14-30-00', '2025-12-22T14:30:00.000Z'],
    ['backup_2025-12-22_14-30-00_k7m2qd', '2025-12-22T14:30:00.000Z'],
    ['backup_2025-13-22_14-30-00', undefined],
    ['backup_2025-02-30_14-30-00', undefined],
    ['backup_2025-12-22_24-30-00', undefined],
  ])('as the time of %s', (id, expected) => expect(timeOfId(id)?.toISOString()).toBe(expected));
});
