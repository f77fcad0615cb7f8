import { describe, expect, it } from '@jest/globals';
import { RowMultisetDigest } from './row-multiset.js';

function digestOf(...chunks: string[]) {
  const digest = new RowMultisetDigest();
  for (const chunk of chunks) digest.write(Buffer.from(chunk));
  return digest.digest();
}

describe('the multiset of rows', () => {
  it('does not depend on the order, nor on how the bytes come', () => {
    expect(digestOf('a\nb\nb\n')).toEqual(digestOf('b\na\nb\n'));
    expect(digestOf('a', 'b', 'c\n', '\nd\n')).toEqual(digestOf('d\nabc\n\n'));
  });

  it('tells a row more, a row less, another row, and another number of the same', () => {
    const of = digestOf('a\nb\nb\n').sum;
    for (const other of ['a\nb\n', 'a\nb\nb\nb\n', 'a\nb\nc\n', 'a\na\nb\n', 'ab\n\nb\n', ''])
      expect(digestOf(other).sum).not.toBe(of);
  });

  it('ends at the mark, counts empty rows before it, and nothing after it', () => {
    expect(digestOf('\n\n\\.\n\n\n')).toEqual(digestOf('\n\n'));
    expect(digestOf('\n\n').rows).toBe(2);
    expect(digestOf('\\.\n\n\n').rows).toBe(0);
  });
});
