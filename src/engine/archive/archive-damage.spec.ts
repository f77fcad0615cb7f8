import { describe, expect, it } from '@jest/globals';
import { sampleArchive } from '../../../test/support/archive-writer.js';
import { EngineError } from '../errors.js';
import { ARCHIVE_VERSIONS } from './archive-header.js';
import { ArchiveReader } from './archive-reader.js';

/** What was understood, as text, or null where the archive was refused. Any other error fails the test. */
function outcome(bytes: Buffer): string | null {
  const reader = new ArchiveReader();
  try {
    reader.write(bytes);
    reader.end();
  } catch (error) {
    if (error instanceof EngineError && error.code === 'ARCHIVE_CORRUPT') return null;
    throw error;
  }
  const { tables, largeObjects } = reader.summary();
  return JSON.stringify({ tables, largeObjects });
}

function flipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] = copy.readUInt8(bit >> 3) ^ (1 << (bit & 7));
  return copy;
}

/** Numbers from 0 below `limit` that are the same in every run (a linear congruential generator). */
function seeded(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

describe.each(ARCHIVE_VERSIONS)('a damaged archive of version %s', (version) => {
  const { bytes, header } = sampleArchive(version);
  const sound = outcome(bytes);

  it('is refused or understood as something else when any bit of its data flips', () => {
    const unnoticed: number[] = [];
    for (let bit = header.length * 8; bit < bytes.length * 8; bit += 1) {
      if (outcome(flipped(bytes, bit)) === sound) unnoticed.push(bit);
    }
    expect(sound).not.toBeNull();
    expect(unnoticed).toEqual([]);
  });

  it('never crashes its reader when a bit of any byte of its table of contents flips', () => {
    let refused = 0;
    for (let at = 0; at < header.length; at += 1) if (outcome(flipped(bytes, at * 8 + (at % 8))) === null) refused += 1;
    expect(refused).toBeGreaterThan(header.length / 4);
  });

  it('never crashes its reader when pieces of it are lost, doubled or overwritten', () => {
    const random = seeded(20_251_222);
    let refused = 0;
    for (let round = 0; round < 2_000; round += 1) {
      const at = random(bytes.length);
      const length = 1 + random(40);
      const noise = Buffer.from(Array.from({ length }, () => random(256)));
      const inserted = [Buffer.alloc(0), bytes.subarray(at, at + length), noise][random(3)] ?? noise;
      const from = at + (random(2) === 0 ? length : 0);
      if (outcome(Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(from)])) === null) refused += 1;
    }
    expect(refused).toBeGreaterThan(1_000);
  });

  it('is refused when it is nothing but noise', () => {
    const random = seeded(7);
    for (let round = 0; round < 200; round += 1) {
      const noise = Buffer.from(Array.from({ length: 300 }, () => random(256)));
      expect(outcome(noise)).toBeNull();
      expect(outcome(Buffer.concat([bytes.subarray(0, random(bytes.length)), noise]))).toBeNull();
    }
  });
});
