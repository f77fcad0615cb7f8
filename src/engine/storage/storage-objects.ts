import { createHash } from 'node:crypto';

/** A bucket, as a backup keeps it. */
export interface StorageBucket {
  name: string;
  public: boolean;
  fileSizeLimit: number | null;
  allowedMimeTypes: string[] | null;
}

/** An object of a bucket, with what is known of it besides its bytes. */
export interface StorageObject {
  bucket: string;
  key: string;
  bytes: number;
  contentType: string;
  /** As the header has it, such as `max-age=3600`. */
  cacheControl: string;
  /** What its owner has noted of it. */
  metadata: Record<string, unknown>;
  createdAt: string | null;
  updatedAt: string | null;
}

/** What a backup holds of a project's Storage. */
export interface StorageSummary {
  buckets: number;
  objects: number;
  bytes: number;
  /** Over buckets and objects with their bytes' hashes, in the order of the archive. */
  sha256: string;
}

/** Counts and hashes what an archive holds; the same buckets and objects in the same order give the same summary. */
export class StorageDigest {
  private readonly hash = createHash('sha256');
  private buckets = 0;
  private objects = 0;
  private bytes = 0;

  addBucket({ name, public: isPublic, fileSizeLimit, allowedMimeTypes }: StorageBucket): void {
    this.buckets += 1;
    this.line(['bucket', name, isPublic, fileSizeLimit, allowedMimeTypes]);
  }

  /** @param sha256 of the object's bytes, in hex */
  addObject({ bucket, key, bytes, contentType, cacheControl, metadata }: StorageObject, sha256: string): void {
    this.objects += 1;
    this.bytes += bytes;
    this.line(['object', bucket, key, bytes, sha256, contentType, cacheControl, metadata]);
  }

  /** Call it once. */
  summary(): StorageSummary {
    return { buckets: this.buckets, objects: this.objects, bytes: this.bytes, sha256: this.hash.digest('hex') };
  }

  private line(values: unknown[]): void {
    this.hash.update(`${JSON.stringify(values)}\n`);
  }
}
