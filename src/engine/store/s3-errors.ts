import { EngineError } from '../errors.js';

interface S3Failure {
  name?: string;
  code?: string;
  message?: string;
  $metadata?: { httpStatusCode?: number; attempts?: number };
}

/** The HTTP status of a failed call, or undefined when no answer came. */
export function statusOf(error: unknown): number | undefined {
  return (error as S3Failure | undefined)?.$metadata?.httpStatusCode;
}

export function isMissing(error: unknown): boolean {
  const name = nameOf(error);
  return name === 'NoSuchKey' || name === 'NotFound' || (statusOf(error) === 404 && name !== 'NoSuchBucket');
}

/** The key is taken: a conditional write was refused, or two met. */
export function isTaken(error: unknown): boolean {
  return statusOf(error) === 412 || (statusOf(error) === 409 && nameOf(error) === 'ConditionalRequestConflict');
}

/** The store's name for what failed. */
export function nameOf(error: unknown): string {
  const failure = error as S3Failure | undefined;
  return failure?.name ?? failure?.code ?? '';
}

/** Turns what the client throws into the EngineError that says what failed where. EngineErrors pass unchanged. */
export function toS3Error(error: unknown, action: string, key: string, where: string): EngineError {
  if (error instanceof EngineError) return error;
  const { why, hint } = explain(error as S3Failure);
  return new EngineError('STORE_FAILED', `Could not ${action} ${key} in ${where}: ${why}.`, hint, { cause: error });
}

function explain(error: S3Failure): { why: string; hint: string } {
  const status = error.$metadata?.httpStatusCode;
  const name = nameOf(error);
  switch (name) {
    case 'RequestTimeTooSkewed':
      return {
        why: "the server refuses our clock's time (RequestTimeTooSkewed)",
        hint: 'Set the clock of this machine or of the store (NTP); they may differ by a few minutes at most.',
      };
    case 'InvalidAccessKeyId':
    case 'SignatureDoesNotMatch':
      return { why: `the credentials were refused (${name})`, hint: "Check the destination's access key, secret and region." };
    case 'NoSuchBucket':
      return { why: 'there is no such bucket (NoSuchBucket)', hint: 'Create the bucket, or correct its name and region.' };
    case 'SlowDown':
      return { why: 'the store asks to slow down (SlowDown)', hint: 'Try again later, or let fewer runs go at the same time.' };
    default:
  }
  if (status === 403)
    return {
      why: `access was denied (${name || '403'})`,
      hint: 'Give the credentials the rights to list the bucket and to read, write and delete objects below the prefix.',
    };
  if (status !== undefined && status >= 500)
    return { why: `the store failed with ${status} (${name || 'no name'})`, hint: 'Try again when the store is well.' };
  if (status !== undefined)
    return { why: `the store answered ${status} (${name || 'no name'})`, hint: 'Check the settings of the destination.' };
  return {
    why: `the store did not answer (${error.code ?? (name || 'no answer')})`,
    hint: 'Check the endpoint, the network between, and whether the store runs.',
  };
}
