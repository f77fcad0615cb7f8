import { randomBytes } from 'node:crypto';
import { type HttpRequest, type HttpResponse, type HttpStack, Upload } from 'tus-js-client';
import { EngineError } from '../errors.js';
import { urlPathOf } from '../supabase/open-object.js';
import type { StorageClient } from '../supabase/storage-client.js';
import { isDuplicate } from '../supabase/storage-errors.js';
import { abortReason } from './abort.js';
import { inParts } from './parts.js';

/** The one size that Supabase's resumable uploads take for every part but the last. */
const RESUMABLE_PART_BYTES = 6 * 1024 * 1024;
/** So much goes up in one upload: more than 10,000 parts are not taken. */
export const MOST_RESUMABLE_BYTES = 10_000 * RESUMABLE_PART_BYTES;
const WRITE_ID = 'backstayWrite';

/** What an object is stored with. */
interface ObjectAbout {
  contentType: string;
  /** As the header has it, such as `max-age=3600`. */
  cacheControl: string;
  /** What its owner has noted of it. Left out, the write leaves a mark of its own there, by which it knows its object again. */
  metadata?: Record<string, unknown>;
}

interface SupabaseUploadOptions {
  about: ObjectAbout;
  overwrite: boolean;
  signal: AbortSignal | undefined;
  explain(error: unknown): EngineError;
  taken(): EngineError;
}

/** One write of one object: in one call when it is small, else by a resumable upload. Leaves nothing when it fails. */
export class SupabaseUpload {
  /** Tells an object of ours from another's when the answer to a write was lost. */
  private readonly writeId = randomBytes(12).toString('hex');

  constructor(
    private readonly client: StorageClient,
    private readonly bucket: string,
    private readonly path: string,
    private readonly options: SupabaseUploadOptions,
  ) {}

  async send(body: AsyncIterable<Buffer>): Promise<{ bytes: number }> {
    const parts = inParts(body, RESUMABLE_PART_BYTES);
    const first = await parts.next();
    const second = await parts.next();
    if (second.done === true) return this.putWhole(first.value as Buffer);
    return this.sendParts(new PartSource(first.value as Buffer, second.value, parts));
  }

  private async putWhole(body: Buffer): Promise<{ bytes: number }> {
    const { about, overwrite, signal } = this.options;
    try {
      await this.client.call(
        (storage) =>
          storage.from(this.bucket).upload(urlPathOf(this.path), body, {
            contentType: about.contentType,
            // The library would write max-age= before whatever it is given.
            headers: { 'cache-control': about.cacheControl },
            upsert: overwrite,
            metadata: this.metadata,
          }),
        { signal },
      );
      signal?.throwIfAborted();
    } catch (error) {
      await this.settle(error, body.length);
    }
    return { bytes: body.length };
  }

  private async sendParts(source: PartSource): Promise<{ bytes: number }> {
    const upload = this.begin(source);
    try {
      await this.finish(upload);
      this.options.signal?.throwIfAborted();
      // The store may have taken the last part and failed to make an object of the parts: the library takes that for success.
      if (await this.isOurs(source.bytes)) return { bytes: source.bytes };
      throw new EngineError(
        'STORE_FAILED',
        `The store took all parts of ${this.path} and has no object of them.`,
        'Run the backup again; if it repeats, look into the logs of the store.',
      );
    } catch (error) {
      // What can't be ended now is forgotten by the store after a day.
      await upload.tus.abort(true).catch(() => undefined);
      // An error of the body itself is thrown as it is.
      if (source.failure) throw source.failure.error;
      await this.settle(causeOf(error), source.bytes);
      return { bytes: source.bytes };
    }
  }

  private begin(source: PartSource): { tus: Upload; ended: Promise<void> } {
    const { about, overwrite } = this.options;
    const endpoint = `${this.client.base}/storage/v1/upload/resumable`;
    let tus!: Upload;
    const ended = new Promise<void>((resolve, reject) => {
      tus = new Upload(source as never, {
        endpoint,
        chunkSize: RESUMABLE_PART_BYTES,
        uploadLengthDeferred: true,
        retryDelays: this.client.pauses,
        headers: { ...this.client.credentials, 'x-upsert': String(overwrite) },
        metadata: {
          bucketName: this.bucket,
          objectName: this.path,
          contentType: about.contentType,
          cacheControl: about.cacheControl.replace(/^max-age=/, ''),
          metadata: JSON.stringify(this.metadata),
        },
        fileReader: { openFile: async () => source as never },
        httpStack: new FetchStack(this.client.fetchOnce, endpoint),
        onShouldRetry: (error) =>
          !source.failure && mayHelp(error.originalResponse?.getStatus(), error.originalRequest.getMethod()),
        onSuccess: () => resolve(),
        onError: reject,
      });
    });
    ended.catch(() => {});
    return { tus, ended };
  }

  private async finish({ tus, ended }: { tus: Upload; ended: Promise<void> }): Promise<void> {
    const { signal } = this.options;
    if (!signal) {
      tus.start();
      return ended;
    }
    let stop!: () => void;
    const stopped = new Promise<never>((_resolve, reject) => {
      stop = () => reject(abortReason(signal));
    });
    signal.addEventListener('abort', stop, { once: true });
    try {
      tus.start();
      await Promise.race([ended, stopped]);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  /** After a failure: nothing, when the object is there all the same and wanted. @throws the failure */
  private async settle(error: unknown, bytes: number): Promise<void> {
    if (await this.isOurs(bytes)) {
      if (!this.options.signal?.aborted) return;
      await this.takeBack();
    }
    throw isDuplicate(error) ? this.options.taken() : this.options.explain(error);
  }

  /** Whether the object that is there now was written by this very write, whole. */
  private async isOurs(bytes: number): Promise<boolean> {
    try {
      const { data } = await this.client.call((storage) => storage.from(this.bucket).info(urlPathOf(this.path)));
      return data.size === bytes && (this.options.about.metadata !== undefined || data.metadata?.[WRITE_ID] === this.writeId);
    } catch {
      return false;
    }
  }

  /** supabase-js turns the names in it into camel case when it reads them. */
  private get metadata(): Record<string, unknown> {
    return this.options.about.metadata ?? { [WRITE_ID]: this.writeId };
  }

  private async takeBack(): Promise<void> {
    await this.client.call((storage) => storage.from(this.bucket).remove([this.path])).catch(() => undefined);
  }
}

/** Hands parts to the resumable upload, one ahead: only so it knows which is the last. Two are held. */
class PartSource {
  readonly size = null;
  bytes = 0;
  failure: { error: unknown } | undefined;
  private position = 0;

  constructor(
    private part: Buffer,
    private next: Buffer | null,
    private readonly rest: AsyncGenerator<Buffer>,
  ) {}

  /** From `start` on to the end of the part that holds it. After a failure the store may have kept some of a part. */
  async slice(start: number): Promise<{ value: Buffer; done: boolean }> {
    if (this.failure) throw this.failure.error;
    while (start >= this.position + this.part.length && this.next !== null) await this.advance();
    const value: Buffer & { size?: number } = this.part.subarray(start - this.position);
    value.size = value.length;
    this.bytes = this.position + this.part.length;
    return { value, done: this.next === null };
  }

  close(): void {}

  private async advance(): Promise<void> {
    this.position += this.part.length;
    this.part = this.next!;
    try {
      const { value, done } = await this.rest.next();
      this.next = done ? null : value;
    } catch (error) {
      this.failure = { error };
      throw error;
    }
  }
}

/** Lets the resumable upload go over connections of ours, and nowhere but to the store: it may send the client to another host. */
class FetchStack implements HttpStack {
  constructor(
    private readonly fetch: typeof globalThis.fetch,
    private readonly endpoint: string,
  ) {}

  createRequest(method: string, url: string): HttpRequest {
    const target = method === 'POST' ? this.endpoint : `${this.endpoint}/${new URL(url).pathname.split('/').at(-1)}`;
    const headers = new Map<string, string>();
    const abort = new AbortController();
    return {
      getMethod: () => method,
      getURL: () => target,
      setHeader: (name, value) => void headers.set(name, value),
      getHeader: (name) => headers.get(name),
      setProgressHandler: () => {},
      getUnderlyingObject: () => undefined,
      abort: async () => abort.abort(),
      send: async (body?: Uint8Array) => {
        const init = { method, headers: Object.fromEntries(headers), signal: abort.signal };
        const answer = await this.fetch(target, body ? { ...init, body: body as NonNullable<RequestInit['body']> } : init);
        return responseOf(answer, await answer.text());
      },
    };
  }

  getName(): string {
    return 'FetchStack';
  }
}

function responseOf(answer: Response, body: string): HttpResponse {
  return {
    getStatus: () => answer.status,
    getHeader: (name) => answer.headers.get(name) ?? undefined,
    getBody: () => body,
    getUnderlyingObject: () => answer,
  };
}

function mayHelp(status: number | undefined, method: string): boolean {
  // 423: the part before is still being written. 409: the offset is another than ours, which is asked for anew.
  return (
    status === undefined ||
    status === 0 ||
    status >= 500 ||
    status === 429 ||
    status === 423 ||
    (status === 409 && method === 'PATCH')
  );
}

/** The answer, or what kept one from coming, out of the resumable upload's error. */
function causeOf(error: unknown): unknown {
  const { originalResponse, causingError } = (error ?? {}) as { originalResponse?: HttpResponse | null; causingError?: unknown };
  if (originalResponse) return { ...said(originalResponse.getBody()), status: originalResponse.getStatus() };
  return causingError ?? error;
}

function said(body: string): { message: string; statusCode?: string } {
  try {
    const parsed = JSON.parse(body) as { message?: unknown; statusCode?: unknown } | null;
    if (typeof parsed?.message === 'string') return { message: parsed.message, statusCode: String(parsed.statusCode) };
  } catch {
    // The part of the store that takes uploads answers in plain text.
  }
  return { message: body };
}
