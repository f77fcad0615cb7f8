/** The one range that a Range header asks for. */
export interface ByteRange {
  start: number;
  /** Last byte, itself included. */
  end: number;
}

/**
 * Reads `bytes=a-b`, `bytes=a-` or `bytes=-n` against an object's size.
 * @returns undefined when there is no header, or one that may be ignored (several ranges, another unit); null when it can't be satisfied
 */
export function parseRange(header: string | undefined, size: number): ByteRange | null | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  const [, first = '', last = ''] = match;
  if (first === '') {
    const length = Math.min(Number(last), size);
    return length === 0 ? null : { start: size - length, end: size - 1 };
  }
  const start = Number(first);
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1);
  if (last !== '' && Number(last) < start) return undefined;
  return start >= size ? null : { start, end };
}
