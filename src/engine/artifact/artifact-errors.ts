import { EngineError } from '../errors.js';
import { systemCode } from '../store/local-errors.js';
import { AgeFailure } from './age-decrypt.js';

export function artifactCorrupt(name: string, difference: string, cause?: unknown): EngineError {
  return new EngineError(
    'ARTIFACT_CORRUPT',
    `The artifact ${name} is damaged: ${difference}.`,
    'It can not be restored; use another copy or an older backup, and check the device it lies on.',
    { cause },
  );
}

export function noKeyFits(name: string): EngineError {
  return new EngineError(
    'KEY_UNAVAILABLE',
    `None of the keys at hand opens ${name}.`,
    'Give the age identity (AGE-SECRET-KEY-1…) that belongs to one of the recipients in the manifest.',
  );
}

/** Turns a failure of age or zstd into the EngineError that names the artifact. Others pass unchanged. */
export function explainFailure(error: unknown, name: string): unknown {
  if (error instanceof EngineError) return error;
  if (error instanceof AgeFailure) return error.reason === 'key' ? noKeyFits(name) : artifactCorrupt(name, error.message, error);
  const code = systemCode(error);
  if (code?.startsWith('Z')) return artifactCorrupt(name, `its compressed data can't be read (${code})`, error);
  if (code === 'ERR_STREAM_PREMATURE_CLOSE') {
    return new EngineError(
      'STORE_FAILED',
      `Reading ${name} ended before its end.`,
      'Try again; if it repeats, check the destination.',
      { cause: error },
    );
  }
  return error;
}
