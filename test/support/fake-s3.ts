import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { type FakeCall, type Fault, FaultyServer, type Reply } from './faults.js';

interface Stored {
  body: Buffer;
  etag: string;
  modifiedAt: Date;
  metadata: Record<string, string>;
  versionId?: string;
}

interface Lock {
  mode: string;
  until: Date;
}

/** One version of a key, or the mark that it was removed, where versions are kept. */
interface Version {
  id: string;
  stored: Stored | null;
  lock: Lock | null;
}

/**
 * What the bucket makes of locks: it has none and keeps no versions; keeps versions and has no locks; heeds them; says yes and forgets
 * them; shows them and removes what is locked all the same.
 */
type LockKind = 'none' | 'versions' | 'honest' | 'forgetful' | 'toothless';

interface Upload {
  key: string;
  initiated: Date;
  metadata: Record<string, string>;
  parts: Map<number, { body: Buffer; etag: string }>;
}

const LEAST_PART = 5 * 1024 * 1024;

/** A small S3 of one bucket that keeps the rules of parts and signatures, and misbehaves on demand. */
export class FakeS3 extends FaultyServer<Call> {
  readonly objects = new Map<string, Stored>();
  readonly uploads = new Map<string, Upload>();
  /** Of each key, the oldest first; only where versions are kept. */
  readonly versions = new Map<string, Version[]>();
  lock: LockKind = 'none';
  /** The bucket's own rule: every new object is locked for so long. */
  defaultRetentionMs: number | null = null;
  /** How far its clock is ahead of ours. */
  aheadMs = 0;
  /** Whether If-None-Match is heeded. */
  conditional = true;
  /** More parts than these are refused, as some stores do from 1,000 on. */
  mostParts = 10_000;
  /** Makes the body of a multipart object itself be forgotten, for large tests. */
  keepBodies = true;
  protected readonly pretended = { status: 200, headers: { etag: '"0"' } };
  protected readonly replyOf = refusalOf;

  private constructor(readonly bucket: string) {
    super();
  }

  static start(bucket = 'backups'): Promise<FakeS3> {
    return new FakeS3(bucket).listen();
  }

  /** A destination that leads here. */
  get config() {
    return { bucket: this.bucket, endpoint: this.url, accessKeyId: 'AKIAFAKE', secretAccessKey: 'fake-secret' };
  }

  /** Objects and uploads that were not completed, by name. */
  get everything(): string[] {
    const keys = new Set([...this.objects.keys(), ...this.versions.keys()]);
    return [...keys, ...[...this.uploads.values()].map(({ key }) => `upload of ${key}`)].sort();
  }

  /** Removes everything, locked or not. */
  empty(): void {
    for (const all of [this.objects, this.uploads, this.versions]) all.clear();
    this.calls.length = 0;
  }

  /** As if the time of every lock were over. */
  lapse(): void {
    for (const { lock } of [...this.versions.values()].flat()) if (lock) lock.until = new Date(0);
  }

  /** Until when the newest version of each key is locked. */
  get locks(): Record<string, Lock | null> {
    return Object.fromEntries([...this.versions].map(([key, versions]) => [key, versions.at(-1)?.lock ?? null]));
  }

  private lastVersion = 0;

  private now(): number {
    return Date.now() + this.aheadMs;
  }

  protected read(request: IncomingMessage, url: URL): Call {
    const [, bucket = '', ...rest] = url.pathname.split('/').map(decodeURIComponent);
    const asked = { request, url, bucket, query: url.searchParams, key: rest.join('/'), body: Buffer.alloc(0) };
    return { ...asked, operation: operationOf(asked) };
  }

  protected refuse({ bucket, request, body }: Call): Reply | undefined {
    return bucket === this.bucket ? this.unsigned(request, body) : NO_BUCKET;
  }

  /** Requests must carry a signature, and bodies the hash that was signed. */
  private unsigned(request: IncomingMessage, body: Buffer): Reply | undefined {
    if (
      !/^AWS4-HMAC-SHA256 Credential=AKIAFAKE\/\d{8}\/[\w-]+\/s3\/aws4_request, SignedHeaders=.*host.*, Signature=[0-9a-f]{64}$/.test(
        request.headers.authorization ?? '',
      )
    )
      return failure(403, 'SignatureDoesNotMatch');
    const hash = request.headers['x-amz-content-sha256'];
    if (hash !== 'UNSIGNED-PAYLOAD' && hash !== createHash('sha256').update(body).digest('hex'))
      return failure(400, 'XAmzContentSHA256Mismatch');
    return undefined;
  }

  protected perform(call: Call): Reply {
    const { operation, key, query, request, body } = call;
    const upload = this.uploads.get(query.get('uploadId') ?? '');
    const found = this.objects.get(key);
    switch (operation) {
      case 'PutObject':
        if (this.isTaken(call)) return failure(412, 'PreconditionFailed');
        return { status: 200, headers: { etag: this.put(key, body, metadataOf(request)), ...this.versionOf(key) } };
      case 'CopyObject': {
        const source = this.objects.get(sourceOf(request, this.bucket));
        if (!source) return failure(404, 'NoSuchKey');
        return xml(`<CopyObjectResult><ETag>${this.put(key, source.body, source.metadata)}</ETag></CopyObjectResult>`);
      }
      case 'GetObject':
      case 'HeadObject':
        return found
          ? ranged(found, request, this.versionOf(key))
          : failure(404, operation === 'GetObject' ? 'NoSuchKey' : 'NotFound');
      case 'DeleteObject':
        return this.remove(key, query.get('versionId'));
      case 'ListObjectVersions':
        return this.listVersions(query);
      case 'PutObjectRetention':
        return this.retain(call);
      case 'GetObjectRetention': {
        const lock = this.version(key, query.get('versionId'))?.lock;
        return lock
          ? xml(`<Retention><Mode>${lock.mode}</Mode><RetainUntilDate>${lock.until.toISOString()}</RetainUntilDate></Retention>`)
          : failure(404, 'NoSuchObjectLockConfiguration');
      }
      case 'ListObjectsV2':
        return this.list(query);
      case 'CreateMultipartUpload': {
        const id = randomBytes(8).toString('hex');
        this.uploads.set(id, { key, initiated: new Date(), metadata: metadataOf(request), parts: new Map() });
        return xml(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
      }
      case 'UploadPart': {
        if (!upload) return failure(404, 'NoSuchUpload');
        if (Number(query.get('partNumber')) > this.mostParts) return failure(400, 'InvalidArgument');
        const etag = `"${createHash('md5').update(body).digest('hex')}"`;
        upload.parts.set(Number(query.get('partNumber')), { body, etag });
        return { status: 200, headers: { etag } };
      }
      case 'UploadPartCopy': {
        const source = this.objects.get(sourceOf(request, this.bucket));
        if (!upload || !source) return failure(404, upload ? 'NoSuchKey' : 'NoSuchUpload');
        const [, from, to] = /bytes=(\d+)-(\d+)/.exec(String(request.headers['x-amz-copy-source-range'])) ?? [];
        const part = source.body.subarray(Number(from), Number(to) + 1);
        upload.parts.set(Number(query.get('partNumber')), { body: part, etag: '"copied"' });
        return xml('<CopyPartResult><ETag>"copied"</ETag></CopyPartResult>');
      }
      case 'CompleteMultipartUpload':
        return this.complete(call, upload);
      case 'AbortMultipartUpload':
        return this.uploads.delete(query.get('uploadId') ?? '') ? { status: 204 } : failure(404, 'NoSuchUpload');
      case 'ListMultipartUploads':
        return xml(
          `<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>${[...this.uploads]
            .filter(([, { key: of }]) => of.startsWith(query.get('prefix') ?? ''))
            .map(
              ([id, { key: of, initiated }]) =>
                `<Upload><Key>${of}</Key><UploadId>${id}</UploadId><Initiated>${initiated.toISOString()}</Initiated></Upload>`,
            )
            .join('')}</ListMultipartUploadsResult>`,
        );
      default:
        return failure(501, 'NotImplemented');
    }
  }

  private complete(call: Call, upload: Upload | undefined): Reply {
    const id = call.query.get('uploadId') ?? '';
    if (!upload) return failure(404, 'NoSuchUpload');
    if (this.isTaken(call)) return failure(412, 'PreconditionFailed');
    const named = [...call.body.toString().matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, part = '']) => ({
      number: Number(/<PartNumber>(\d+)</.exec(part)?.[1]),
      etag: /<ETag>(.*?)</.exec(part)?.[1]?.replaceAll('&quot;', '"'),
    }));
    const parts = named.map(({ number }) => upload.parts.get(number));
    if (named.some(({ etag }, i) => parts[i] === undefined || etag !== parts[i].etag)) return failure(400, 'InvalidPart');
    if (named.some(({ number }, i) => i > 0 && number <= named[i - 1]!.number)) return failure(400, 'InvalidPartOrder');
    const sizes = parts.map((part) => part!.body.length);
    const [first = 0] = sizes;
    if (sizes.slice(0, -1).some((size) => size < LEAST_PART || size !== first) || (sizes.at(-1) ?? 0) > first)
      return failure(400, 'EntityTooSmall');
    this.uploads.delete(id);
    const etag = this.put(call.key, Buffer.concat(parts.map((part) => part!.body)), upload.metadata);
    return xml(`<CompleteMultipartUploadResult><ETag>${etag}</ETag></CompleteMultipartUploadResult>`);
  }

  private isTaken({ request, key }: Call): boolean {
    return this.conditional && request.headers['if-none-match'] === '*' && this.objects.has(key);
  }

  private put(key: string, body: Buffer, metadata: Record<string, string>): string {
    const etag = `"${createHash('md5').update(body).digest('hex')}"`;
    const stored: Stored = { body, etag, modifiedAt: new Date(this.now()), metadata };
    if (this.lock !== 'none') {
      stored.versionId = this.newVersionId();
      const until = this.defaultRetentionMs === null ? null : new Date(this.now() + this.defaultRetentionMs);
      this.addVersion(key, { id: stored.versionId, stored, lock: until && { mode: 'GOVERNANCE', until } });
    }
    this.objects.set(key, stored);
    return etag;
  }

  /** Later ones are greater. */
  private newVersionId(): string {
    this.lastVersion += 1;
    return `v${String(this.lastVersion).padStart(8, '0')}`;
  }

  private addVersion(key: string, version: Version): void {
    this.versions.set(key, [...(this.versions.get(key) ?? []), version]);
  }

  private version(key: string, id: string | null): Version | undefined {
    return this.versions.get(key)?.findLast((version) => version.stored !== null && (id === null || version.id === id));
  }

  private versionOf(key: string): Record<string, string> {
    const version = this.version(key, null);
    if (!version) return {};
    const lock: Record<string, string> = version.lock
      ? {
          'x-amz-object-lock-mode': version.lock.mode,
          'x-amz-object-lock-retain-until-date': version.lock.until.toISOString(),
        }
      : {};
    return { 'x-amz-version-id': version.id, ...lock };
  }

  /** Without a version, a mark is put over what stays; with one, it is gone for good, unless it is locked. */
  private remove(key: string, versionId: string | null): Reply {
    if (this.lock === 'none' || versionId === null) {
      if (this.lock !== 'none') this.addVersion(key, { id: this.newVersionId(), stored: null, lock: null });
      this.objects.delete(key);
      return { status: 204 };
    }
    const versions = this.versions.get(key) ?? [];
    const lock = versions.find(({ id }) => id === versionId)?.lock;
    if (lock && lock.until.getTime() > this.now() && this.lock === 'honest') return failure(403, 'AccessDenied');
    const left = versions.filter(({ id }) => id !== versionId);
    if (left.length > 0) this.versions.set(key, left);
    else this.versions.delete(key);
    const newest = left.at(-1)?.stored;
    if (newest) this.objects.set(key, newest);
    else this.objects.delete(key);
    return { status: 204 };
  }

  /** Nothing here has the right to shorten a lock, nor to change its mode, in either mode. */
  private retain({ key, query, request, body }: Call): Reply {
    if (this.lock === 'none' || this.lock === 'versions') return failure(400, 'InvalidRequest');
    if (request.headers['content-md5'] !== createHash('md5').update(body).digest('base64')) return failure(400, 'BadDigest');
    const version = this.version(key, query.get('versionId'));
    if (!version) return failure(404, 'NoSuchKey');
    const mode = /<Mode>(GOVERNANCE|COMPLIANCE)</.exec(body.toString())?.[1];
    const until = new Date(/<RetainUntilDate>(.*?)</.exec(body.toString())?.[1] ?? '');
    if (!mode || !(until.getTime() > this.now())) return failure(400, 'InvalidArgument');
    const { lock } = version;
    const isHeld = lock !== null && lock.until.getTime() > this.now();
    if (isHeld && (until < lock.until || mode !== lock.mode)) return failure(403, 'AccessDenied');
    if (this.lock !== 'forgetful') version.lock = { mode, until };
    return { status: 200 };
  }

  private listVersions(query: URLSearchParams): Reply {
    const prefix = query.get('prefix') ?? '';
    const all = [...this.versions]
      .filter(([key]) => key.startsWith(prefix))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([key, versions]) => versions.toReversed().map(({ id, stored }) => ({ key, id, stored })));
    const [markedKey, markedId] = [query.get('key-marker') ?? '', query.get('version-id-marker') ?? ''];
    const left = all.filter(({ key, id }) => key > markedKey || (key === markedKey && id < markedId));
    const page = left.slice(0, 3);
    const last = page.at(-1);
    const more = last !== undefined && left.length > page.length;
    return xml(
      `<ListVersionsResult><IsTruncated>${more}</IsTruncated>${more ? `<NextKeyMarker>${last.key}</NextKeyMarker><NextVersionIdMarker>${last.id}</NextVersionIdMarker>` : ''}${page
        .map(({ key, id, stored }) => {
          const name = stored ? 'Version' : 'DeleteMarker';
          return `<${name}><Key>${key}</Key><VersionId>${id}</VersionId></${name}>`;
        })
        .join('')}</ListVersionsResult>`,
    );
  }

  /** Small pages, so that every listing turns some. */
  private list(query: URLSearchParams): Reply {
    const after = query.get('continuation-token') ?? '';
    const prefix = query.get('prefix') ?? '';
    const keys = [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
    const page = keys.slice(0, 3);
    const more = keys.length > page.length;
    return xml(
      `<ListBucketResult><IsTruncated>${more}</IsTruncated>${more ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : ''}${page
        .map((key) => {
          const { body, modifiedAt } = this.objects.get(key)!;
          return `<Contents><Key>${key}</Key><Size>${body.length}</Size><LastModified>${modifiedAt.toISOString()}</LastModified></Contents>`;
        })
        .join('')}</ListBucketResult>`,
    );
  }
}

interface Call extends FakeCall {
  bucket: string;
  query: URLSearchParams;
  key: string;
}

const NO_BUCKET = failure(404, 'NoSuchBucket');

function operationOf({ request: { method, headers }, query, key }: Omit<Call, 'operation'>): string {
  if (key === '') {
    if (query.has('uploads')) return 'ListMultipartUploads';
    return query.has('versions') ? 'ListObjectVersions' : 'ListObjectsV2';
  }
  if (query.has('retention')) return method === 'PUT' ? 'PutObjectRetention' : 'GetObjectRetention';
  const copies = headers['x-amz-copy-source'] !== undefined;
  if (method === 'PUT')
    return query.has('partNumber') ? (copies ? 'UploadPartCopy' : 'UploadPart') : copies ? 'CopyObject' : 'PutObject';
  if (method === 'POST') return query.has('uploads') ? 'CreateMultipartUpload' : 'CompleteMultipartUpload';
  if (method === 'DELETE') return query.has('uploadId') ? 'AbortMultipartUpload' : 'DeleteObject';
  return method === 'HEAD' ? 'HeadObject' : 'GetObject';
}

function refusalOf(fault: Fault | undefined): Reply | undefined {
  switch (fault) {
    case 'error500':
      return failure(500, 'InternalError');
    case 'slowDown':
      return { ...failure(503, 'SlowDown') };
    case 'denied':
      return failure(403, 'AccessDenied');
    case 'missing':
      return failure(404, 'NoSuchBucket');
    case 'clockSkew':
      return failure(403, 'RequestTimeTooSkewed');
    default:
      return undefined;
  }
}

function failure(status: number, code: string): Reply {
  return { ...xml(`<Error><Code>${code}</Code><Message>${code}</Message></Error>`), status };
}

function xml(text: string): Reply {
  return {
    status: 200,
    headers: { 'content-type': 'application/xml' },
    body: Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>${text}`),
  };
}

function ranged({ body, etag, modifiedAt, metadata }: Stored, request: IncomingMessage, version: Record<string, string>): Reply {
  const headers: Record<string, string> = { etag, 'last-modified': modifiedAt.toUTCString(), ...version };
  for (const [name, value] of Object.entries(metadata)) headers[`x-amz-meta-${name}`] = value;
  if (request.headers['if-match'] !== undefined && request.headers['if-match'] !== etag)
    return failure(412, 'PreconditionFailed');
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  if (!range) return { status: 200, headers, body };
  const [from, to] = [Number(range[1]), range[2] === '' ? body.length - 1 : Math.min(Number(range[2]), body.length - 1)];
  if (from >= body.length) return failure(416, 'InvalidRange');
  return {
    status: 206,
    headers: { ...headers, 'content-range': `bytes ${from}-${to}/${body.length}` },
    body: body.subarray(from, to + 1),
  };
}

function metadataOf(request: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.entries(request.headers)
      .filter(([name]) => name.startsWith('x-amz-meta-'))
      .map(([name, value]) => [name.slice('x-amz-meta-'.length), String(value)]),
  );
}

function sourceOf(request: IncomingMessage, bucket: string): string {
  return decodeURIComponent(String(request.headers['x-amz-copy-source']))
    .replace(/^\//, '')
    .slice(bucket.length + 1);
}
