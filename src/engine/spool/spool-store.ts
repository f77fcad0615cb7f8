import { rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { EngineError } from '../errors.js';
import { abortReason, destroyOnAbort } from '../store/abort.js';
import type { Abortable, WriteOptions } from '../store/artifact-store.js';
import type { StagingStore } from '../store/tee-store.js';
import { Changes, type Spool } from './spool.js';
import { SpooledObject } from './spooled-object.js';

/**
 * Takes objects at the speed of a disk and brings them to their destinations behind the writer's back, one after the other. An
 * object that was written is not yet stored: `settle` waits for that. Everything that comes in is encrypted already.
 */
export class SpoolStore implements StagingStore {
  private readonly objects = new Map<string, SpooledObject>();
  private readonly changes = new Changes();
  private readonly ending = new AbortController();
  private readonly signal: AbortSignal;
  private uploads: Promise<void> = Promise.resolve();
  private uploadedBytes = 0;
  private onUploaded: (bytes: number) => void = () => undefined;
  private wasFull = false;

  /** @param onDiskFull is told once when the disk of the spool has no room, so that the writer waits although the budget would not ask for it */
  constructor(
    private readonly inner: StagingStore,
    private readonly spool: Spool,
    signal: AbortSignal,
    private readonly onDiskFull: () => void,
  ) {
    this.signal = AbortSignal.any([signal, this.ending.signal]);
  }

  /** Bytes that have come in, of all objects. */
  get bytes(): number {
    return [...this.objects.values()].reduce((bytes, object) => bytes + object.bytes, 0);
  }

  /** Resolves when the spool has all of it, or the destinations what it has no room for. @throws what an upload before it failed with */
  async write(
    key: string,
    body: Readable | AsyncIterable<Buffer> | Iterable<Buffer>,
    options: WriteOptions = {},
  ): Promise<{ bytes: number }> {
    const source = body instanceof Readable ? body : Readable.from(body);
    source.on('error', () => {});
    const object = new SpooledObject(String(this.objects.size + 1), this.spool, this.changes, () => this.noteFull());
    this.objects.set(key, object);
    this.uploads = this.uploads
      .then(() => this.upload(key, object, options))
      .catch((error: unknown) => {
        object.fail(error);
        source.destroy(error as Error);
        throw error;
      });
    // Whoever writes, or settles, hears of it.
    this.uploads.catch(() => undefined);
    try {
      destroyOnAbort(source, options.signal);
      await object.fill(source as AsyncIterable<Buffer>);
      return { bytes: object.bytes };
    } catch (error) {
      object.fail(error);
      if (options.signal?.aborted) throw abortReason(options.signal);
      throw error;
    } finally {
      source.destroy();
    }
  }

  /** Takes an object back that was written, and with it all that is still on its way: whoever does so has given the attempt up. */
  async remove(key: string, options?: Abortable): Promise<void> {
    await this.giveUp();
    await this.inner.remove(key, options);
  }

  freeBytes(options?: Abortable): Promise<number | null> {
    return this.inner.freeBytes(options);
  }

  /** Waits until everything that was written is stored. @param onBytes is told of how many bytes are. @throws what an upload failed with */
  async settle(onBytes: (bytes: number) => void): Promise<void> {
    this.onUploaded = onBytes;
    await this.uploads;
  }

  /** Ends what is on its way, and removes the spool's folder. */
  async close(): Promise<void> {
    await this.giveUp();
    for (const object of this.objects.values()) await object.close();
    await rm(this.spool.folder, { recursive: true, force: true });
  }

  private async giveUp(): Promise<void> {
    const reason = new EngineError('CANCELED', 'The backup was given up.', 'Start it again if it is still wanted.');
    for (const object of this.objects.values()) object.fail(reason);
    this.ending.abort(reason);
    await this.uploads.catch(() => undefined);
  }

  private async upload(key: string, object: SpooledObject, options: WriteOptions): Promise<void> {
    const { bytes } = await this.inner.write(key, Readable.from(this.counted(object)), { ...options, signal: this.signal });
    if (bytes === object.bytes) return;
    throw new EngineError(
      'STORE_FAILED',
      `The store took ${bytes} of the ${object.bytes} bytes of ${key}.`,
      'Run the backup again; if it repeats, check the destination.',
    );
  }

  private async *counted(object: SpooledObject): AsyncGenerator<Buffer> {
    for await (const chunk of object.read()) {
      yield chunk;
      this.uploadedBytes += chunk.length;
      this.onUploaded(this.uploadedBytes);
    }
  }

  private noteFull(): void {
    if (!this.wasFull) this.onDiskFull();
    this.wasFull = true;
  }
}
