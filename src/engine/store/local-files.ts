import { constants } from 'node:fs';
import { mkdir, open, rmdir, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { callbackify } from 'node:util';
import { systemCode } from './local-errors.js';

/** Few, large chunks: one system call and one turn of the event loop per MiB. */
const CHUNK_BYTES = 1024 * 1024;

/** Makes a folder's entries durable. File systems that can't sync a folder (some network mounts) say so with these codes. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } catch (error) {
    if (!['EINVAL', 'ENOTSUP', 'ENOSYS'].includes(systemCode(error) ?? '')) throw error;
  } finally {
    await handle.close();
  }
}

/** Makes the folders from `root` (which must exist) down to `folder`, each 0700, and makes each new entry durable. */
export async function makeFolders(root: string, folder: string): Promise<void> {
  let parent = root;
  for (const segment of path.relative(root, folder).split(path.sep).filter(Boolean)) {
    const child = path.join(parent, segment);
    if (await makeFolder(child)) await syncFolder(parent);
    parent = child;
  }
}

async function makeFolder(folder: string): Promise<boolean> {
  try {
    await mkdir(folder, { mode: 0o700 });
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

/** Removes `folder` and its parents up to, but without, `root`, for as long as they are empty. */
export async function pruneEmptyFolders(root: string, folder: string): Promise<void> {
  for (let current = folder; current !== root && current.startsWith(root + path.sep); current = path.dirname(current)) {
    try {
      await rmdir(current);
    } catch (error) {
      // Gone already: its parent may still be empty. Anything else (mostly: not empty) ends the climb.
      if (systemCode(error) !== 'ENOENT') return;
    }
  }
}

/** Writes all parts at the handle's position. A full disk shows first as a short write, then as an error: so it loops. */
export async function writeFully(handle: FileHandle, parts: Buffer[], onBytes: (count: number) => void): Promise<void> {
  let rest = parts;
  while (rest.length > 0) {
    let { bytesWritten: written } = await handle.writev(rest);
    onBytes(written);
    let whole = 0;
    while (whole < rest.length && written >= rest[whole]!.length) written -= rest[whole++]!.length;
    rest = rest.slice(whole);
    if (written > 0) rest[0] = rest[0]!.subarray(written);
  }
}

/** Gathers a stream's chunks into batches of about one MiB (or more, when one chunk is larger). Empty chunks vanish. */
export async function* inBatches(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer[]> {
  let batch: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    if (chunk.length === 0) continue;
    batch.push(chunk);
    bytes += chunk.length;
    if (bytes < CHUNK_BYTES && batch.length < 512) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}

/** Reads an open file from `start` to `end` (itself included), owns the handle and closes it. */
export class FileReadStream extends Readable {
  constructor(
    private readonly handle: FileHandle,
    private position: number,
    private readonly end: number,
    private readonly explain: (error: unknown) => Error,
  ) {
    super({ highWaterMark: CHUNK_BYTES });
  }

  override _read(): void {
    const wanted = Math.min(CHUNK_BYTES, this.end - this.position + 1);
    if (wanted <= 0) return void this.push(null);
    this.handle.read(Buffer.allocUnsafeSlow(wanted), 0, wanted, this.position).then(
      ({ bytesRead, buffer }) => {
        this.position += bytesRead;
        this.push(bytesRead === 0 ? null : buffer.subarray(0, bytesRead));
      },
      (error: unknown) => this.destroy(this.explain(error)),
    );
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    callbackify(() => this.handle.close())((closing) => done(error ?? (closing ? this.explain(closing) : null)));
  }
}
