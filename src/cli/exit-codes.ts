import { EngineError, type EngineErrorCode } from '../engine/errors.js';

/** How the command ends; scripts rely on these. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  notTrusted: 4,
  damaged: 5,
  noKey: 6,
  destination: 7,
  target: 8,
} as const;

/** Something is wrong with how the command was called. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** There is no such backup. */
export class NotFoundError extends Error {
  override readonly name = 'NotFoundError';
}

const OF_CODE: Partial<Record<EngineErrorCode, number>> = {
  SIGNATURE_INVALID: EXIT.notTrusted,
  MANIFEST_CORRUPT: EXIT.notTrusted,
  ARTIFACT_CORRUPT: EXIT.damaged,
  ARCHIVE_CORRUPT: EXIT.damaged,
  OBJECT_MISSING: EXIT.damaged,
  KEY_UNAVAILABLE: EXIT.noKey,
  KEY_INVALID: EXIT.noKey,
  STORE_FAILED: EXIT.destination,
  CONNECTION_INVALID: EXIT.usage,
};

/** The exit code of a failure; whatever an engine says of the target, or of the programs that reach it, is one of the target. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof NotFoundError) return EXIT.notFound;
  return error instanceof EngineError ? (OF_CODE[error.code] ?? EXIT.target) : EXIT.failed;
}
