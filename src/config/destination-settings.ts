import { fault, type EnvironmentReader } from './environment-reader.js';

/** The bucket that `S3_BUCKET` and its siblings name. */
export interface S3Settings {
  bucket: string;
  region?: string;
  endpoint?: string;
  prefix?: string;
  forcePathStyle?: boolean;
  accessKeyId: string;
  secretAccessKey: string;
  serverSideEncryption?: 'AES256' | 'aws:kms';
  kmsKeyId?: string;
  storageClass?: string;
  partMiB?: number;
  objectLock?: 'governance' | 'compliance';
  objectLockDays?: number;
  segmentMiB?: number;
}

/** The Supabase project that `SUPABASE_URL` and its siblings name. */
export interface SupabaseSettings {
  url: string;
  serviceRoleKey: string;
  bucket: string;
  prefix?: string;
  segmentMiB?: number;
}

const PREFIX = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$/;

/** Reads and checks the Supabase project whose Storage becomes a default destination; faults are gathered in the reader. */
export function supabaseSettings(read: EnvironmentReader): SupabaseSettings | null {
  const [url, serviceRoleKey] = [read.text('SUPABASE_URL'), read.text('SUPABASE_SERVICE_ROLE_KEY')];
  if (url === undefined && serviceRoleKey === undefined) return null;
  if (url === undefined || serviceRoleKey === undefined)
    read.faults.push(fault('SUPABASE_URL', 'and SUPABASE_SERVICE_ROLE_KEY belong together', 'set both, or leave both out'));
  if (url !== undefined && !isWebUrl(url))
    read.faults.push(fault('SUPABASE_URL', 'is not a URL of the web', 'write it whole, such as https://<ref>.supabase.co'));
  const bucket = read.text('SUPABASE_BUCKET') ?? 'backstay';
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,99}$/.test(bucket))
    read.faults.push(fault('SUPABASE_BUCKET', 'is not the name of a bucket', 'use letters, digits, dots and dashes'));
  const prefix = read.text('SUPABASE_PREFIX');
  if (prefix !== undefined && !PREFIX.test(prefix))
    read.faults.push(fault('SUPABASE_PREFIX', 'is not a folder in a bucket', 'use letters, digits, dots, dashes and slashes'));
  const segment = segmentMiB(read, 'SUPABASE_SEGMENT_MIB');
  return {
    url: url ?? '',
    serviceRoleKey: serviceRoleKey ?? '',
    bucket,
    ...(prefix === undefined ? {} : { prefix }),
    ...segment,
  };
}

function segmentMiB(read: EnvironmentReader, name: string): { segmentMiB?: number } {
  return read.text(name) === undefined ? {} : { segmentMiB: read.integer(name, 5, 5, 5 * 1024 * 1024) };
}

function isWebUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}

/** Reads and checks the bucket that becomes the default destination; faults are gathered in the reader. */
export function s3Settings(read: EnvironmentReader): S3Settings | null {
  const bucket = read.text('S3_BUCKET');
  if (bucket === undefined) return null;
  const [accessKeyId, secretAccessKey] = [read.text('S3_ACCESS_KEY_ID'), read.text('S3_SECRET_ACCESS_KEY')];
  if (accessKeyId === undefined || secretAccessKey === undefined)
    read.faults.push(
      fault('S3_ACCESS_KEY_ID', 'and S3_SECRET_ACCESS_KEY are needed with S3_BUCKET', 'set both, or leave S3_BUCKET out'),
    );
  const endpoint = read.text('S3_ENDPOINT');
  if (endpoint !== undefined && !isWebUrl(endpoint))
    read.faults.push(fault('S3_ENDPOINT', 'is not a URL of the web', 'write it whole, such as https://s3.example.org'));
  const prefix = read.text('S3_PREFIX');
  if (prefix !== undefined && !PREFIX.test(prefix))
    read.faults.push(fault('S3_PREFIX', 'is not a folder in a bucket', 'use letters, digits, dots, dashes and slashes'));
  const sse = read.text('S3_SSE') === undefined ? undefined : read.oneOf('S3_SSE', ['aes256', 'aws:kms'] as const, 'aes256');
  const isLocked = read.text('S3_OBJECT_LOCK') !== undefined;
  if (isLocked !== (read.text('S3_OBJECT_LOCK_DAYS') !== undefined))
    read.faults.push(fault('S3_OBJECT_LOCK', 'and S3_OBJECT_LOCK_DAYS belong together', 'set both, or leave both out'));
  const optional = {
    region: read.text('S3_REGION'),
    endpoint,
    prefix,
    kmsKeyId: read.text('S3_KMS_KEY_ID'),
    storageClass: read.text('S3_STORAGE_CLASS'),
  };
  return {
    bucket,
    accessKeyId: accessKeyId ?? '',
    secretAccessKey: secretAccessKey ?? '',
    forcePathStyle: read.boolean('S3_FORCE_PATH_STYLE', endpoint !== undefined),
    partMiB: read.integer('S3_PART_MIB', 16, 5, 512),
    ...(isLocked
      ? {
          objectLock: read.oneOf('S3_OBJECT_LOCK', ['governance', 'compliance'] as const, 'governance'),
          objectLockDays: read.integer('S3_OBJECT_LOCK_DAYS', 30, 1, 365),
        }
      : {}),
    ...segmentMiB(read, 'S3_SEGMENT_MIB'),
    ...(sse === undefined ? {} : { serverSideEncryption: sse === 'aws:kms' ? ('aws:kms' as const) : ('AES256' as const) }),
    ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
  };
}
