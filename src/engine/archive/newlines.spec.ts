import { describe, expect, it } from '@jest/globals';
import { countNewlines } from './newlines.js';

function count(bytes: Buffer, length = bytes.length): number {
  const memory = new ArrayBuffer(Math.ceil(bytes.length / 8) * 8);
  const copy = Buffer.from(memory);
  bytes.copy(copy);
  return countNewlines(copy, new Int32Array(memory), length);
}

describe('countNewlines', () => {
  it('agrees with a plain loop for every pattern of newlines and their neighbours in a word', () => {
    const alphabet = [0x0a, 0x0b, 0x09, 0x8a, 0x00, 0xff];
    const bytes = Buffer.alloc(8);
    for (let pattern = 0; pattern < alphabet.length ** 5; pattern += 1) {
      let rest = pattern;
      for (let at = 0; at < 5; at += 1) {
        bytes[(at + 2) % 8] = alphabet[rest % alphabet.length] ?? 0;
        rest = Math.floor(rest / alphabet.length);
      }
      const plain = bytes.filter((byte) => byte === 0x0a).length;
      if (count(bytes) !== plain) expect([bytes.toString('hex'), count(bytes)]).toEqual([bytes.toString('hex'), plain]);
    }
    expect(count(Buffer.alloc(8, '\n'))).toBe(8);
  });

  it('counts nothing beyond the length', () => {
    const bytes = Buffer.alloc(33, '\n');
    for (let length = 0; length <= 33; length += 1) expect(count(bytes, length)).toBe(length);
  });
});
