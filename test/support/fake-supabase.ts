import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { type FakeCall, type Fault, FaultyServer, type Reply } from './faults.js';

export interface FakeObject {
  body: Buffer;
  etag: string;
  contentType: string;
  cacheControl: string;
  metadata: Record<string, unknown>;
  createdAt: Date;
  updatedAt: Date;
}

export interface FakeBucket {
  public: boolean;
  file_size_limit: number | null;
  allowed_mime_types: string[] | null;
  objects: Map<string, FakeObject>;
}

interface ResumableUpload {
  bucket: string;
  key: string;
  contentType: string;
  cacheControl: string;
  metadata: Record<string, unknown>;
  upsert: boolean;
  length: number | null;
  parts: Buffer[];
}

const PART_BYTES = 6 * 1024 * 1024;
const PAGE = 3;

/** A small Storage API of Supabase, with its habits: real status only in the body, no encoding of what comes after `?`, small pages. */
export class FakeSupabase extends FaultyServer<Call> {
  readonly buckets = new Map<string, FakeBucket>();
  readonly uploads = new Map<string, ResumableUpload>();
  readonly serviceRoleKey = 'fake-service-role-key';
  /** Most bytes of one object. */
  fileSizeLimit = Infinity;
  protected readonly pretended = json({ Key: 'x', Id: 'x', message: 'Successfully moved' });
  protected readonly replyOf = refusalOf;

  static start(): Promise<FakeSupabase> {
    return new FakeSupabase().listen();
  }

  /** A destination that leads here. */
  get config() {
    return { url: this.url, serviceRoleKey: this.serviceRoleKey, bucket: 'backups' };
  }

  /** Objects, by bucket and name, and uploads that were not completed. */
  get everything(): string[] {
    const objects = [...this.buckets].flatMap(([bucket, { objects: all }]) => [...all.keys()].map((key) => `${bucket}/${key}`));
    return [...objects, ...[...this.uploads.values()].map(({ bucket, key }) => `upload of ${bucket}/${key}`)].sort();
  }

  makeBucket(name: string, about: Partial<FakeBucket> = {}): FakeBucket {
    const bucket = { public: false, file_size_limit: null, allowed_mime_types: null, objects: new Map(), ...about };
    this.buckets.set(name, bucket);
    return bucket;
  }

  put(bucket: string, key: string, body: Buffer | string, about: Partial<FakeObject> = {}): void {
    const content = Buffer.from(body);
    const [createdAt, updatedAt] = [new Date(), new Date()];
    const etag = `"${createHash('md5').update(content).digest('hex')}"`;
    const object = {
      body: content,
      etag,
      contentType: 'text/plain',
      cacheControl: 'max-age=3600',
      metadata: {},
      createdAt,
      updatedAt,
    };
    this.buckets.get(bucket)!.objects.set(key, { ...object, ...about });
  }

  override heal(): void {
    super.heal();
    this.fileSizeLimit = Infinity;
  }

  protected read(request: IncomingMessage, url: URL): Call {
    const path = url.pathname.replace('/storage/v1/', '').split('/').map(decodeURIComponent);
    return { operation: operationOf(request.method ?? 'GET', path), path, request, body: Buffer.alloc(0), url };
  }

  protected refuse({ request }: Call): Reply | undefined {
    const { apikey, authorization } = request.headers;
    if (apikey !== this.serviceRoleKey) return { ...json({ message: 'Invalid API key' }), status: 401 };
    if (authorization !== `Bearer ${this.serviceRoleKey}`) return failure(403, 'Unauthorized', 'Invalid Compact JWS');
    return undefined;
  }

  protected perform({ operation, path, request, body, url }: Call): Reply {
    const bucketOf = (name: string | undefined) => this.buckets.get(name ?? '');
    switch (operation) {
      case 'createBucket': {
        const asked = JSON.parse(String(body)) as {
          id: string;
          public: boolean;
          file_size_limit?: number;
          allowed_mime_types?: string[];
        };
        if (this.buckets.has(asked.id)) return failure(409, 'Duplicate', 'The resource already exists');
        this.makeBucket(asked.id, {
          public: asked.public,
          file_size_limit: asked.file_size_limit ?? null,
          allowed_mime_types: asked.allowed_mime_types ?? null,
        });
        return json({ name: asked.id });
      }
      case 'listBuckets': {
        const [limit, offset] = [Number(url.searchParams.get('limit') ?? 100), Number(url.searchParams.get('offset') ?? 0)];
        return json([...this.buckets].slice(offset, offset + limit).map(bucketView));
      }
      case 'getBucket': {
        const bucket = bucketOf(path[1]);
        return bucket ? json(bucketView([path[1]!, bucket])) : failure(404, 'Bucket not found', 'Bucket not found');
      }
      case 'listV2':
        return this.list(path[2]!, JSON.parse(String(body)));
      case 'move':
        return this.move(JSON.parse(String(body)));
      case 'remove': {
        const bucket = bucketOf(path[1]);
        if (!bucket) return failure(404, 'Bucket not found', 'Bucket not found');
        const { prefixes } = JSON.parse(String(body)) as { prefixes: string[] };
        return json(prefixes.filter((key) => bucket.objects.delete(key)).map((name) => ({ name })));
      }
      case 'info': {
        const found = bucketOf(path[2])?.objects.get(path.slice(3).join('/'));
        if (!found) return failure(404, 'not_found', 'Object not found');
        return json({
          name: path.slice(3).join('/'),
          size: found.body.length,
          content_type: found.contentType,
          cache_control: found.cacheControl,
          etag: found.etag,
          metadata: found.metadata,
          last_modified: found.updatedAt.toISOString(),
          created_at: found.createdAt.toISOString(),
        });
      }
      case 'download': {
        const at = path[1] === 'authenticated' ? 2 : 1;
        const bucket = bucketOf(path[at]);
        if (!bucket) return failure(404, 'Bucket not found', 'Bucket not found');
        const found = bucket.objects.get(path.slice(at + 1).join('/'));
        return found ? ranged(found, request) : failure(404, 'not_found', 'Object not found');
      }
      case 'upload':
        return this.store(path[1]!, path.slice(2).join('/'), {
          body,
          contentType: String(request.headers['content-type']),
          cacheControl: String(request.headers['cache-control']),
          metadata: metadataOf(String(request.headers['x-metadata'] ?? '')),
          upsert: request.headers['x-upsert'] === 'true' || request.method === 'PUT',
        });
      default:
        return this.resumable(operation, path.at(-1)!, request, body);
    }
  }

  private resumable(operation: string, id: string, request: IncomingMessage, body: Buffer): Reply {
    const tus = { 'tus-resumable': '1.0.0' };
    if (operation === 'beginUpload') {
      const about = Object.fromEntries(
        String(request.headers['upload-metadata'])
          .split(',')
          .map((pair) => pair.split(' '))
          .map(([name = '', value = '']) => [name, Buffer.from(value, 'base64').toString()]),
      );
      const upload: ResumableUpload = {
        bucket: about['bucketName'] ?? '',
        key: about['objectName'] ?? '',
        contentType: about['contentType'] ?? '',
        cacheControl: /^\d+$/.test(about['cacheControl'] ?? '') ? `max-age=${about['cacheControl']}` : 'no-cache',
        metadata: JSON.parse(about['metadata'] ?? '{}') as Record<string, unknown>,
        upsert: request.headers['x-upsert'] === 'true',
        length: request.headers['upload-length'] === undefined ? null : Number(request.headers['upload-length']),
        parts: [],
      };
      if (!this.buckets.has(upload.bucket)) return { status: 404, body: 'Bucket not found' };
      if (this.buckets.get(upload.bucket)!.objects.has(upload.key) && !upload.upsert)
        return { status: 409, body: 'The resource already exists' };
      const name = randomBytes(8).toString('hex');
      this.uploads.set(name, upload);
      // It may think that it lives elsewhere.
      return { status: 201, headers: { ...tus, location: `http://inner-host.invalid/upload/resumable/${name}` } };
    }
    const upload = this.uploads.get(id);
    if (!upload) return { status: 404, headers: tus, body: 'The file for this url was not found' };
    const offset = upload.parts.reduce((bytes, part) => bytes + part.length, 0);
    if (operation === 'endUpload') {
      this.uploads.delete(id);
      return { status: 204, headers: tus };
    }
    if (operation === 'askUpload') {
      const length: Record<string, string> =
        upload.length === null ? { 'upload-defer-length': '1' } : { 'upload-length': String(upload.length) };
      return { status: 200, headers: { ...tus, ...length, 'upload-offset': String(offset) } };
    }
    if (Number(request.headers['upload-offset']) !== offset) return { status: 409, headers: tus, body: 'Upload-Offset conflict' };
    if (request.headers['upload-length'] !== undefined) upload.length = Number(request.headers['upload-length']);
    const total = offset + body.length;
    if (total > this.fileSizeLimit) return { status: 413, headers: tus, body: 'Maximum size exceeded' };
    if (body.length !== PART_BYTES && total !== upload.length)
      return { status: 400, headers: tus, body: 'Parts must have 6 MiB' };
    upload.parts.push(body);
    if (total === upload.length) {
      this.uploads.delete(id);
      const stored = this.store(upload.bucket, upload.key, { ...upload, body: Buffer.concat(upload.parts) });
      if (stored.status !== 200) return { status: 409, headers: tus, body: 'The resource already exists' };
    }
    return { status: 204, headers: { ...tus, 'upload-offset': String(total) } };
  }

  private store(
    name: string,
    key: string,
    object: Pick<FakeObject, 'body' | 'contentType' | 'cacheControl' | 'metadata'> & { upsert: boolean },
  ): Reply {
    const bucket = this.buckets.get(name);
    if (!bucket) return failure(404, 'Bucket not found', 'Bucket not found');
    if (bucket.objects.has(key) && !object.upsert) return failure(409, 'Duplicate', 'The resource already exists');
    if (object.body.length > Math.min(this.fileSizeLimit, bucket.file_size_limit ?? Infinity))
      return failure(413, 'Payload too large', 'The object exceeded the maximum allowed size');
    if (bucket.allowed_mime_types && !bucket.allowed_mime_types.includes(object.contentType))
      return failure(415, 'invalid_mime_type', `mime type ${object.contentType} is not supported`);
    const { body, contentType, cacheControl, metadata } = object;
    this.put(name, key, body, { contentType, cacheControl, metadata });
    return json({ Id: randomBytes(4).toString('hex'), Key: `${name}/${key}` });
  }

  private move({ bucketId, sourceKey, destinationKey }: { bucketId: string; sourceKey: string; destinationKey: string }): Reply {
    const objects = this.buckets.get(bucketId)?.objects;
    const found = objects?.get(sourceKey);
    if (!objects || !found) return failure(404, 'not_found', 'Object not found');
    if (objects.has(destinationKey)) return failure(409, 'Duplicate', 'The resource already exists');
    objects.set(destinationKey, found);
    objects.delete(sourceKey);
    return json({ message: 'Successfully moved' });
  }

  private list(name: string, { prefix = '', cursor = '' }: { prefix?: string; cursor?: string }): Reply {
    const bucket = this.buckets.get(name);
    if (!bucket) return failure(404, 'Bucket not found', 'Bucket not found');
    const after = Buffer.from(cursor, 'base64').toString();
    const keys = [...bucket.objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
    const page = keys.slice(0, PAGE);
    const hasNext = keys.length > page.length;
    return json({
      hasNext,
      folders: [],
      objects: page.map((key) => {
        const { body, contentType, cacheControl, etag, createdAt, updatedAt } = bucket.objects.get(key)!;
        return {
          id: createHash('md5').update(key).digest('hex'),
          name: key,
          key,
          created_at: createdAt.toISOString(),
          updated_at: updatedAt.toISOString(),
          metadata: {
            eTag: etag,
            size: body.length,
            mimetype: contentType,
            cacheControl,
            contentLength: body.length,
            httpStatusCode: 200,
          },
        };
      }),
      ...(hasNext ? { nextCursor: Buffer.from(page.at(-1)!).toString('base64') } : {}),
    });
  }
}

interface Call extends FakeCall {
  path: string[];
}

function operationOf(method: string, [first, second, third]: string[]): string {
  if (first === 'bucket') return method === 'POST' ? 'createBucket' : second === undefined ? 'listBuckets' : 'getBucket';
  if (first === 'upload')
    return method === 'POST' ? 'beginUpload' : method === 'HEAD' ? 'askUpload' : method === 'PATCH' ? 'sendPart' : 'endUpload';
  if (second === 'list-v2' && third !== undefined) return 'listV2';
  if (second === 'move') return 'move';
  if (second === 'info') return 'info';
  if (method === 'DELETE') return 'remove';
  return method === 'GET' ? 'download' : 'upload';
}

function bucketView([id, { objects: _objects, ...about }]: [string, FakeBucket]) {
  return { id, name: id, owner: '', created_at: '2026-01-01T00:00:00Z', updated_at: '2026-01-01T00:00:00Z', ...about };
}

function refusalOf(fault: Fault | undefined): Reply | undefined {
  switch (fault) {
    case 'error500':
      return { ...json({ statusCode: '500', error: 'Internal', message: 'Internal Server Error' }), status: 500 };
    case 'slowDown':
      return { ...json({ statusCode: '503', error: 'SlowDown', message: 'Please reduce your request rate' }), status: 503 };
    case 'denied':
      return failure(403, 'Unauthorized', 'new row violates row-level security policy');
    case 'missing':
      return failure(404, 'Bucket not found', 'Bucket not found');
    case 'clockSkew':
      return failure(403, 'Unauthorized', '"iat" claim timestamp check failed');
    default:
      return undefined;
  }
}

/** As the real one does it: 400 by HTTP, and what it is in the body. */
function failure(statusCode: number, error: string, message: string): Reply {
  return { ...json({ statusCode: String(statusCode), error, message }), status: 400 };
}

function json(value: unknown): Reply {
  return { status: 200, headers: { 'content-type': 'application/json' }, body: JSON.stringify(value) };
}

function metadataOf(header: string): Record<string, unknown> {
  return header === '' ? {} : (JSON.parse(Buffer.from(header, 'base64').toString()) as Record<string, unknown>);
}

function ranged({ body, etag, contentType, updatedAt }: FakeObject, request: IncomingMessage): Reply {
  const headers = { etag, 'content-type': contentType, 'last-modified': updatedAt.toUTCString() };
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  if (!range) return { status: 200, headers, body };
  const [from, to] = [Number(range[1]), range[2] === '' ? body.length - 1 : Math.min(Number(range[2]), body.length - 1)];
  if (from >= body.length) return failure(416, 'InvalidRange', 'The requested range is not satisfiable');
  return {
    status: 206,
    headers: { ...headers, 'content-range': `bytes ${from}-${to}/${body.length}` },
    body: body.subarray(from, to + 1),
  };
}
