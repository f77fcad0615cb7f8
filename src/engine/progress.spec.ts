import { describe, expect, it } from '@jest/globals';
import { type Progress, ProgressMeter } from './progress.js';

describe('progress', () => {
  it('tells at most twice a second, never goes back and never says 100 before the end', () => {
    const told: Progress[] = [];
    let now = 0;
    const meter = new ProgressMeter(
      (progress) => told.push(progress),
      () => now,
    );
    meter.begin('dump', 1000);
    for (let bytes = 10; bytes <= 3000; bytes += 10) {
      now += 10;
      meter.passed(bytes);
    }
    expect(told.length).toBeLessThanOrEqual(8);
    expect(told.at(-1)?.percent).toBe(99);
    expect(told.map((each) => each.percent)).toEqual(told.map((each) => each.percent).sort((a, b) => a - b));
    expect(told.at(-1)?.bytesPerSecond).toBe(1000);
    meter.begin('manifest');
    expect(told.at(-1)).toMatchObject({ phase: 'manifest', percent: 99 });
  });

  it('estimates the time that is left by the rate', () => {
    const told: Progress[] = [];
    let now = 0;
    const meter = new ProgressMeter(
      (progress) => told.push(progress),
      () => now,
    );
    meter.begin('dump', 10_000);
    now = 1000;
    meter.passed(2000);
    expect(told.at(-1)).toMatchObject({ percent: 20, bytesPerSecond: 2000, etaSeconds: 4 });
  });
});
