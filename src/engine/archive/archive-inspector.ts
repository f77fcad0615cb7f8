import { Transform, type TransformCallback } from 'node:stream';
import { ArchiveReader, type ArchiveReaderOptions, type ArchiveSummary } from './archive-reader.js';

const BUFFERED_BYTES = 1024 * 1024;

/**
 * Lets an archive through unchanged (the very same buffers) and takes its inventory on the way. A damaged archive ends the
 * stream with EngineError ARCHIVE_CORRUPT.
 */
export class ArchiveInspector extends Transform {
  readonly #reader: ArchiveReader;

  constructor(options: ArchiveReaderOptions = {}) {
    super({ highWaterMark: BUFFERED_BYTES });
    this.#reader = new ArchiveReader(options);
  }

  /** Bytes of the archive that went through so far. */
  get bytes(): number {
    return this.#reader.bytes;
  }

  get tablesDone(): number {
    return this.#reader.tablesDone;
  }

  /** Tables whose data is in the archive; null until the table of contents is read. */
  get tablesTotal(): number | null {
    return this.#reader.tablesTotal;
  }

  /** What the archive holds; only after the stream's end. */
  summary(): ArchiveSummary {
    return this.#reader.summary();
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    try {
      this.#reader.write(chunk);
    } catch (error) {
      done(asError(error));
      return;
    }
    done(null, chunk);
  }

  override _flush(done: TransformCallback): void {
    try {
      this.#reader.end();
    } catch (error) {
      done(asError(error));
      return;
    }
    done();
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error('The archive could not be read', { cause: error });
}
