import { describe, expect, it } from '@jest/globals';
import { LruThrottlerStorage } from './rate-limit.js';

describe('rate counters', () => {
  it('block what is over the limit and open again when the minute is over', async () => {
    let now = 0;
    const storage = new LruThrottlerStorage(10, () => now);
    const hit = () => storage.increment('a', 60_000, 2);
    expect((await hit()).isBlocked).toBe(false);
    now = 30_000;
    expect((await hit()).isBlocked).toBe(false);
    expect(await hit()).toMatchObject({ isBlocked: true, totalHits: 3, timeToBlockExpire: 30 });
    now = 60_000;
    expect(await hit()).toMatchObject({ isBlocked: false, totalHits: 1 });
  });

  it('keep clients apart', async () => {
    const storage = new LruThrottlerStorage(10, () => 0);
    await storage.increment('a', 60_000, 1);
    expect((await storage.increment('b', 60_000, 1)).totalHits).toBe(1);
  });

  it('stay within their bound under a flood of clients', async () => {
    const storage = new LruThrottlerStorage(100, () => 0);
    for (let i = 0; i < 1_000; i += 1) await storage.increment(`client ${i}`, 60_000, 1);
    expect((await storage.increment('client 0', 60_000, 1)).totalHits).toBe(1);
    expect((await storage.increment('client 999', 60_000, 1)).totalHits).toBe(2);
  });
});
