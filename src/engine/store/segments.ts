import { Readable } from 'node:stream';
import { EngineError } from '../errors.js';
import { destroyOnAbort } from './abort.js';
import type { Abortable, ArtifactStore, ReadOptions, WriteOptions } from './artifact-store.js';

/**
 * What is larger than a store takes as one object lies there as several: `key`, `key.0002`, `key.0003` …, whose bytes in this order are the
 * whole. Where a store cuts is its own affair; a manifest speaks of the whole, and `cat key*` gives it.
 */
function segmentKey(key: string, number: number): string {
  return number === 1 ? key : `${key}.${String(number).padStart(4, '0')}`;
}

/** Stores a body as one object or several. On a failure nothing is left, as of any write. @throws what the store or the body throws */
export async function writeSegments(
  store: Pick<ArtifactStore, 'write' | 'remove' | 'mostObjectBytes'>,
  key: string,
  body: Readable,
  options: WriteOptions = {},
): Promise<{ bytes: number }> {
  if (store.mostObjectBytes === Infinity) return store.write(key, body, options);
  destroyOnAbort(body, options.signal);
  body.on('error', () => {});
  const cutter = new Cutter(body);
  const written: string[] = [];
  let bytes = 0;
  try {
    do {
      const segment = segmentKey(key, written.length + 1);
      bytes += (await store.write(segment, cutter.next(store.mostObjectBytes), options)).bytes;
      written.push(segment);
    } while (await cutter.hasMore());
    return { bytes };
  } catch (error) {
    await Promise.allSettled(written.map((segment) => store.remove(segment)));
    throw error;
  } finally {
    body.destroy();
  }
}

/**
 * Opens what `writeSegments` wrote. Where a segment is missing it ends early: whoever reads compares with what the manifest says.
 * @param total bytes of the whole; where it is not known, it is read until there is no further segment
 * @throws EngineError OBJECT_MISSING when not even the first is there
 */
export async function readSegments(
  store: ArtifactStore,
  key: string,
  total: number,
  { start = 0, end = total - 1, signal }: ReadOptions = {},
): Promise<Readable> {
  const isWhole = start === 0 && end >= total - 1;
  const { first, content } = await (isWhole ? whole(store, key, total, signal) : range(store, key, { start, end, signal }));
  const out = Readable.from(content, { objectMode: false, highWaterMark: 1024 * 1024 });
  out.on('error', () => {});
  out.once('close', () => first.destroy());
  destroyOnAbort(out, signal);
  return out;
}

/** The bytes that lie at a store, of all segments up to so many; null when there is none. */
export async function storedBytes(store: ArtifactStore, key: string, total: number, options?: Abortable): Promise<number | null> {
  let bytes: number | null = null;
  for await (const segment of segmentsOf(store, key, total, options)) bytes = (bytes ?? 0) + segment.bytes;
  return bytes;
}

/** Gives all segments another key, as `ArtifactStore.rename` does it with one object. @throws EngineError OBJECT_MISSING, OBJECT_EXISTS */
export async function renameSegments(
  store: ArtifactStore,
  from: string,
  to: string,
  total: number,
  options?: Abortable,
): Promise<void> {
  // The first by its name, so that the store says what is missing.
  let next = 2;
  const first = await store.stat(from, options);
  await store.rename(from, to, options);
  for (let bytes = first?.bytes ?? total; bytes < total; next += 1) {
    const segment = await store.stat(segmentKey(from, next), options);
    if (!segment) return;
    await store.rename(segmentKey(from, next), segmentKey(to, next), options);
    bytes += segment.bytes;
  }
}

/** Removes an object with all its segments. */
export async function removeSegments(
  store: Pick<ArtifactStore, 'stat' | 'remove' | 'mostObjectBytes'>,
  key: string,
  options?: Abortable,
): Promise<void> {
  if (store.mostObjectBytes !== Infinity)
    for (let next = 2; await store.stat(segmentKey(key, next), options); next += 1)
      await store.remove(segmentKey(key, next), options);
  await store.remove(key, options);
}

/** Locks an object with all its segments until a date, as `ArtifactStore.lock` does it with one. */
export async function lockSegments(
  store: Pick<ArtifactStore, 'stat' | 'lock' | 'mostObjectBytes'>,
  key: string,
  until: Date,
  options?: Abortable,
): Promise<void> {
  await store.lock(key, until, options);
  if (store.mostObjectBytes === Infinity) return;
  for (let next = 2; await store.stat(segmentKey(key, next), options); next += 1)
    await store.lock(segmentKey(key, next), until, options);
}

async function* segmentsOf(
  store: ArtifactStore,
  key: string,
  total: number,
  options?: Abortable,
): AsyncGenerator<{ key: string; start: number; bytes: number }> {
  let start = 0;
  for (let number = 1; number === 1 || start < total; number += 1) {
    const segment = segmentKey(key, number);
    const found = await store.stat(segment, options);
    if (!found) return;
    yield { key: segment, start, bytes: found.bytes };
    start += found.bytes;
  }
}

interface Parts {
  /** Open already, so that a missing object is told of at once. */
  first: Readable;
  content: AsyncGenerator<Buffer>;
}

async function whole(store: ArtifactStore, key: string, total: number, signal: AbortSignal | undefined): Promise<Parts> {
  const first = await store.read(key, { signal });
  const content = async function* () {
    let bytes = 0;
    let current: Readable | null = first;
    for (let number = 2; current; number += 1) {
      for await (const chunk of current as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        yield chunk;
      }
      current = bytes < total ? await openUnlessMissing(store, segmentKey(key, number), signal) : null;
    }
  };
  return { first, content: content() };
}

async function range(store: ArtifactStore, key: string, { start = 0, end = 0, signal }: ReadOptions): Promise<Parts> {
  const wanted: { key: string; start: number; end: number }[] = [];
  for await (const segment of segmentsOf(store, key, end + 1, { signal })) {
    const from = Math.max(0, start - segment.start);
    const to = Math.min(segment.bytes - 1, end - segment.start);
    if (from <= to) wanted.push({ key: segment.key, start: from, end: to });
  }
  const [head = { key, start, end }, ...others] = wanted;
  const first = await store.read(head.key, { start: head.start, end: head.end, signal });
  const content = async function* () {
    yield* first as AsyncIterable<Buffer>;
    for (const { key: segment, ...part } of others)
      yield* (await store.read(segment, { ...part, signal })) as AsyncIterable<Buffer>;
  };
  return { first, content: content() };
}

async function openUnlessMissing(store: ArtifactStore, key: string, signal: AbortSignal | undefined): Promise<Readable | null> {
  try {
    return await store.read(key, { signal });
  } catch (error) {
    if (error instanceof EngineError && error.code === 'OBJECT_MISSING') return null;
    throw error;
  }
}

/** Gives a body's bytes in pieces of a size, one after the other. */
class Cutter {
  private readonly chunks: AsyncIterator<Buffer>;
  private rest: Buffer | undefined;

  constructor(body: Readable) {
    this.chunks = (body as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  }

  async *next(bytes: number): AsyncGenerator<Buffer> {
    let left = bytes;
    while (left > 0 && (await this.hasMore())) {
      const chunk = this.rest ?? Buffer.alloc(0);
      const part = chunk.subarray(0, left);
      this.rest = chunk.subarray(part.length);
      left -= part.length;
      yield part;
    }
  }

  async hasMore(): Promise<boolean> {
    while (this.rest === undefined || this.rest.length === 0) {
      const { done, value } = await this.chunks.next();
      if (done) return false;
      this.rest = value;
    }
    return true;
  }
}
