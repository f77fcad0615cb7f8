import { describe, expect, it } from '@jest/globals';
import { nextAttemptAt, retryAfterMs } from './retry-plan.js';

const NOW = new Date('2026-01-01T00:00:00Z');
const seconds = (tries: number, asked: number | null = null) => {
  const at = nextAttemptAt(tries, NOW, asked);
  return at && (at.getTime() - NOW.getTime()) / 1000;
};

describe('the retry plan', () => {
  it('has ten attempts, further and further apart', () => {
    expect(Array.from({ length: 11 }, (_, tries) => seconds(tries))).toEqual([
      0,
      5,
      300,
      1800,
      7200,
      18_000,
      36_000,
      50_400,
      72_000,
      86_400,
      null,
    ]);
  });

  it('waits as long as the receiver asks, when that is longer, for a day at most', () => {
    expect(seconds(1, 60_000)).toBe(60);
    expect(seconds(2, 60_000)).toBe(300);
    expect(seconds(1, 90 * 86_400_000)).toBe(86_400);
    expect(seconds(10, 60_000)).toBeNull();
  });

  it.each([
    ['120', 120_000],
    ['0', 0],
    ['Thu, 01 Jan 2026 00:01:00 GMT', 60_000],
    ['Wed, 31 Dec 2025 00:00:00 GMT', 0],
    ['-5', null],
    ['1.5', null],
    ['soon', null],
    ['2026', 2_026_000],
    ['', null],
    [undefined, null],
  ])('reads Retry-After: %s', (header, expected) => expect(retryAfterMs(header, NOW)).toBe(expected));
});
