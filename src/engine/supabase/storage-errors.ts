import { EngineError } from '../errors.js';

interface StorageFailure {
  name?: string;
  code?: string;
  message?: string;
  status?: number | string;
  statusCode?: string;
  originalError?: unknown;
}

/** The status that the store means: some of its versions answer 400, and say in the body what it is. */
export function storageStatus(error: unknown): number | undefined {
  const { status, statusCode } = (error ?? {}) as StorageFailure;
  const said = Number(statusCode);
  if (Number.isInteger(said) && said >= 400) return said;
  return typeof status === 'number' ? status : undefined;
}

/** The bucket itself is not there. */
export function isNoBucket(error: unknown): boolean {
  const { message, statusCode } = (error ?? {}) as StorageFailure;
  return statusCode === 'NoSuchBucket' || (storageStatus(error) === 404 && /bucket not found/i.test(message ?? ''));
}

/** The object, or the bucket, is not there. */
export function isNotThere(error: unknown): boolean {
  return storageStatus(error) === 404 || ['NoSuchKey', 'NoSuchBucket'].includes(String((error as StorageFailure)?.statusCode));
}

/** The key, or the bucket's name, is taken. */
export function isDuplicate(error: unknown): boolean {
  const { message, statusCode } = (error ?? {}) as StorageFailure;
  return storageStatus(error) === 409 || statusCode === 'KeyAlreadyExists' || /already exists/i.test(message ?? '');
}

/** Turns what supabase-js throws into the EngineError that says what failed where. EngineErrors pass unchanged. */
export function toStorageError(error: unknown, action: string, key: string, where: string): EngineError {
  if (error instanceof EngineError) return error;
  const { why, hint } = explain(error as StorageFailure);
  return new EngineError('STORE_FAILED', `Could not ${action} ${key} in ${where}: ${why}.`, hint, { cause: error });
}

const KEY_HINT = "Check the project's URL and its service role key (Project Settings, API keys); an anon key is not enough.";

function explain(error: StorageFailure): { why: string; hint: string } {
  const status = storageStatus(error);
  const said = error.message ?? '';
  if (/claim timestamp|jwt expired|"(exp|iat|nbf)"/i.test(said))
    return {
      why: 'the key is not valid at the time of the store (its clock or ours is wrong, or the key has expired)',
      hint: 'Set the clocks (NTP), or make a new service role key.',
    };
  if (isNoBucket(error))
    return {
      why: 'there is no such bucket',
      hint: 'Create the bucket, or correct the name; keys that may not create it can not.',
    };
  if (status === 401 || /jws|jwt|signature|api key/i.test(said)) return { why: 'the key was refused', hint: KEY_HINT };
  if (status === 403) return { why: 'access was denied', hint: KEY_HINT };
  if (status === 404)
    return { why: 'the store does not know it (404)', hint: "Check the project's URL, and that its Storage is on." };
  if (status === 413 || /exceeded the maximum allowed size|entity too large/i.test(said))
    return {
      why: "the object is larger than the project's limit for one file",
      hint: 'Raise the global file size limit in the Storage settings of the project, and that of the bucket.',
    };
  if (status === 429 || status === 503)
    return { why: `the store asks to slow down (${status})`, hint: 'Try again later, or let fewer runs go at the same time.' };
  if (status !== undefined && status >= 500)
    return {
      why: `the store failed with ${status}`,
      hint: 'Try again when the store is well; a paused project has to be restored.',
    };
  if (status !== undefined) return { why: `the store answered ${status}`, hint: 'Check the settings of the destination.' };
  const original = (error.originalError ?? error) as { code?: string; name?: string };
  return {
    why: `the store did not answer (${original.code ?? original.name ?? 'no answer'})`,
    hint: "Check the project's URL, the network between, and whether the project is paused.",
  };
}
