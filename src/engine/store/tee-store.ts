import { PassThrough, Readable } from 'node:stream';
import { abortReason, destroyOnAbort } from './abort.js';
import type { Abortable, ArtifactStore, WriteOptions } from './artifact-store.js';
import { removeSegments, writeSegments } from './segments.js';

/** One of the destinations that a backup is written to. */
export interface Member {
  id: string;
  store: ArtifactStore;
}

/** The part of a store that staging a backup needs. */
export type StagingStore = Pick<ArtifactStore, 'write' | 'remove' | 'freeBytes'>;

/**
 * Writes one body to several destinations at the same time, at the pace of the slowest. A destination that fails is left out from
 * then on, for as long as the quorum can still be met; then the first failure is thrown. Each cuts what is too large for it by itself.
 */
export class TeeStore implements StagingStore {
  /** Why a destination was left out, by its id. */
  readonly failures = new Map<string, unknown>();

  /** @param quorum how many must hold the backup in the end */
  constructor(
    private readonly members: readonly Member[],
    private readonly quorum: number,
  ) {}

  /** Those that have not failed. */
  get alive(): Member[] {
    return this.members.filter(({ id }) => !this.failures.has(id));
  }

  /** Leaves a destination out. @throws its failure, when too few are left */
  leaveOut(id: string, error: unknown): void {
    this.failures.set(id, error);
    if (this.alive.length < this.quorum) throw error;
  }

  async write(
    key: string,
    body: Readable | AsyncIterable<Buffer> | Iterable<Buffer>,
    options: WriteOptions = {},
  ): Promise<{ bytes: number }> {
    const source = body instanceof Readable ? body : Readable.from(body);
    source.on('error', () => {});
    destroyOnAbort(source, options.signal);
    const lanes = this.alive.map((member) => this.begin(member, key, options));
    let bytes = 0;
    try {
      for await (const chunk of source as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        await Promise.all(lanes.map((lane) => lane.push(chunk)));
        this.check(lanes);
      }
      for (const lane of lanes) lane.body.end();
      const written = await Promise.all(lanes.map((lane) => lane.done));
      this.check(lanes);
      return written.find((each) => each !== undefined) ?? { bytes };
    } catch (error) {
      // The failure of the body is each destination's: none may take what it has for the whole.
      for (const lane of lanes) lane.body.destroy(error as Error);
      // Some may have had it whole before another failed; what can't be removed now is cleared away with its attempt.
      const written = await Promise.all(lanes.map((lane) => lane.done));
      const whole = lanes.filter((_, i) => written[i] !== undefined);
      await Promise.allSettled(whole.map((lane) => lane.remove(key)));
      if (options.signal?.aborted) throw abortReason(options.signal);
      throw error;
    } finally {
      source.destroy();
    }
  }

  async remove(key: string, options?: Abortable): Promise<void> {
    await Promise.all(this.alive.map(({ store }) => removeSegments(store, key, options)));
  }

  /** The least that any of them has. */
  async freeBytes(options?: Abortable): Promise<number | null> {
    const known = await Promise.all(
      this.alive.map(({ id, store }) =>
        store.freeBytes(options).catch((error: unknown) => {
          if (options?.signal?.aborted) throw error;
          this.leaveOut(id, error);
          return null;
        }),
      ),
    );
    const numbers = known.filter((free) => free !== null);
    return numbers.length === 0 ? null : Math.min(...numbers);
  }

  /** Notes who has failed since the last look. @throws the failure, when too few are left */
  private check(lanes: readonly Lane[]): void {
    for (const { id, failure } of lanes) if (failure && !this.failures.has(id)) this.leaveOut(id, failure.error);
  }

  private begin({ id, store }: Member, key: string, options: WriteOptions): Lane {
    const body = new PassThrough({ highWaterMark: 1024 * 1024 });
    body.on('error', () => {});
    const lane: Lane = {
      id,
      body,
      failure: undefined,
      push: async (chunk) => {
        if (lane.failure || body.destroyed || body.write(chunk)) return;
        await new Promise<void>((resolve) => {
          const go = () => {
            body.off('drain', go).off('close', go);
            resolve();
          };
          body.on('drain', go).on('close', go);
          if (body.destroyed) go();
        });
      },
      remove: (written) => removeSegments(store, written),
      done: Promise.resolve(undefined),
    };
    lane.done = writeSegments(store, key, body, options).catch((error: unknown) => {
      lane.failure = { error };
      body.destroy();
      return undefined;
    });
    return lane;
  }
}

interface Lane {
  readonly id: string;
  readonly body: PassThrough;
  failure: { error: unknown } | undefined;
  push(chunk: Buffer): Promise<void>;
  remove(key: string): Promise<void>;
  done: Promise<{ bytes: number } | undefined>;
}
