/** One trip to zstd's thread, and one turn of each stage, for so many bytes. */
export const BATCH_BYTES = 1024 * 1024;

/**
 * Lends out buffers, and takes each back once its bytes were consumed. Without it every MiB of a dump would be a new
 * allocation, and the collector, which counts them, would go through the whole heap some seventy times per GB.
 *
 * Whoever fills the buffers hands on all their bytes, in order; `consumed` is asked how many of them are used up.
 */
export class BatchPool {
  private readonly lent: { buffer: Buffer; end: number }[] = [];
  private position = 0;

  /** How many bytes of the stream nobody will look at again. As long as nobody says, no buffer is used twice. */
  consumed: () => number = () => 0;

  /** A buffer of BATCH_BYTES that nobody else looks at. */
  take(): Buffer {
    const [first] = this.lent;
    if (first === undefined || first.end > this.consumed()) return Buffer.allocUnsafeSlow(BATCH_BYTES);
    this.lent.shift();
    return first.buffer;
  }

  /** Says that a buffer was filled with the next `length` bytes of the stream. */
  lend(buffer: Buffer, length: number): void {
    this.position += length;
    this.lent.push({ buffer, end: this.position });
  }
}
