/**
 * What can go wrong in the engine. A code is stable and machine-readable; the message says what happened and to what;
 * the hint says how to mend it. Neither ever holds a secret.
 */
const ENGINE_ERROR_CODES = [
  'CONNECTION_INVALID',
  'SOURCE_UNREACHABLE',
  'AUTHENTICATION_FAILED',
  'DATABASE_NOT_FOUND',
  'PRIVILEGE_MISSING',
  'POOLER_UNSUITABLE',
  'TOOL_MISSING',
  'TOOL_TOO_OLD',
  'TOOL_UNPATCHED',
  'LOCK_TIMEOUT',
  'LOCKS_EXHAUSTED',
  'DUMP_FAILED',
  'RUN_TIMEOUT',
  'CONFIG_PATH_REFUSED',
  'DISK_FULL',
  'TEMPORARY_FILES_FAILED',
  'STORE_FAILED',
  'OBJECT_MISSING',
  'OBJECT_EXISTS',
  'OBJECT_LOCKED',
  'ARCHIVE_CORRUPT',
  'ARTIFACT_CORRUPT',
  'MANIFEST_CORRUPT',
  'SIGNATURE_INVALID',
  'KEY_UNAVAILABLE',
  'KEY_INVALID',
  'TARGET_EXISTS',
  'TARGET_NOT_EMPTY',
  'TARGET_REFUSED',
  'TARGET_IN_USE',
  'SELECTION_MISSING',
  'RESTORE_FAILED',
  'SAFETY_BACKUP_FAILED',
  'CLUSTER_FAILED',
  'DRILL_IMPOSSIBLE',
  'ASSERTION_FAILED',
  'CANCELED',
  'INTERRUPTED',
] as const;

export type EngineErrorCode = (typeof ENGINE_ERROR_CODES)[number];

/** A failure of a backup, restore or verification that the user is told of. */
export class EngineError extends Error {
  override readonly name = 'EngineError';

  constructor(
    readonly code: EngineErrorCode,
    message: string,
    /** How to mend it, as a sentence. */
    readonly hint: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
