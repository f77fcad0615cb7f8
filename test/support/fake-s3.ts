import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { type FakeCall, type Fault, FaultyServer, type Reply } from './faults.js';

interface Stored {
  body: Buffer;
  etag: string;
  modifiedAt: Date;
  metadata: Record<string, string>;
}

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
  /** Whether If-None-Match is heeded. */
  conditional = true;
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
    return [...this.objects.keys(), ...[...this.uploads.values()].map(({ key }) => `upload of ${key}`)].sort();
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
        return { status: 200, headers: { etag: this.put(key, body, metadataOf(request)) } };
      case 'CopyObject': {
        const source = this.objects.get(sourceOf(request, this.bucket));
        if (!source) return failure(404, 'NoSuchKey');
        return xml(`<CopyObjectResult><ETag>${this.put(key, source.body, source.metadata)}</ETag></CopyObjectResult>`);
      }
      case 'GetObject':
      case 'HeadObject':
        return found ? ranged(found, request) : failure(404, operation === 'GetObject' ? 'NoSuchKey' : 'NotFound');
      case 'DeleteObject':
        this.objects.delete(key);
        return { status: 204 };
      case 'ListObjectsV2':
        return this.list(query);
      case 'CreateMultipartUpload': {
        const id = randomBytes(8).toString('hex');
        this.uploads.set(id, { key, initiated: new Date(), metadata: metadataOf(request), parts: new Map() });
        return xml(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
      }
      case 'UploadPart': {
        if (!upload) return failure(404, 'NoSuchUpload');
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
      case 'GetObjectLockConfiguration':
        return failure(404, 'ObjectLockConfigurationNotFoundError');
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
    this.objects.set(key, { body, etag, modifiedAt: new Date(), metadata });
    return etag;
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
    return query.has('object-lock') ? 'GetObjectLockConfiguration' : 'ListObjectsV2';
  }
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

function ranged({ body, etag, modifiedAt, metadata }: Stored, request: IncomingMessage): Reply {
  const headers: Record<string, string> = { etag, 'last-modified': modifiedAt.toUTCString() };
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
