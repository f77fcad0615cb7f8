import { createHash } from 'node:crypto';
import { mkdir, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { EngineError } from '../errors.js';
import { describeSystemError, isDiskFull } from '../store/local-errors.js';
import { inBatches } from '../store/local-files.js';
import type { Changes, Spool } from './spool.js';
import { SpoolSegment } from './spool-segment.js';

/** What the uploader has read of a spool is removed in pieces of so many bytes, so that the rest has room. */
const MOST_SEGMENT_BYTES = 64 * 1024 * 1024;

/**
 * One object on its way through the spool: written at full speed, read by the uploader at its own. Where there is no room, the writer
 * waits for the reader, and hands it its bytes in memory when there is nothing left to wait for: so it is never slower than without a spool.
 */
export class SpooledObject {
  /** Bytes that have come in. */
  bytes = 0;
  private readonly segments: SpoolSegment[] = [];
  private handedOver: Buffer[] | undefined;
  private failure: { error: unknown } | undefined;
  private isComplete = false;
  /** Whether the reader has everything there was, and waits. */
  private isReaderIdle = false;
  private segmentCount = 0;
  private readonly written = createHash('sha256');

  /**
   * @param name names its files; unique in the spool
   * @param changes of all objects of the run: what one frees is another's
   * @param onDiskFull is told each time that the disk, not the budget, had no room
   */
  constructor(
    private readonly name: string,
    private readonly spool: Spool,
    private readonly changes: Changes,
    private readonly onDiskFull: () => void,
  ) {}

  /** Takes a body to its end. @throws what the body throws, the failure, or EngineError STORE_FAILED */
  async fill(body: AsyncIterable<Buffer>): Promise<void> {
    try {
      for await (const batch of inBatches(body)) {
        for (const chunk of batch) this.written.update(chunk);
        this.bytes += lengthOf(batch);
        await this.put(batch);
      }
      this.assertWell();
      await this.closeLast();
    } catch (error) {
      this.fail(error);
      throw error;
    }
    this.isComplete = true;
    this.changes.notify();
  }

  /** What was written, in order, once. Its end comes only after the last byte, and only when they are those that were written. */
  async *read(): AsyncGenerator<Buffer> {
    const read = createHash('sha256');
    for await (const chunk of this.pieces()) {
      read.update(chunk);
      yield chunk;
    }
    if (read.digest('hex') === this.written.digest('hex')) return;
    throw new EngineError(
      'STORE_FAILED',
      `The spool folder ${dirname(this.spool.folder)} gave back other bytes than were written.`,
      'Check the device and the file system below it, or back the source up without a spool.',
    );
  }

  /** Ends both sides with this error, unless they have ended. */
  fail(error: unknown): void {
    this.failure ??= { error };
    this.changes.notify();
  }

  /** Gives up what is still in the spool; both sides have ended. */
  async close(): Promise<void> {
    for (let [next] = this.segments; next; [next] = this.segments) await this.release(next);
  }

  private async *pieces(): AsyncGenerator<Buffer> {
    for (;;) {
      this.assertWell();
      const [segment] = this.segments;
      const batch = this.handedOver;
      // It was handed over when there was no segment: it comes before those that there are now.
      if (batch) {
        this.handedOver = undefined;
        this.changes.notify();
        yield* batch;
      } else if (segment) {
        yield* this.explained(segment.read(() => this.changed()));
        await this.release(segment);
        this.changes.notify();
      } else if (this.isComplete) return;
      else {
        this.isReaderIdle = true;
        this.changes.notify();
        await this.changes.next();
        this.isReaderIdle = false;
      }
    }
  }

  private async changed(): Promise<void> {
    await this.changes.next();
    this.assertWell();
  }

  private async put(batch: Buffer[]): Promise<void> {
    let rest = batch;
    for (;;) {
      this.assertWell();
      rest = await this.store(rest);
      if (rest.length === 0) return;
      // What can be read to its end can be removed, which makes room.
      await this.closeLast();
      // From here to the wait nothing else runs: whatever changes afterwards is waited for. Whoever waits here must not say so himself.
      if (this.segments.length === 0 && this.isReaderIdle && this.handedOver === undefined) {
        this.handedOver = rest;
        this.changes.notify();
        return;
      }
      this.assertWell();
      await this.changes.next();
    }
  }

  /** @returns what there was no room for */
  private async store(batch: Buffer[]): Promise<Buffer[]> {
    const { budget } = this.spool;
    const wanted = lengthOf(batch);
    if (!budget.take(wanted)) return batch;
    let segment: SpoolSegment | undefined;
    let before = 0;
    try {
      segment = await this.openSegment();
      before = segment?.bytes ?? 0;
      await segment?.append(batch, () => this.changes.notify());
      if (segment && segment.bytes >= this.segmentBytes) await this.closeLast();
      if (segment) return [];
    } catch (error) {
      if (!isDiskFull(error)) {
        budget.give(wanted - ((segment?.bytes ?? 0) - before));
        throw unusable(this.spool.folder, error);
      }
    }
    const kept = (segment?.bytes ?? 0) - before;
    budget.give(wanted - kept);
    this.onDiskFull();
    return after(batch, kept);
  }

  /** The one to write to; none where the disk is to be left to others. @throws the system's error */
  private async openSegment(): Promise<SpoolSegment | undefined> {
    const last = this.segments.at(-1);
    if (last && !last.isClosed) return last;
    const { folder, leastFreeBytes } = this.spool;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const { bavail, bsize } = await statfs(folder);
    if (bavail * bsize < leastFreeBytes) return undefined;
    const segment = await SpoolSegment.create(join(folder, `${this.name}.${++this.segmentCount}`));
    this.segments.push(segment);
    return segment;
  }

  private async closeLast(): Promise<void> {
    const last = this.segments.at(-1);
    if (!last || last.isClosed) return;
    await last.close().catch((error: unknown) => Promise.reject(unusable(this.spool.folder, error)));
    this.changes.notify();
  }

  /** Once only, whoever comes first. */
  private async release(segment: SpoolSegment): Promise<void> {
    const at = this.segments.indexOf(segment);
    if (at < 0) return;
    this.segments.splice(at, 1);
    this.spool.budget.give(segment.bytes);
    await segment.remove().catch((error: unknown) => Promise.reject(unusable(this.spool.folder, error)));
  }

  private get segmentBytes(): number {
    return Math.min(MOST_SEGMENT_BYTES, this.spool.budget.maxBytes / 4);
  }

  private async *explained(chunks: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
    try {
      yield* chunks;
    } catch (error) {
      throw this.failure?.error === error ? error : unusable(this.spool.folder, error);
    }
  }

  private assertWell(): void {
    if (this.failure) throw this.failure.error;
  }
}

function unusable(folder: string, error: unknown): EngineError {
  if (error instanceof EngineError) return error;
  return new EngineError(
    'STORE_FAILED',
    `The spool folder ${dirname(folder)} can't be used: ${describeSystemError(error)}.`,
    'Let SPOOL_DIR name a folder that the server may write to, or back the source up without a spool.',
    { cause: error },
  );
}

function lengthOf(batch: readonly Buffer[]): number {
  return batch.reduce((bytes, chunk) => bytes + chunk.length, 0);
}

/** The batch without its first bytes. */
function after(batch: readonly Buffer[], bytes: number): Buffer[] {
  let left = bytes;
  const rest: Buffer[] = [];
  for (const chunk of batch) {
    if (left < chunk.length) rest.push(left > 0 ? chunk.subarray(left) : chunk);
    left = Math.max(0, left - chunk.length);
  }
  return rest;
}
