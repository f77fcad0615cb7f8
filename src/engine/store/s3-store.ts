import {
  CopyObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  AbortMultipartUploadCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Readable } from 'node:stream';
import { EngineError } from '../errors.js';
import { abortReason, destroyOnAbort } from './abort.js';
import type { Abortable, LockProbe, ReadOptions, StoredObject, WriteOptions } from './artifact-store.js';
import { RemoteStore } from './remote-store.js';
import { objectExists, objectLocked, objectMissing } from './local-errors.js';
import { assertKey, isKey, normalizePrefix } from './object-key.js';
import { type OpenedObject, resumingRead } from './resuming-read.js';
import { isMissing, isTaken, statusOf, toS3Error } from './s3-errors.js';
import { partBytes, type S3Config, segmentBytes } from './s3-config.js';
import { S3ObjectLock } from './s3-object-lock.js';
import { copyInParts, S3Upload } from './s3-upload.js';
import { removeObject, versionsBelow } from './s3-versions.js';

/** Above it one call can't copy an object. */
const MOST_COPIED_AT_ONCE = 5 * 1024 ** 3;
const REMOVED_AT_ONCE = 8;

/** Objects in an S3-compatible bucket. There is no rename: an object is copied inside the store, and then its old key removed. */
export class S3Store extends RemoteStore {
  private readonly client: S3Client;
  private readonly locks: S3ObjectLock;
  protected readonly where: string;
  private readonly root: string;

  constructor(private readonly config: S3Config) {
    super();
    const { endpoint, accessKeyId, secretAccessKey, sessionToken, timeoutMs = 60_000 } = config;
    const agent = { keepAlive: true, maxSockets: 50, ...(config.lookup ? { lookup: config.lookup as never } : {}) };
    this.client = new S3Client({
      region: config.region ?? 'us-east-1',
      ...(endpoint === undefined ? {} : { endpoint }),
      forcePathStyle: config.forcePathStyle ?? endpoint !== undefined,
      ...(accessKeyId !== undefined && secretAccessKey !== undefined
        ? { credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) } }
        : {}),
      // Its retries wait longer each time, with jitter, and heed Retry-After.
      maxAttempts: config.maxAttempts ?? 5,
      retryMode: 'standard',
      // Not every store knows the newer checksums; each body is signed with its SHA-256 anyway.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: new NodeHttpHandler({
        connectionTimeout: Math.min(timeoutMs, 10_000),
        requestTimeout: timeoutMs,
        throwOnRequestTimeout: true,
        socketTimeout: timeoutMs,
        httpAgent: new HttpAgent(agent),
        httpsAgent: new HttpsAgent(agent),
      }),
    });
    this.locks = new S3ObjectLock(this.client, config);
    this.root = config.prefix ? `${config.prefix.replace(/^\/+|\/+$/g, '')}/` : '';
    this.where = `the bucket ${config.bucket}${this.root === '' ? '' : `/${this.root.slice(0, -1)}`}`;
  }

  override get mostObjectBytes(): number {
    return segmentBytes(this.config);
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
      if (!options.overwrite && (await this.stat(key, { signal }))) throw objectExists(key, this.where);
      const upload = new S3Upload(this.client, this.config, this.root + key, {
        overwrite: options.overwrite === true,
        signal,
        explain: (error) => this.errorOf(error, 'write', key),
        taken: () => objectExists(key, this.where),
      });
      return await upload.send(stream as AsyncIterable<Buffer>, partBytes(this.config));
    } catch (error) {
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
    const first = await this.open(key, start, end, undefined, signal);
    const explain = (error: unknown) => this.errorOf(error, 'read', key);
    // The rest has to be of the same object.
    const open = (position: number) => this.open(key, position, end, first?.version, signal);
    const content = first === null ? [] : resumingRead({ first, start, open, explain, signal });
    const stream = Readable.from(content, { objectMode: false });
    stream.on('error', () => {});
    destroyOnAbort(stream, signal);
    return stream;
  }

  async stat(key: string, { signal }: Abortable = {}): Promise<{ bytes: number; modifiedAt: Date } | null> {
    assertKey(key);
    return this.explained('look at', key, signal, async () => {
      const found = await this.client
        .send(new HeadObjectCommand({ Bucket: this.config.bucket, Key: this.root + key }), sent(signal))
        .catch((error: unknown) => {
          if (isMissing(error)) return null;
          throw error;
        });
      return found && { bytes: found.ContentLength ?? 0, modifiedAt: found.LastModified ?? new Date(0) };
    });
  }

  async *list(prefix: string, { signal }: Abortable = {}): AsyncGenerator<StoredObject> {
    const bare = normalizePrefix(prefix);
    const Prefix = this.root + (bare === '' ? '' : `${bare}/`);
    let token: string | undefined;
    do {
      const page = await this.explained('list', bare || 'the objects', signal, () =>
        this.client.send(
          new ListObjectsV2Command({ Bucket: this.config.bucket, Prefix, ContinuationToken: token }),
          sent(signal),
        ),
      );
      for (const { Key = '', Size = 0, LastModified } of page.Contents ?? []) {
        const key = Key.slice(this.root.length);
        if (isKey(key)) yield { key, bytes: Size, modifiedAt: LastModified ?? new Date(0) };
      }
      token = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async rename(from: string, to: string, { signal }: Abortable = {}): Promise<void> {
    assertKey(from);
    assertKey(to);
    const source = await this.stat(from, { signal });
    const target = await this.stat(to, { signal });
    if (!source && !target) throw objectMissing(from, this.where);
    if (!source) throw objectMissing(from, this.where);
    if (target) throw objectExists(to, this.where);
    await this.explained('copy', from, signal, async () => {
      const CopySource = `${this.config.bucket}/${this.root + from}`;
      if (source.bytes > (this.config.mostCopiedBytes ?? MOST_COPIED_AT_ONCE))
        await copyInParts(this.client, this.config, { source: CopySource, bytes: source.bytes, key: this.root + to, signal });
      else
        await this.client.send(
          new CopyObjectCommand({ Bucket: this.config.bucket, Key: this.root + to, CopySource, ...kept(this.config) }),
          sent(signal),
        );
    });
    const copied = await this.stat(to, { signal });
    if (copied?.bytes !== source.bytes)
      throw new EngineError(
        'STORE_FAILED',
        `The copy of ${from} in ${this.where} has ${copied?.bytes ?? 'no'} bytes instead of ${source.bytes}.`,
        'Check the store, then run the backup again.',
      );
    await this.remove(from, { signal });
  }

  async remove(key: string, { signal }: Abortable = {}): Promise<void> {
    assertKey(key);
    await this.explained('remove', key, signal, async () => {
      try {
        await removeObject(this.client, this.config, this.root + key, sent(signal));
      } catch (error) {
        const until = statusOf(error) === 403 ? await this.lockedUntil(key, { signal }).catch(() => null) : null;
        throw until ? objectLocked(key, this.where, until) : error;
      }
    });
  }

  async removeTree(prefix: string, { signal }: Abortable = {}): Promise<void> {
    const bare = normalizePrefix(prefix);
    assertKey(bare);
    signal?.throwIfAborted();
    await this.abortUploads(bare, Infinity, signal);
    let batch: string[] = [];
    const removeBatch = async () => {
      await Promise.all(batch.map((key) => this.remove(key, { signal })));
      batch = [];
    };
    for await (const key of this.config.objectLock ? this.keysOfVersions(bare, signal) : this.keys(bare, signal)) {
      batch.push(key);
      if (batch.length === REMOVED_AT_ONCE) await removeBatch();
    }
    await removeBatch();
  }

  private async *keys(prefix: string, signal: AbortSignal | undefined): AsyncGenerator<string> {
    for await (const { key } of this.list(prefix, { signal })) yield key;
  }

  /** Each key below a folder of which there is any version, or the mark of a removal. */
  private async *keysOfVersions(prefix: string, signal: AbortSignal | undefined): AsyncGenerator<string> {
    const versions = versionsBelow(this.client, this.config.bucket, `${this.root}${prefix}/`, sent(signal));
    let last: string | undefined;
    for (;;) {
      const next = await this.explained('list the versions below', prefix, signal, () => versions.next());
      if (next.done) return;
      const key = next.value.key.slice(this.root.length);
      if (key !== last && isKey(key)) yield key;
      last = key;
    }
  }

  /** Ends the uploads that were begun and never completed: they cost, and no listing of objects shows them. */
  async removeStaleTemporaries(olderThanMs: number, prefix = '', { signal }: Abortable = {}): Promise<number> {
    return this.abortUploads(normalizePrefix(prefix), Date.now() - olderThanMs, signal);
  }

  async freeBytes({ signal }: Abortable = {}): Promise<null> {
    signal?.throwIfAborted();
    return null;
  }

  override async refusesTakenKeys(takenKey: string, signal?: AbortSignal): Promise<boolean> {
    const place = { Bucket: this.config.bucket, Key: this.root + takenKey };
    return this.explained('write', takenKey, signal, () =>
      this.client
        .send(new PutObjectCommand({ ...place, Body: Buffer.from('other'), IfNoneMatch: '*' }), sent(signal))
        .then(() => false)
        .catch((error: unknown) => {
          if (statusOf(error) === 501 || statusOf(error) === 400) return false;
          if (isTaken(error)) return true;
          throw error;
        }),
    );
  }

  override async probeLock(canaryKey: string, { signal }: Abortable = {}): Promise<LockProbe> {
    const put = () => this.write(canaryKey, [Buffer.from('canary')], { overwrite: true, signal });
    return this.explained('lock', canaryKey, signal, () => this.locks.probe(this.root + canaryKey, put, sent(signal)));
  }

  override async lock(key: string, until: Date, { signal }: Abortable = {}): Promise<void> {
    assertKey(key);
    await this.explained('lock', key, signal, () => this.locks.lock(this.root + key, until, this.where, sent(signal)));
  }

  override async lockedUntil(key: string, { signal }: Abortable = {}): Promise<Date | null> {
    assertKey(key);
    return this.explained('look at', key, signal, () => this.locks.lockedUntil(this.root + key, sent(signal)));
  }

  private async abortUploads(bare: string, startedBefore: number, signal?: AbortSignal): Promise<number> {
    const Bucket = this.config.bucket;
    const Prefix = this.root + (bare === '' ? '' : `${bare}/`);
    let aborted = 0;
    let marker: { KeyMarker?: string; UploadIdMarker?: string } = {};
    for (;;) {
      const page = await this.explained('list the uploads below', bare || 'the root', signal, () =>
        this.client.send(new ListMultipartUploadsCommand({ Bucket, Prefix, ...marker }), sent(signal)).catch((error: unknown) => {
          // Some stores have no such call, and no uploads that outlive their writer.
          if (statusOf(error) === 501) return undefined;
          throw error;
        }),
      );
      for (const { Key, UploadId, Initiated } of page?.Uploads ?? []) {
        if (!Key?.startsWith(Prefix) || (Initiated?.getTime() ?? 0) >= startedBefore) continue;
        await this.explained('end the upload of', Key, signal, () =>
          this.client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }), sent(signal)).catch((error: unknown) => {
            if (!isMissing(error) && statusOf(error) !== 404) throw error;
          }),
        );
        aborted += 1;
      }
      if (!page?.IsTruncated || page.NextKeyMarker === undefined) return aborted;
      marker = { KeyMarker: page.NextKeyMarker, ...(page.NextUploadIdMarker ? { UploadIdMarker: page.NextUploadIdMarker } : {}) };
    }
  }

  /** @returns null when the range begins past the end */
  private async open(
    key: string,
    start: number,
    end: number | undefined,
    etag: string | undefined,
    signal?: AbortSignal,
  ): Promise<OpenedObject | null> {
    const whole = start === 0 && end === undefined;
    const command = new GetObjectCommand({
      Bucket: this.config.bucket,
      Key: this.root + key,
      ...(whole ? {} : { Range: `bytes=${start}-${end ?? ''}` }),
      ...(etag === undefined ? {} : { IfMatch: etag }),
    });
    return this.explained('read', key, signal, async () => {
      try {
        const { Body, ContentLength, ETag } = await this.client.send(command, sent(signal));
        return { body: Body as Readable, bytes: ContentLength ?? 0, version: ETag };
      } catch (error) {
        if (statusOf(error) === 416) return null;
        if (isMissing(error)) throw objectMissing(key, this.where);
        throw error;
      }
    });
  }

  protected errorOf(error: unknown, action: string, key: string): EngineError {
    return toS3Error(error, action, key, this.where);
  }
}

/** The call's signal, in the client's form. */
function sent(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal ? { abortSignal: signal } : {};
}

/** What a copy does not take over from its original. */
function kept({ serverSideEncryption, kmsKeyId, storageClass }: S3Config) {
  return {
    ...(serverSideEncryption ? { ServerSideEncryption: serverSideEncryption } : {}),
    ...(kmsKeyId ? { SSEKMSKeyId: kmsKeyId } : {}),
    ...(storageClass ? { StorageClass: storageClass as never } : {}),
  };
}
