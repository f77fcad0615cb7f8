import { createHash, type Hash } from 'node:crypto';
import { Readable } from 'node:stream';
import { EngineError } from '../errors.js';
import { SupabaseUpload } from '../store/supabase-upload.js';
import { openObject, readOn, urlPathOf } from '../supabase/open-object.js';
import { StorageClient, type SupabaseAccess } from '../supabase/storage-client.js';
import { isDuplicate, isNotThere, toStorageError } from '../supabase/storage-errors.js';
import { readStorageArchive } from './storage-archive.js';
import { type StorageBucket, StorageDigest, type StorageObject, type StorageSummary } from './storage-objects.js';

export interface RestoreStorageOptions {
  /** The archive's plain bytes. */
  plain: Readable;
  target: SupabaseAccess;
  /** What becomes of an object that is there with other bytes: it is replaced, or the restore ends and takes back what it has put there. */
  existing: 'replace' | 'refuse';
  signal: AbortSignal;
  onBytes(bytes: number): void;
}

/**
 * Puts buckets and objects back, each read again and compared by its hash. What is there with the same bytes stays; what the backup does not
 * have is never touched. Buckets that are there keep their settings.
 * @returns what the archive held, and what is not as it was, as sentences
 * @throws EngineError; with `refuse`, everything that was put there has been removed again by then
 */
export async function restoreStorage(options: RestoreStorageOptions): Promise<{ summary: StorageSummary; warnings: string[] }> {
  const { plain, signal } = options;
  const client = new StorageClient(options.target);
  const digest = new StorageDigest();
  const warnings: string[] = [];
  const put: { bucket: string; key: string }[] = [];
  let bytes = 0;
  try {
    for await (const entry of readStorageArchive(plain)) {
      if ('buckets' in entry) {
        for (const bucket of entry.buckets) {
          digest.addBucket(bucket);
          warnings.push(...(await ensureBucket(client, bucket, signal)));
        }
        continue;
      }
      const hash = createHash('sha256');
      const body = counted(entry.body as AsyncIterable<Buffer>, hash, (more) => options.onBytes((bytes += more)));
      if (await putObject(client, entry.object, body, options)) put.push({ bucket: entry.object.bucket, key: entry.object.key });
      const sha256 = hash.digest('hex');
      await compare(client, entry.object, sha256, signal);
      digest.addObject(entry.object, sha256);
    }
    return { summary: digest.summary(), warnings };
  } catch (error) {
    if (options.existing === 'refuse') await takeBack(client, put);
    signal.throwIfAborted();
    throw error;
  }
}

/** Makes a bucket as it was; one that is there stays as it is. @returns in what it differs, as sentences */
async function ensureBucket(client: StorageClient, wanted: StorageBucket, signal: AbortSignal): Promise<string[]> {
  const { name, fileSizeLimit, allowedMimeTypes } = wanted;
  return client.doing('make the bucket', name, signal, async () => {
    const found = await client
      .call((storage) => storage.getBucket(name), { signal })
      .catch((error: unknown) => {
        if (isNotThere(error)) return null;
        throw error;
      });
    if (found) {
      const { data } = found;
      const differs =
        data.public !== wanted.public ||
        (data.file_size_limit ?? null) !== fileSizeLimit ||
        JSON.stringify(data.allowed_mime_types ?? null) !== JSON.stringify(allowedMimeTypes);
      return differs ? [`The bucket ${name} was there with other settings than in the backup, and keeps them.`] : [];
    }
    const settings = { public: wanted.public, fileSizeLimit, allowedMimeTypes };
    await client
      .call((storage) => storage.createBucket(name, settings), { signal })
      .catch((error: unknown) => {
        if (!isDuplicate(error)) throw error;
      });
    return [];
  });
}

/** @returns whether it was put there now; false when it was there already with as many bytes, which are compared later */
async function putObject(
  client: StorageClient,
  object: StorageObject,
  body: AsyncIterable<Buffer>,
  { existing, signal }: RestoreStorageOptions,
): Promise<boolean> {
  const { bucket, key, contentType, cacheControl, metadata } = object;
  if (existing === 'refuse') {
    const there = await sizeOf(client, object, signal);
    if (there !== null && there !== object.bytes) throw isThere(object, client);
    if (there !== null) {
      // Its hash is needed for the comparison.
      for await (const _ of body);
      return false;
    }
  }
  const upload = new SupabaseUpload(client, bucket, key, {
    overwrite: existing === 'replace',
    signal,
    about: { contentType, cacheControl, metadata },
    explain: (error) => toStorageError(error, 'write', `${bucket}/${key}`, client.where),
    taken: () => isThere(object, client),
  });
  await upload.send(body);
  return true;
}

async function sizeOf(client: StorageClient, { bucket, key }: StorageObject, signal: AbortSignal): Promise<number | null> {
  return client.doing('look at', `${bucket}/${key}`, signal, async () => {
    try {
      return (await client.call((storage) => storage.from(bucket).info(urlPathOf(key)), { signal })).data.size ?? 0;
    } catch (error) {
      if (isNotThere(error)) return null;
      throw error;
    }
  });
}

/** Reads an object again. The store may say yes and have stored it under another name. */
async function compare(client: StorageClient, object: StorageObject, sha256: string, signal: AbortSignal): Promise<void> {
  const { bucket, key } = object;
  const name = `${bucket}/${key}`;
  const explain = (error: unknown) => toStorageError(error, 'read', name, client.where);
  const hash = createHash('sha256');
  await client.doing('read', name, signal, async () => {
    const first = await openObject(client, { bucket, key }, { signal });
    if (first === null) return;
    for await (const chunk of readOn(client, { bucket, key }, first, signal, explain)) hash.update(chunk as Buffer);
  });
  if (hash.digest('hex') === sha256) return;
  throw new EngineError(
    'RESTORE_FAILED',
    `The object ${name} in ${client.where} holds other bytes than the backup.`,
    'It was there with other bytes, or the store changed them; look at it, then restore again, in place if it may be replaced.',
  );
}

async function takeBack(client: StorageClient, put: readonly { bucket: string; key: string }[]): Promise<void> {
  for (const { bucket, key } of put) await client.call((storage) => storage.from(bucket).remove([key])).catch(() => undefined);
}

async function* counted(body: AsyncIterable<Buffer>, hash: Hash, onBytes: (bytes: number) => void): AsyncGenerator<Buffer> {
  for await (const chunk of body) {
    hash.update(chunk);
    onBytes(chunk.length);
    yield chunk;
  }
}

function isThere({ bucket, key }: StorageObject, client: StorageClient): EngineError {
  return new EngineError(
    'TARGET_NOT_EMPTY',
    `The object ${bucket}/${key} is in ${client.where} already, with other bytes than in the backup.`,
    'Nothing was changed. Remove or rename it, or restore in place, which replaces it.',
  );
}
