import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { EngineError } from '../errors.js';
import { type OpenedObject, resumingRead } from '../store/resuming-read.js';
import type { StorageClient } from './storage-client.js';
import { storageStatus } from './storage-errors.js';

/** An object's name as it has to stand in a URL: supabase-js leaves `?` and `#` as they are, and another object would answer. */
export function urlPathOf(key: string): string {
  return key.split('/').map(encodeURIComponent).join('/');
}

/** Whether a URL can name the object at all: `.` and `..` are taken out of every URL. */
export function isNameable(key: string): boolean {
  return key.split('/').every((segment) => segment !== '.' && segment !== '..' && segment !== '');
}

interface ObjectAddress {
  bucket: string;
  key: string;
}

/** Begins to read an object; null when it has no byte at `start`. @throws the library's error */
export async function openObject(
  client: StorageClient,
  { bucket, key }: ObjectAddress,
  { start = 0, end, signal }: { start?: number; end?: number | undefined; signal?: AbortSignal | undefined } = {},
): Promise<OpenedObject | null> {
  const whole = start === 0 && end === undefined;
  try {
    const { data, answer } = await client.call(
      (storage) =>
        // The number keeps caches between out of it.
        storage
          .from(bucket)
          .download(urlPathOf(key), { cacheNonce: randomBytes(6).toString('hex') })
          .asStream(),
      { signal, headers: whole ? {} : { range: `bytes=${start}-${end ?? ''}` } },
    );
    const body = Readable.fromWeb(data as ReadableStream);
    body.on('error', () => {});
    if (!whole && answer?.status !== 206) {
      body.destroy();
      throw new EngineError(
        'STORE_FAILED',
        `The store answered a request for a part of ${key} with the whole of it.`,
        'Check what stands before the store: parts of objects must be readable.',
      );
    }
    const length = answer?.headers.get('content-length');
    return { body, bytes: length ? Number(length) : null, version: answer?.headers.get('etag') ?? undefined };
  } catch (error) {
    if (storageStatus(error) === 416 || (error as { statusCode?: string }).statusCode === 'InvalidRange') return null;
    throw error;
  }
}

/** The rest of an object that was opened at its begin, over cuts. */
export function readOn(
  client: StorageClient,
  address: ObjectAddress,
  first: OpenedObject,
  signal: AbortSignal | undefined,
  explain: (error: unknown) => Error,
): Readable {
  const open = (start: number) => openObject(client, address, { start, signal });
  return Readable.from(resumingRead({ first, start: 0, open, explain, signal }), { objectMode: false });
}
