import { describe, expect, it } from '@jest/globals';
import { isWorthKeeping, waitForNext } from './snapshot-taker.js';

describe('when the next snapshot of the embedded catalog is taken', () => {
  it('is at once when there was none', () => {
    expect(waitForNext(1_000_000, undefined)).toBe(0);
  });

  it('is a minute after the one before began', () => {
    expect(waitForNext(1_000_000, { startedAt: 990_000, durationMs: 50 })).toBe(50_000);
    expect(waitForNext(1_000_000, { startedAt: 900_000, durationMs: 50 })).toBe(0);
  });

  it('is later when one takes so long that it would cost more than a twentieth of the time', () => {
    expect(waitForNext(1_000_000, { startedAt: 1_000_000, durationMs: 10_000 })).toBe(200_000);
  });

  it('follows whatever a run has left, and every write, but not each beginning', () => {
    expect(
      (['backup.completed', 'restore.failed', 'verification.canceled', 'backup.queued', 'api.changed'] as const).filter(
        isWorthKeeping,
      ),
    ).toHaveLength(5);
    expect((['backup.started', 'restore.requeued'] as const).filter(isWorthKeeping)).toEqual([]);
  });
});
