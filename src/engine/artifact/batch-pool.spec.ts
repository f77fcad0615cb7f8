import { describe, expect, it } from '@jest/globals';
import { BATCH_BYTES, BatchPool } from './batch-pool.js';

describe('BatchPool', () => {
  it('uses a buffer again once all its bytes were consumed, and not one byte earlier', () => {
    const pool = new BatchPool();
    let consumed = 0;
    pool.consumed = () => consumed;
    const first = pool.take();
    expect(first).toHaveLength(BATCH_BYTES);
    pool.lend(first, 100);
    const second = pool.take();
    pool.lend(second, 50);
    consumed = 99;
    expect(pool.take()).not.toBe(first);
    consumed = 149;
    expect(pool.take()).toBe(first);
    expect(pool.take()).not.toBe(second);
    consumed = 150;
    expect(pool.take()).toBe(second);
  });

  it('never uses a buffer twice when nobody says what was consumed', () => {
    const pool = new BatchPool();
    const first = pool.take();
    pool.lend(first, 1);
    expect(pool.take()).not.toBe(first);
  });
});
