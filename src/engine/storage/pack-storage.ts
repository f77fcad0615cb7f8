import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { pack } from 'tar-stream';
import type { Omission } from '../artifact/manifest.js';
import { EngineError } from '../errors.js';
import { isNameable, openObject, readOn, urlPathOf } from '../supabase/open-object.js';
import type { OpenedObject } from '../store/resuming-read.js';
import { StorageClient, type SupabaseAccess } from '../supabase/storage-client.js';
import { isNotThere, toStorageError } from '../supabase/storage-errors.js';
import { addBuckets, addObject } from './storage-archive.js';
import { type StorageBucket, StorageDigest, type StorageObject, type StorageSummary } from './storage-objects.js';

/** A project's Storage that is to be backed up. */
export interface StorageSource {
  access: SupabaseAccess;
  /** Exact names. */
  excludeBuckets: readonly string[];
}

const LISTED_AT_ONCE = 1000;
const BUCKETS_AT_ONCE = 100;
/** Objects whose answers are awaited at the same time; their bytes come one after the other. */
const AHEAD = 4;

/** A stream of all buckets and objects as tar, and what it held once it has ended. */
export interface PackedStorage {
  stream: Readable;
  /** Only after the stream has ended well. */
  result(): { summary: StorageSummary; omissions: Omission[] };
}

/**
 * Streams every bucket and object of a project with their metadata, in bounded memory. What is removed while it is read is left out; what is
 * changed while its bytes are read fails the run, as its archive would hold a mixture.
 */
export function packStorage({ access, excludeBuckets }: StorageSource, signal: AbortSignal): PackedStorage {
  const client = new StorageClient(access);
  const tar = pack();
  const digest = new StorageDigest();
  const omissions: Omission[] = [];
  const omit = (name: string, kind: string, reason: string) => omissions.push({ schema: 'storage', name, kind, reason });
  const fill = async () => {
    const buckets = await bucketsOf(client, excludeBuckets, omit, signal);
    await addBuckets(tar, buckets);
    for (const bucket of buckets) digest.addBucket(bucket);
    for (const { name } of buckets) {
      for await (const opened of inAdvance(keysOf(client, name, omit, signal), (key) => open(client, name, key, signal))) {
        if (opened === null) continue;
        const { object, first } = opened;
        const hash = createHash('sha256');
        await addObject(tar, object, hashed(rest(client, object, first, signal), hash, object));
        digest.addObject(object, hash.digest('hex'));
      }
    }
    tar.finalize();
  };
  fill().catch((error: unknown) => tar.destroy(error as Error));
  let result: ReturnType<PackedStorage['result']> | undefined;
  return {
    stream: Readable.from(tar, { objectMode: false }),
    result: () => (result ??= { summary: digest.summary(), omissions }),
  };
}

/** How many buckets a project has: whether its Storage answers, and the key may list them. @throws EngineError STORE_FAILED */
export async function countBuckets(access: SupabaseAccess, signal: AbortSignal): Promise<number> {
  return (await bucketsOf(new StorageClient(access), [], () => {}, signal)).length;
}

/** Every bucket that can be backed up, by name. */
async function bucketsOf(
  client: StorageClient,
  excluded: readonly string[],
  omit: (name: string, kind: string, reason: string) => void,
  signal: AbortSignal,
): Promise<StorageBucket[]> {
  const found: StorageBucket[] = [];
  for (let offset = 0; ; offset += BUCKETS_AT_ONCE) {
    const page = await client.doing('list', 'the buckets', signal, async () => {
      const options = { limit: BUCKETS_AT_ONCE, offset, sortColumn: 'name' as const, sortOrder: 'asc' as const };
      return (await client.call((storage) => storage.listBuckets(options), { signal })).data;
    });
    for (const { name, type, public: isPublic, file_size_limit: limit, allowed_mime_types: types } of page) {
      if (excluded.includes(name)) omit(name, 'bucket', 'excluded by the source');
      else if (type !== undefined && type !== 'STANDARD') omit(name, 'bucket', `a bucket of type ${type} holds no files`);
      else found.push({ name, public: isPublic, fileSizeLimit: limit ?? null, allowedMimeTypes: types ?? null });
    }
    if (page.length < BUCKETS_AT_ONCE) return found;
  }
}

async function* keysOf(
  client: StorageClient,
  bucket: string,
  omit: (name: string, kind: string, reason: string) => void,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let cursor: string | undefined;
  do {
    const page = await client.doing('list', bucket, signal, async () => {
      const options = { limit: LISTED_AT_ONCE, ...(cursor === undefined ? {} : { cursor }) };
      return (await client.call((storage) => storage.from(bucket).listV2(options), { signal })).data;
    });
    for (const { key, name } of page.objects) {
      const full = key ?? name;
      if (isNameable(full)) yield full;
      else omit(`${bucket}/${full}`, 'object', 'no URL can name it');
    }
    cursor = page.hasNext ? page.nextCursor : undefined;
  } while (cursor !== undefined);
}

interface Opened {
  object: StorageObject;
  first: OpenedObject;
}

/** What is known of an object, and its bytes as they begin to come; null when it is gone. */
async function open(client: StorageClient, bucket: string, key: string, signal: AbortSignal): Promise<Opened | null> {
  return client.doing('read', `${bucket}/${key}`, signal, async () => {
    try {
      const first = await openObject(client, { bucket, key }, { signal });
      const { text = '{}' } = await client.call((storage) => storage.from(bucket).info(urlPathOf(key)), {
        signal,
        wantsText: true,
      });
      const about = JSON.parse(text) as Info;
      if (first === null) return null;
      const object = {
        bucket,
        key,
        bytes: first.bytes ?? about.size ?? 0,
        contentType: about.content_type ?? 'application/octet-stream',
        cacheControl: about.cache_control ?? 'max-age=3600',
        metadata: about.metadata ?? {},
        createdAt: about.created_at ?? null,
        updatedAt: about.last_modified ?? about.updated_at ?? null,
      };
      return { object, first };
    } catch (error) {
      if (isNotThere(error)) return null;
      throw error;
    }
  });
}

/** The library's own `info` gives names in camel case, those of one's own metadata too. */
interface Info {
  size?: number;
  content_type?: string;
  cache_control?: string;
  metadata?: Record<string, unknown> | null;
  created_at?: string;
  last_modified?: string;
  updated_at?: string;
}

function rest(client: StorageClient, { bucket, key }: StorageObject, first: OpenedObject, signal: AbortSignal): Readable {
  const explain = (error: unknown) => toStorageError(error, 'read', `${bucket}/${key}`, client.where);
  return readOn(client, { bucket, key }, first, signal, explain);
}

async function* hashed(
  body: AsyncIterable<Buffer>,
  hash: ReturnType<typeof createHash>,
  { bucket, key, bytes }: StorageObject,
): AsyncGenerator<Buffer> {
  let read = 0;
  for await (const chunk of body) {
    hash.update(chunk);
    read += chunk.length;
    yield chunk;
  }
  if (read === bytes) return;
  throw new EngineError(
    'STORE_FAILED',
    `${bucket}/${key} has ${read} bytes, and the store had announced ${bytes}.`,
    'It was changed while it was read; run the backup again.',
  );
}

/** Begins with a few of the next while one is worked on; gives them in their order. */
async function* inAdvance<T, R>(items: AsyncIterable<T>, begin: (item: T) => Promise<R>): AsyncGenerator<R> {
  const begun: Promise<R>[] = [];
  try {
    for await (const item of items) {
      const next = begin(item);
      // Its failure is told in its turn.
      next.catch(() => {});
      begun.push(next);
      if (begun.length >= AHEAD) yield await begun.shift()!;
    }
    while (begun.length > 0) yield await begun.shift()!;
  } finally {
    for (const left of begun) left.then((opened) => (opened as Opened | null)?.first.body.destroy()).catch(() => {});
  }
}
