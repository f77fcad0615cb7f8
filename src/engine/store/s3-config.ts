/** Where a bucket is and how it is spoken to. */
export interface S3Config {
  bucket: string;
  /** `us-east-1` when left out; `auto` for R2. */
  region?: string;
  /** Left out for AWS itself. */
  endpoint?: string;
  /** Folder in the bucket below which everything lies. */
  prefix?: string;
  /** `https://host/bucket/key`; true with an endpoint, unless set. */
  forcePathStyle?: boolean;
  accessKeyId?: string;
  secretAccessKey?: string;
  sessionToken?: string;
  serverSideEncryption?: 'AES256' | 'aws:kms';
  kmsKeyId?: string;
  storageClass?: string;
  /** How the objects of backups are locked; versions are then removed one by one. */
  objectLock?: 'governance' | 'compliance' | null;
  /** Size of each part of an upload, in MiB. */
  partMiB?: number;
  /** Size of the objects that what is larger is cut into; a thousand parts, which every store takes, when left out. */
  segmentMiB?: number;
  /** Above it one call can't copy an object; 5 GiB, by S3's rules. */
  mostCopiedBytes?: number;
  /** Size of each part of a copy that one call can't do; 1 GiB. */
  copiedPartBytes?: number;
  /** How long a call may stand still. */
  timeoutMs?: number;
  /** How often a call is tried. */
  maxAttempts?: number;
  /** Checks each address that is connected to. */
  lookup?: (hostname: string, options: object, callback: (...args: never[]) => void) => void;
}

const MIB = 1024 * 1024;

/** Least and most that one part may have, by S3's rules. */
const LEAST_PART_MIB = 5;
export const MOST_PARTS = 10_000;
/** Some stores take no more. */
const MOST_PARTS_ANYWHERE = 1000;

/** Bytes of each part. */
export function partBytes({ partMiB = 16 }: S3Config): number {
  return Math.max(LEAST_PART_MIB, partMiB) * MIB;
}

/** Bytes of the largest object. */
export function segmentBytes(config: S3Config): number {
  const { segmentMiB = Infinity } = config;
  return Math.min(segmentMiB * MIB, partBytes(config) * (segmentMiB === Infinity ? MOST_PARTS_ANYWHERE : MOST_PARTS));
}
