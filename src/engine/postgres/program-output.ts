import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { BATCH_BYTES, type BatchPool } from '../artifact/batch-pool.js';

/** A batch with less room than this is handed on: the socket's buffer holds more, so that a read would be cut short. */
const LEAST_ROOM_BYTES = 64 * 1024;

/** Where a child process writes, and where we read it. */
export interface ProgramOutput {
  /** Gives batches of about a MiB out of the pool; fewer only at the end. */
  stdout: Readable;
  /** The child's end: it becomes its stdout, and is closed on our side then. */
  childEnd: Socket;
}

/**
 * A connection for the output of a program that writes much. Node's own pipe allocates 64 KiB for each read and gets some 9 KB of
 * pg_dump; here all reads go straight into large buffers that are used again (docs/BENCHMARKS.md has the figures).
 */
export async function openProgramOutput(pool: BatchPool): Promise<ProgramOutput> {
  // Only we can enter this folder, so nobody else connects; it is gone before the first byte comes.
  const folder = await mkdtemp(join(tmpdir(), 'backstay-out-'));
  const server = createServer({ pauseOnConnect: true });
  try {
    const path = join(folder, 's');
    server.listen(path);
    await once(server, 'listening');
    const accepted = once(server, 'connection');
    const stdout = new BatchReader(path, pool);
    const [childEnd] = (await accepted) as [Socket];
    return { stdout, childEnd };
  } finally {
    server.close();
    await rm(folder, { recursive: true, force: true });
  }
}

class BatchReader extends Readable {
  private batch: Buffer;
  private filled = 0;
  private whole = false;
  private readonly socket: Socket;

  constructor(
    path: string,
    private readonly pool: BatchPool,
  ) {
    super({ highWaterMark: BATCH_BYTES });
    this.batch = pool.take();
    this.socket = connect({
      path,
      onread: { buffer: () => this.batch.subarray(this.filled), callback: (bytes) => this.received(bytes) },
    });
    this.socket.once('end', () => {
      this.whole = true;
      this.handOn();
      this.push(null);
    });
    this.socket.once('error', (error) => this.destroy(error));
    this.socket.once('close', () => {
      // After the end there may be batches that nobody has read yet: they stay.
      if (!this.whole) this.destroy();
    });
  }

  override _read(): void {
    this.socket.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.socket.destroy();
    done(error);
  }

  /** @returns whether more is wanted */
  private received(bytes: number): boolean {
    this.filled += bytes;
    return BATCH_BYTES - this.filled >= LEAST_ROOM_BYTES || this.handOn();
  }

  private handOn(): boolean {
    if (this.filled === 0) return true;
    const { batch, filled } = this;
    this.pool.lend(batch, filled);
    this.batch = this.pool.take();
    this.filled = 0;
    return this.push(batch.subarray(0, filled));
  }
}
