import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract, type Pack } from 'tar-stream';
import { EngineError } from '../errors.js';
import type { StorageBucket, StorageObject } from './storage-objects.js';

/** First in the archive: the buckets and their settings. */
const BUCKETS_NAME = 'buckets.json';
const OBJECTS_FOLDER = 'objects';
/** Pax record that holds what is known of an object besides its bytes; other readers of tar pass over it. */
const ABOUT = 'BACKSTAY.about';
const MOST_BUCKET_BYTES = 64 * 1024 * 1024;

/** One thing in an archive of a project's Storage. */
export type StorageEntry = { buckets: StorageBucket[] } | { object: StorageObject; body: Readable };

export function addBuckets(tar: Pack, buckets: readonly StorageBucket[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const content = `${JSON.stringify(buckets, null, 2)}\n`;
    tar.entry({ name: BUCKETS_NAME, mode: 0o600 }, content, (error) => (error ? reject(error) : resolve()));
  });
}

/** @throws what the body throws; an Error when it has another size than the object */
export async function addObject(tar: Pack, object: StorageObject, body: AsyncIterable<Buffer>): Promise<void> {
  const { bucket, key, bytes, ...about } = object;
  let wait!: (error?: Error | null) => void;
  const done = new Promise<void>((resolve, reject) => {
    wait = (error) => (error ? reject(error) : resolve());
  });
  done.catch(() => {});
  const header = {
    name: [OBJECTS_FOLDER, bucket, ...key.split('/')].map((part, i) => (i === 0 ? part : encodeSegment(part))).join('/'),
    mode: 0o600,
    size: bytes,
    ...(about.updatedAt ? { mtime: new Date(about.updatedAt) } : {}),
    pax: { [ABOUT]: JSON.stringify(about) },
  };
  if (bytes === 0) {
    for await (const _ of body) throw new Error(`${key} has more than its bytes`);
    tar.entry(header, '', wait);
    return done;
  }
  const entry = tar.entry(header, wait);
  if (!entry) throw new Error('the tar stream was destroyed');
  await pipeline(Readable.from(body, { objectMode: false }), entry);
  await done;
}

/** Reads an archive's entries one after the other; each body has to be read or left before the next is asked for. */
export async function* readStorageArchive(plain: Readable): AsyncGenerator<StorageEntry> {
  const tar = extract();
  const flow = pipeline(plain, tar);
  // An error comes out of the entries too.
  flow.catch(() => {});
  try {
    for await (const entry of tar as AsyncIterable<
      Readable & { header: { name: string; size: number; pax: Record<string, string> | null } }
    >) {
      const { name, size, pax } = entry.header;
      if (name === BUCKETS_NAME) yield { buckets: await bucketsOf(entry) };
      else yield { object: objectOf(name, size, pax?.[ABOUT]), body: entry };
      entry.resume();
    }
    await flow;
  } catch (error) {
    // What the source of the bytes found wrong is the cause.
    await flow.catch((cause: unknown) => {
      throw cause instanceof EngineError ? cause : error;
    });
    throw error;
  } finally {
    plain.destroy();
  }
}

async function bucketsOf(entry: Readable): Promise<StorageBucket[]> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of entry as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MOST_BUCKET_BYTES) throw notAnArchive('its list of buckets is too long');
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString()) as StorageBucket[];
  } catch {
    throw notAnArchive('its list of buckets is no JSON');
  }
}

function objectOf(name: string, bytes: number, about: string | undefined): StorageObject {
  const [folder, bucket, ...key] = name.split('/').map(decodeSegment);
  if (folder !== OBJECTS_FOLDER || !bucket || key.length === 0 || about === undefined)
    throw notAnArchive(`it holds ${JSON.stringify(name.slice(0, 100))}`);
  const known = JSON.parse(about) as Omit<StorageObject, 'bucket' | 'key' | 'bytes'>;
  return { bucket, key: key.join('/'), bytes, ...known };
}

/** A name that is safe as a part of a path, and says what it was. */
function encodeSegment(segment: string): string {
  return encodeURIComponent(segment).replace(/^\.+$/, (dots) => dots.replaceAll('.', '%2E'));
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw notAnArchive(`it holds ${JSON.stringify(segment.slice(0, 100))}`);
  }
}

function notAnArchive(why: string): EngineError {
  return new EngineError('ARTIFACT_CORRUPT', `The storage archive can't be read: ${why}.`, 'Use another backup.');
}
