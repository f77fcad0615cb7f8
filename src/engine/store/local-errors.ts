import { EngineError } from '../errors.js';

const FULL = new Set(['ENOSPC', 'EDQUOT']);

/** The `code` of a system error (`ENOENT`, …), or undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  // Not by instanceof: an error made in another realm (a worker, a test's sandbox) is none of this realm's Errors.
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : undefined;
}

/** Whether a system error says that a disk or quota is full. */
export function isDiskFull(error: unknown): boolean {
  return FULL.has(systemCode(error) ?? '');
}

export function objectMissing(key: string, root: string): EngineError {
  return new EngineError(
    'OBJECT_MISSING',
    `The object ${key} does not exist in ${root}.`,
    'It was removed or never written; check that the right folder is mounted.',
  );
}

export function objectExists(key: string, root: string): EngineError {
  return new EngineError(
    'OBJECT_EXISTS',
    `The object ${key} already exists in ${root} and was not overwritten.`,
    'Another run has written it; remove it first if it is not wanted.',
  );
}

export function objectLocked(key: string, root: string, until: Date): EngineError {
  return new EngineError(
    'OBJECT_LOCKED',
    `The object ${key} in ${root} is locked until ${until.toISOString()}.`,
    'Nothing removes it before; wait until then.',
  );
}

export function diskFull(folder: string, bytesWritten: number, cause?: unknown): EngineError {
  return new EngineError(
    'DISK_FULL',
    `The disk or quota of ${folder} is full: ${bytesWritten} bytes of the object were written, and removed again.`,
    'Free some space there, raise the quota, or choose another destination; then run the backup again.',
    { cause },
  );
}

/** Turns a system error met at `folder` into the EngineError that says what failed there. EngineErrors pass unchanged. */
export function toStoreError(error: unknown, action: string, key: string, folder: string, bytesWritten: number): EngineError {
  if (error instanceof EngineError) return error;
  const code = systemCode(error);
  if (isDiskFull(error)) return diskFull(folder, bytesWritten, error);
  return new EngineError(
    'STORE_FAILED',
    `Could not ${action} ${key} in ${folder}: ${describeSystemError(error)}.`,
    hintFor(code),
    {
      cause: error,
    },
  );
}

const IN_WORDS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'read-only file system',
  ENOENT: 'no such folder',
  ENOTDIR: 'no such folder',
  EIO: 'the device failed',
};

/** A system error in words, with its code. */
export function describeSystemError(error: unknown): string {
  const code = systemCode(error);
  if (code === undefined) return error instanceof Error ? error.message : String(error);
  return code in IN_WORDS ? `${IN_WORDS[code]} (${code})` : code;
}

function hintFor(code: string | undefined): string {
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return 'Give the user that the server runs as read and write rights to that folder.';
    case 'EROFS':
      return 'The file system is mounted read-only; remount it for writing.';
    case 'ENOENT':
    case 'ENOTDIR':
      return 'The folder went away while it was in use; check that the volume is mounted.';
    case 'EIO':
      return 'The device reported a fault; check the disk and its cables before the next run.';
    default:
      return 'Check the folder, its rights and the device below it.';
  }
}
