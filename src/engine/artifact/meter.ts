import { createHash, type Hash } from 'node:crypto';
import { Transform, type TransformCallback } from 'node:stream';

/** Counts what passes through it, unchanged and without a copy, and hashes it unless told not to. */
export class Meter extends Transform {
  /** Bytes that have come in so far. */
  bytes = 0;
  private readonly hash: Hash | undefined;
  private digest: string | undefined;

  /** @param onBytes is told the count so far, once per chunk; whoever shows it limits how often */
  constructor(
    private readonly onBytes?: (bytes: number) => void,
    hashed = true,
  ) {
    super({ highWaterMark: 1024 * 1024 });
    this.hash = hashed ? createHash('sha256') : undefined;
  }

  /** SHA-256 of everything, in hex. Only once the stream has ended, and where it was hashed. */
  get sha256(): string {
    if (this.digest === undefined) throw new Error('The hash is not known before the end of the stream.');
    return this.digest;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.bytes += chunk.length;
    this.hash?.update(chunk);
    this.onBytes?.(this.bytes);
    done(null, chunk);
  }

  override _flush(done: TransformCallback): void {
    this.digest = this.hash?.digest('hex');
    done();
  }
}
