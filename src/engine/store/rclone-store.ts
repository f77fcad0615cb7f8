import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { EngineError } from '../errors.js';
import { abortReason, destroyOnAbort } from './abort.js';
import type { Abortable, ReadOptions, StoredObject, WriteOptions } from './artifact-store.js';
import { RemoteStore } from './remote-store.js';
import { diskFull, objectExists, objectMissing } from './local-errors.js';
import { assertKey, isKey, normalizePrefix, TEMPORARY_PREFIX } from './object-key.js';
import { isNotThere, type RcloneAccess, RcloneProgram, toRcloneError } from './rclone-program.js';

export interface RcloneConfig extends RcloneAccess {
  /** `name:path`, where the name is one of the configuration. */
  remote: string;
}

interface Listed {
  Path: string;
  Size: number;
  ModTime: string;
  IsDir: boolean;
}

/** Pauses before each look at what was written. */
const LOOKS_AFTER_MS = [0, 200, 800, 2000];

/**
 * Files on any remote that rclone knows. Each is written under a temporary name and moved to its own when its size is right: many remotes
 * show a file while it is written, and keep what was written of one that was cut. No remote refuses a name that is taken; within this process writers
 * of one key wait for each other.
 */
export class RcloneStore extends RemoteStore {
  private readonly rclone: RcloneProgram;
  protected readonly where: string;
  private readonly root: string;
  private readonly busy = new Map<string, Promise<void>>();

  constructor(config: RcloneConfig) {
    super();
    this.rclone = new RcloneProgram(config);
    this.root = /[:/]$/.test(config.remote) ? config.remote : `${config.remote}/`;
    this.where = `the remote ${config.remote}`;
  }

  async write(
    key: string,
    body: Readable | AsyncIterable<Buffer> | Iterable<Buffer>,
    options: WriteOptions = {},
  ): Promise<{ bytes: number }> {
    const stream = body instanceof Readable ? body : Readable.from(body);
    stream.on('error', () => {});
    const { signal, expectedBytes } = options;
    let temporary: string | undefined;
    try {
      destroyOnAbort(stream, signal);
      assertKey(key);
      signal?.throwIfAborted();
      if (expectedBytes !== undefined) await this.assertRoom(expectedBytes, signal);
      if (!options.overwrite && (await this.stat(key, { signal }))) throw objectExists(key, this.where);
      temporary = key.replace(/[^/]+$/, `${TEMPORARY_PREFIX}${randomBytes(12).toString('hex')}`);
      const bytes = await this.upload(temporary, stream, key, signal);
      await this.oneAtATime(key, async () => {
        if (!options.overwrite && (await this.stat(key, { signal }))) throw objectExists(key, this.where);
        await this.move(temporary!, key, bytes, signal);
      });
      return { bytes };
    } catch (error) {
      if (temporary !== undefined) await this.delete(temporary, undefined).catch(() => undefined);
      if (signal?.aborted) throw abortReason(signal);
      throw error;
    } finally {
      stream.destroy();
    }
  }

  async read(key: string, { start = 0, end, signal }: ReadOptions = {}): Promise<Readable> {
    assertKey(key);
    signal?.throwIfAborted();
    if (start < 0 || (end !== undefined && end < start)) throw new RangeError(`A range from ${start} to ${end} is none.`);
    // rclone cat of a folder gives everything in it, one after the other.
    const found = await this.stat(key, { signal });
    if (!found) throw objectMissing(key, this.where);
    const wanted = Math.max(0, Math.min(end === undefined ? found.bytes : end + 1, found.bytes) - start);
    if (wanted === 0) return Readable.from([]);
    const out = new PassThrough({ highWaterMark: 1024 * 1024 });
    out.on('error', () => {});
    destroyOnAbort(out, signal);
    const args = ['cat', this.pathOf(key), ...(wanted === found.bytes ? [] : [`--offset=${start}`, `--count=${wanted}`])];
    let bytes = 0;
    const checked = async function* (content: AsyncIterable<Buffer>) {
      for await (const chunk of content) {
        bytes += chunk.length;
        yield chunk;
      }
    };
    this.rclone
      .run(args, (program) => pipeline(program.stdout, checked, out, { end: false }), { signal })
      .then(() => {
        if (bytes !== wanted) throw new Error(`it gave ${bytes} bytes instead of ${wanted}`);
        out.end();
      })
      .catch((error: unknown) => out.destroy(signal?.aborted ? abortReason(signal) : this.errorOf(error, 'read', key)));
    return out;
  }

  async stat(key: string, { signal }: Abortable = {}): Promise<{ bytes: number; modifiedAt: Date } | null> {
    assertKey(key);
    const found = await this.statOf(key, signal);
    return found && !found.IsDir ? { bytes: found.Size, modifiedAt: new Date(found.ModTime) } : null;
  }

  async *list(prefix: string, { signal }: Abortable = {}): AsyncGenerator<StoredObject> {
    for await (const { key, bytes, modifiedAt } of this.everything(normalizePrefix(prefix), signal))
      if (isKey(key)) yield { key, bytes, modifiedAt };
  }

  async rename(from: string, to: string, { signal }: Abortable = {}): Promise<void> {
    assertKey(from);
    assertKey(to);
    await this.oneAtATime(to, async () => {
      const source = await this.stat(from, { signal });
      if (!source) throw objectMissing(from, this.where);
      if (await this.stat(to, { signal })) throw objectExists(to, this.where);
      await this.move(from, to, source.bytes, signal);
    });
  }

  async remove(key: string, { signal }: Abortable = {}): Promise<void> {
    assertKey(key);
    await this.explained('remove', key, signal, () => this.delete(key, signal));
  }

  async removeTree(prefix: string, { signal }: Abortable = {}): Promise<void> {
    const bare = normalizePrefix(prefix);
    assertKey(bare);
    await this.explained('remove', bare, signal, async () => {
      await this.rclone.output(['purge', this.pathOf(bare)], signal).catch((error: unknown) => {
        if (!isNotThere(error)) throw error;
      });
    });
  }

  async removeStaleTemporaries(olderThanMs: number, prefix = '', { signal }: Abortable = {}): Promise<number> {
    const before = Date.now() - olderThanMs;
    const stale: string[] = [];
    for await (const { key, modifiedAt } of this.everything(normalizePrefix(prefix), signal))
      if (key.split('/').at(-1)!.startsWith(TEMPORARY_PREFIX) && modifiedAt.getTime() < before) stale.push(key);
    for (const key of stale) await this.explained('remove', key, signal, () => this.delete(key, signal));
    return stale.length;
  }

  /** What the remote says; many say nothing. */
  async freeBytes({ signal }: Abortable = {}): Promise<number | null> {
    signal?.throwIfAborted();
    try {
      const { free } = JSON.parse(await this.rclone.output(['about', '--json', this.root], signal)) as { free?: number };
      return free ?? null;
    } catch (error) {
      if (signal?.aborted) throw abortReason(signal);
      if (error instanceof EngineError && error.code === 'TOOL_MISSING') throw error;
      return null;
    }
  }

  /** None does, that rclone speaks of. */
  override async refusesTakenKeys(): Promise<boolean> {
    return false;
  }

  private async upload(temporary: string, body: Readable, key: string, signal: AbortSignal | undefined): Promise<number> {
    let bytes: number;
    let failure: { error: unknown } | undefined;
    body.once('error', (error) => (failure = { error }));
    try {
      bytes = await this.rclone.feed(['rcat', this.pathOf(temporary)], body, signal);
    } catch (error) {
      if (signal?.aborted) throw abortReason(signal);
      if (failure) throw failure.error;
      throw this.errorOf(error, 'write', key);
    }
    await this.assertHolds(temporary, key, bytes, signal);
    return bytes;
  }

  private async move(from: string, to: string, bytes: number, signal: AbortSignal | undefined): Promise<void> {
    await this.explained('move', from, signal, async () => {
      await this.rclone.output(['moveto', this.pathOf(from), this.pathOf(to)], signal);
    });
    await this.assertHolds(to, to, bytes, signal);
  }

  /** Some remotes show a little later what was written: that nothing is there counts only after a few looks. @throws EngineError STORE_FAILED */
  private async assertHolds(path: string, key: string, bytes: number, signal: AbortSignal | undefined): Promise<void> {
    let found: Listed | null = null;
    for (const pauseMs of LOOKS_AFTER_MS) {
      await delay(pauseMs);
      found = await this.statOf(path, signal);
      if (found) break;
    }
    if (found?.Size === bytes) return;
    throw new EngineError(
      'STORE_FAILED',
      `${this.where} holds ${found?.Size ?? 'no'} bytes of ${key} instead of ${bytes}.`,
      'Check the remote, then run the backup again.',
    );
  }

  private async statOf(path: string, signal: AbortSignal | undefined): Promise<Listed | null> {
    return this.explained('look at', path, signal, async () => {
      try {
        return JSON.parse(
          await this.rclone.output(['lsjson', '--stat', '--no-mimetype', this.pathOf(path)], signal),
        ) as Listed | null;
      } catch (error) {
        if (isNotThere(error)) return null;
        throw error;
      }
    });
  }

  private async delete(path: string, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.rclone.output(['deletefile', this.pathOf(path)], signal);
    } catch (error) {
      // Of a file that is not there it says the same as of a folder.
      if (!isNotThere(error) && (await this.statOf(path, signal))?.IsDir === false) throw error;
    }
  }

  /** Every file below a folder, line by line as rclone finds them. */
  private async *everything(bare: string, signal: AbortSignal | undefined): AsyncGenerator<StoredObject> {
    signal?.throwIfAborted();
    const lines = new PassThrough({ objectMode: true, highWaterMark: 100 });
    lines.on('error', () => {});
    const args = ['lsjson', '--recursive', '--files-only', '--no-mimetype', this.pathOf(bare)];
    const running = this.rclone
      .run(args, (program) => pipeline(createInterface({ input: program.stdout }), lines, { end: false }), { signal })
      // Only now is it known that it found everything.
      .then(() => lines.end())
      .catch((error: unknown) => {
        if (isNotThere(error)) return void lines.end();
        lines.destroy(signal?.aborted ? abortReason(signal) : this.errorOf(error, 'list', bare || 'the files'));
      });
    try {
      for await (const line of lines as AsyncIterable<string>) {
        const json = line.replace(/,$/, '');
        if (!json.startsWith('{')) continue;
        const { Path, Size, ModTime } = JSON.parse(json) as Listed;
        yield { key: bare === '' ? Path : `${bare}/${Path}`, bytes: Size, modifiedAt: new Date(ModTime) };
      }
    } finally {
      lines.destroy();
      await running;
    }
  }

  private async assertRoom(expectedBytes: number, signal: AbortSignal | undefined): Promise<void> {
    const free = await this.freeBytes({ signal });
    if (free !== null && free < expectedBytes) throw diskFull(this.where, 0);
  }

  private async oneAtATime(key: string, work: () => Promise<void>): Promise<void> {
    const before = this.busy.get(key) ?? Promise.resolve();
    const mine = before.then(work, work);
    const settled = mine.then(
      () => undefined,
      () => undefined,
    );
    this.busy.set(key, settled);
    try {
      await mine;
    } finally {
      if (this.busy.get(key) === settled) this.busy.delete(key);
    }
  }

  private pathOf(key: string): string {
    return this.root + key;
  }

  protected errorOf(error: unknown, action: string, key: string): EngineError {
    return toRcloneError(error, action, key, this.where);
  }
}
