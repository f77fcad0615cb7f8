import type { EngineErrorCode } from '../engine/errors.js';
import { EngineError } from '../engine/errors.js';

/** The contract's error codes and the HTTP status of each. */
export const ERROR_STATUS = {
  VALIDATION_ERROR: 400,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  CONFLICT: 409,
  PAYLOAD_TOO_LARGE: 413,
  PRECONDITION_FAILED: 422,
  RATE_LIMITED: 429,
  INTERNAL_ERROR: 500,
  UNAVAILABLE: 503,
} as const;

export type ErrorCode = keyof typeof ERROR_STATUS;

/** An error that the caller is told of, in the contract's form. */
export class ApiError extends Error {
  override readonly name = 'ApiError';

  constructor(
    readonly code: ErrorCode,
    /** One sentence: what happened, to what, and how to mend it. Never a secret. */
    message: string,
    /** Why each field was refused. */
    readonly fields?: Readonly<Record<string, string>>,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  get status(): number {
    return ERROR_STATUS[this.code];
  }
}

/** The catalogue of what can be answered with. */
export const Errors = {
  validation: (fields: Record<string, string>) =>
    new ApiError(
      'VALIDATION_ERROR',
      `The request is not valid: ${Object.entries(fields)
        .map(([name, why]) => `${name} ${why.replace(/\.$/, '')}`)
        .join('; ')}.`,
      fields,
    ),
  unauthorized: (why = 'Send an API key in x-api-key, or a token in Authorization: Bearer.') =>
    new ApiError('UNAUTHORIZED', `You are not signed in. ${why}`),
  forbidden: (permissions: readonly string[]) =>
    new ApiError('FORBIDDEN', `This needs the permission ${permissions.join(' and ')}, which your key does not have.`),
  noOrganization: () =>
    new ApiError('FORBIDDEN', 'You belong to no organization of this server; ask an owner of one to make you a member.'),
  beyondOwnRights: (permissions: readonly string[]) =>
    new ApiError(
      'FORBIDDEN',
      `Nobody gives or takes what they do not hold themselves, and you do not hold ${permissions.join(', ')}.`,
    ),
  notFound: (what: string, id: string) => new ApiError('NOT_FOUND', `There is no ${what} "${id}".`),
  conflict: (message: string, options?: ErrorOptions) => new ApiError('CONFLICT', message, undefined, options),
  precondition: (message: string, options?: ErrorOptions) => new ApiError('PRECONDITION_FAILED', message, undefined, options),
  unavailable: (message: string, options?: ErrorOptions) => new ApiError('UNAVAILABLE', message, undefined, options),
} as const;

const VALIDATION_CODES: ReadonlySet<EngineErrorCode> = new Set(['CONNECTION_INVALID', 'CONFIG_PATH_REFUSED']);

/** What a failure of the engine means to someone who waits for an answer. */
export function fromEngineError(error: EngineError): ApiError {
  const sentence = `${error.message} ${error.hint}`.trim();
  if (VALIDATION_CODES.has(error.code)) return new ApiError('VALIDATION_ERROR', sentence, undefined, { cause: error });
  return new ApiError('PRECONDITION_FAILED', sentence, undefined, { cause: error });
}
