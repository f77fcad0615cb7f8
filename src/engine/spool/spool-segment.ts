import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { writeFully } from '../store/local-files.js';

const CHUNK_BYTES = 1024 * 1024;

/** One file of a spool, read while it is written, by whoever holds the other end. */
export class SpoolSegment {
  /** Bytes that can be read. */
  bytes = 0;

  private constructor(
    private readonly path: string,
    private writer: FileHandle | undefined,
  ) {}

  /** @throws the system's error */
  static async create(path: string): Promise<SpoolSegment> {
    return new SpoolSegment(path, await open(path, constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY, 0o600));
  }

  /** Whether nothing more will be written. */
  get isClosed(): boolean {
    return this.writer === undefined;
  }

  /** @throws the system's error; `bytes` says how much was written before */
  async append(parts: Buffer[], onBytes: () => void): Promise<void> {
    if (!this.writer) throw new Error('The segment is closed');
    await writeFully(this.writer, parts, (count) => {
      this.bytes += count;
      onBytes();
    });
  }

  async close(): Promise<void> {
    const writer = this.writer;
    this.writer = undefined;
    await writer?.close();
  }

  /** Everything in it, once; waits by `more` for what is not written yet. @throws the system's error */
  async *read(more: () => Promise<void>): AsyncGenerator<Buffer> {
    const reader = await open(this.path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      let position = 0;
      for (;;) {
        const wanted = Math.min(CHUNK_BYTES, this.bytes - position);
        if (wanted === 0 && this.isClosed) return;
        if (wanted === 0) {
          await more();
          continue;
        }
        const { bytesRead, buffer } = await reader.read(Buffer.allocUnsafeSlow(wanted), 0, wanted, position);
        if (bytesRead === 0) throw new Error('the file is shorter than what was written to it');
        position += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await reader.close();
    }
  }

  async remove(): Promise<void> {
    await this.close();
    await rm(this.path, { force: true });
  }
}
