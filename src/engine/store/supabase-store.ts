import { Readable } from 'node:stream';
import { EngineError } from '../errors.js';
import { openObject } from '../supabase/open-object.js';
import { StorageClient, type SupabaseAccess } from '../supabase/storage-client.js';
import { isDuplicate, isNoBucket, isNotThere, toStorageError } from '../supabase/storage-errors.js';
import { abortReason, destroyOnAbort } from './abort.js';
import type { Abortable, ReadOptions, StoredObject, WriteOptions } from './artifact-store.js';
import { RemoteStore } from './remote-store.js';
import { objectExists, objectMissing } from './local-errors.js';
import { assertKey, isKey, normalizePrefix } from './object-key.js';
import { type OpenedObject, resumingRead } from './resuming-read.js';
import { MOST_RESUMABLE_BYTES, SupabaseUpload } from './supabase-upload.js';

export interface SupabaseConfig extends SupabaseAccess {
  /** Made when it is missing, and then private. */
  bucket: string;
  /** Folder in the bucket below which everything lies. */
  prefix?: string;
  /** Size of the objects that what is larger is cut into; as large as an upload can be when left out. */
  segmentMiB?: number;
  /** Objects above this size can't be moved inside the store; they are read and written anew. */
  mostMovedBytes?: number;
}

const MOST_MOVED_BYTES = 5 * 1024 ** 3;
const LISTED_AT_ONCE = 1000;
const REMOVED_AT_ONCE = 100;

/** Objects in a private bucket of a Supabase project. */
export class SupabaseStore extends RemoteStore {
  private readonly client: StorageClient;
  protected readonly where: string;
  private readonly root: string;
  private bucketIsReady = false;

  constructor(private readonly config: SupabaseConfig) {
    super();
    this.client = new StorageClient(config);
    this.root = config.prefix ? `${config.prefix.replace(/^\/+|\/+$/g, '')}/` : '';
    this.where = `the bucket ${config.bucket}${this.root === '' ? '' : `/${this.root.slice(0, -1)}`} of ${new URL(config.url).host}`;
  }

  override get mostObjectBytes(): number {
    const { segmentMiB = Infinity } = this.config;
    return Math.min(segmentMiB * 1024 * 1024, MOST_RESUMABLE_BYTES);
  }

  async write(
    key: string,
    body: Readable | AsyncIterable<Buffer> | Iterable<Buffer>,
    options: WriteOptions = {},
  ): Promise<{ bytes: number }> {
    const stream = body instanceof Readable ? body : Readable.from(body);
    stream.on('error', () => {});
    const { signal } = options;
    try {
      destroyOnAbort(stream, signal);
      assertKey(key);
      signal?.throwIfAborted();
      await this.ensureBucket(signal);
      if (!options.overwrite && (await this.stat(key, { signal }))) throw objectExists(key, this.where);
      const upload = new SupabaseUpload(this.client, this.config.bucket, this.root + key, {
        overwrite: options.overwrite === true,
        signal,
        explain: (error) => this.errorOf(error, 'write', key),
        taken: () => objectExists(key, this.where),
        // What is overwritten must not come back out of a cache.
        about: { contentType: 'application/octet-stream', cacheControl: 'max-age=0' },
      });
      return await upload.send(stream as AsyncIterable<Buffer>);
    } catch (error) {
      // It may have been removed since.
      this.bucketIsReady = false;
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
    const open = (position: number) => this.open(key, position, end, signal);
    const first = await open(start);
    const explain = (error: unknown) => this.errorOf(error, 'read', key);
    const content = first === null ? [] : resumingRead({ first, start, open, explain, signal });
    const stream = Readable.from(content, { objectMode: false });
    stream.on('error', () => {});
    destroyOnAbort(stream, signal);
    return stream;
  }

  async stat(key: string, { signal }: Abortable = {}): Promise<{ bytes: number; modifiedAt: Date } | null> {
    assertKey(key);
    return this.explained('look at', key, signal, async () => {
      try {
        const { data } = await this.client.call((storage) => storage.from(this.config.bucket).info(this.root + key), { signal });
        return { bytes: data.size ?? 0, modifiedAt: new Date(data.lastModified ?? data.updatedAt ?? data.createdAt) };
      } catch (error) {
        if (isNotThere(error)) return null;
        throw error;
      }
    });
  }

  async *list(prefix: string, { signal }: Abortable = {}): AsyncGenerator<StoredObject> {
    const bare = normalizePrefix(prefix);
    const below = this.root + (bare === '' ? '' : `${bare}/`);
    let cursor: string | undefined;
    do {
      const page = await this.explained('list', bare || 'the objects', signal, async () => {
        const options = { prefix: below, limit: LISTED_AT_ONCE, ...(cursor === undefined ? {} : { cursor }) };
        try {
          return (await this.client.call((storage) => storage.from(this.config.bucket).listV2(options), { signal })).data;
        } catch (error) {
          if (isNoBucket(error)) return null;
          throw error;
        }
      });
      for (const { key: path, name, metadata, updated_at: updatedAt } of page?.objects ?? []) {
        const full = path ?? name;
        const key = full.slice(this.root.length);
        if (full.startsWith(below) && isKey(key)) yield { key, bytes: metadata?.size ?? 0, modifiedAt: new Date(updatedAt) };
      }
      cursor = page?.hasNext ? page.nextCursor : undefined;
    } while (cursor !== undefined);
  }

  async rename(from: string, to: string, { signal }: Abortable = {}): Promise<void> {
    assertKey(from);
    assertKey(to);
    const source = await this.stat(from, { signal });
    if (!source) throw objectMissing(from, this.where);
    if (await this.stat(to, { signal })) throw objectExists(to, this.where);
    if (source.bytes > (this.config.mostMovedBytes ?? MOST_MOVED_BYTES)) {
      await this.write(to, await this.read(from, { signal }), { signal });
      return this.remove(from, { signal });
    }
    try {
      await this.client.call((storage) => storage.from(this.config.bucket).move(this.root + from, this.root + to), { signal });
    } catch (error) {
      if (signal?.aborted) throw abortReason(signal);
      if (isDuplicate(error)) throw objectExists(to, this.where);
      // The answer may have been lost, and the retry have found the object gone.
      const moved = isNotThere(error) ? await this.stat(to, { signal }) : null;
      if (moved?.bytes !== source.bytes) throw this.errorOf(error, 'move', from);
    }
  }

  async remove(key: string, { signal }: Abortable = {}): Promise<void> {
    assertKey(key);
    await this.removeAll([key], signal);
  }

  async removeTree(prefix: string, { signal }: Abortable = {}): Promise<void> {
    const bare = normalizePrefix(prefix);
    assertKey(bare);
    signal?.throwIfAborted();
    let batch: string[] = [];
    const found: string[][] = [];
    // Listed first: what is removed would make the cursor skip others.
    for await (const { key } of this.list(bare, { signal })) {
      batch.push(key);
      if (batch.length < REMOVED_AT_ONCE) continue;
      found.push(batch);
      batch = [];
    }
    for (const keys of [...found, batch]) if (keys.length > 0) await this.removeAll(keys, signal);
  }

  /** Uploads that nobody completed are no objects; the store forgets them after a day. */
  async removeStaleTemporaries(_olderThanMs: number, _prefix = '', { signal }: Abortable = {}): Promise<number> {
    signal?.throwIfAborted();
    return 0;
  }

  async freeBytes({ signal }: Abortable = {}): Promise<null> {
    signal?.throwIfAborted();
    return null;
  }

  override async refusesTakenKeys(takenKey: string, signal?: AbortSignal): Promise<boolean> {
    return this.explained('write', takenKey, signal, () =>
      this.client
        .call((storage) => storage.from(this.config.bucket).upload(this.root + takenKey, 'other', { upsert: false }), { signal })
        .then(() => false)
        .catch((error: unknown) => {
          if (isDuplicate(error)) return true;
          throw error;
        }),
    );
  }

  private async removeAll(keys: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    await this.explained('remove', keys.length === 1 ? keys[0]! : `${keys.length} objects`, signal, async () => {
      const paths = keys.map((key) => this.root + key);
      await this.client
        .call((storage) => storage.from(this.config.bucket).remove(paths), { signal })
        .catch((error: unknown) => {
          if (!isNotThere(error)) throw error;
        });
    });
  }

  /** Makes the bucket when it is missing. @throws STORE_FAILED when it is public */
  private async ensureBucket(signal: AbortSignal | undefined): Promise<void> {
    if (this.bucketIsReady) return;
    const { bucket } = this.config;
    await this.explained('find', bucket, signal, async () => {
      const found = await this.client
        .call((storage) => storage.getBucket(bucket), { signal })
        .catch((error: unknown) => {
          if (isNotThere(error)) return null;
          throw error;
        });
      if (found?.data.public)
        throw new EngineError(
          'STORE_FAILED',
          `${this.where} is public: whoever has its address could read the backups.`,
          'Make the bucket private, or name another one.',
        );
      if (found) return;
      await this.client
        .call((storage) => storage.createBucket(bucket, { public: false }), { signal })
        .catch((error: unknown) => {
          if (!isDuplicate(error)) throw error;
        });
    });
    this.bucketIsReady = true;
  }

  private async open(key: string, start: number, end: number | undefined, signal?: AbortSignal): Promise<OpenedObject | null> {
    return this.explained('read', key, signal, async () => {
      try {
        return await openObject(this.client, { bucket: this.config.bucket, key: this.root + key }, { start, end, signal });
      } catch (error) {
        if (isNotThere(error)) throw objectMissing(key, this.where);
        throw error;
      }
    });
  }

  protected errorOf(error: unknown, action: string, key: string): EngineError {
    return toStorageError(error, action, key, this.where);
  }
}
