/**
 * Cuts a stream into chunks of one size, and holds the last full one back until more comes: only then is it known not to be
 * the last. Whole chunks within a large input are handed on without a copy.
 */
export class Chunker {
  private readonly held: Buffer;
  private used = 0;

  constructor(private readonly size: number) {
    this.held = Buffer.allocUnsafeSlow(size);
  }

  /** Takes more bytes, and calls `onChunk` for each chunk that is now known not to be the last. It must use it at once. */
  add(input: Buffer, onChunk: (chunk: Buffer) => void): void {
    let rest = input;
    while (rest.length > 0) {
      if (this.used === this.size) {
        onChunk(this.held);
        this.used = 0;
      }
      while (this.used === 0 && rest.length > this.size) {
        onChunk(rest.subarray(0, this.size));
        rest = rest.subarray(this.size);
      }
      const taken = rest.copy(this.held, this.used);
      this.used += taken;
      rest = rest.subarray(taken);
    }
  }

  /** What is left: the last chunk, full, shorter or empty. */
  last(): Buffer {
    return this.held.subarray(0, this.used);
  }
}
