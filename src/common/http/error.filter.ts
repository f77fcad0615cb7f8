import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException, Logger } from '@nestjs/common';
import { ThrottlerException } from '@nestjs/throttler';
import type { Request, Response } from 'express';
import { EngineError } from '../../engine/errors.js';
import type { ErrorAnswerDto } from './answers.dto.js';
import { ApiError, ERROR_STATUS, type ErrorCode, fromEngineError } from '../errors.js';
import { requestContext } from './request-context.js';

const CODE_OF_STATUS = new Map<number, ErrorCode>(
  Object.entries(ERROR_STATUS).map(([code, status]) => [status, code as ErrorCode]),
);
const UNIQUE_VIOLATION = '23505';
/** PostgreSQL can't store NUL, nor half of a surrogate pair in JSON. */
const UNSTORABLE_CHARACTER = /^(22021|22P05)$/;
/** SQLSTATE classes and Node codes which say that the catalog does not answer. */
const CATALOG_GONE = /^(08|57P|53)|^(ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENOTFOUND|EPIPE)$/;

/** Turns whatever was thrown into the contract's error answer. 5xx are logged with their cause, and tell the caller nothing of it. */
@Catch()
export class ErrorFilter implements ExceptionFilter {
  private readonly logger = new Logger('api');

  catch(thrown: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    const response = http.getResponse<Response>();
    const error = toApiError(thrown, http.getRequest<Request>());
    if (error.status >= 500) this.logger.error({ event: 'api.failed', err: thrown, code: error.code }, error.message);
    if (response.headersSent) {
      // Half of the answer is out: cutting the connection is the only way left to say that it is not whole.
      response.destroy();
      return;
    }
    if (error.status === 401) response.setHeader('WWW-Authenticate', 'ApiKey realm="backstay"');
    const requestId = requestContext()?.requestId ?? (http.getRequest<{ requestId?: string }>().requestId as string);
    response.status(error.status).json(errorAnswer(error, requestId));
  }
}

/** The contract's error answer. */
export function errorAnswer({ message, code, fields }: ApiError, requestId: string): ErrorAnswerDto {
  return { success: false, error: message, code, ...(fields ? { fields } : {}), requestId };
}

/** Maps anything thrown to the taxonomy. */
function toApiError(thrown: unknown, request?: AskedFor): ApiError {
  if (thrown instanceof ApiError) return thrown;
  if (thrown instanceof EngineError) return fromEngineError(thrown);
  if (thrown instanceof ThrottlerException)
    return new ApiError('RATE_LIMITED', 'Too many requests from you to this route; wait for the seconds in Retry-After.');
  if (thrown instanceof HttpException) return fromHttpException(thrown, request);
  const { code, detail } = (thrown ?? {}) as { code?: unknown; detail?: unknown };
  if (code === UNIQUE_VIOLATION)
    return new ApiError('CONFLICT', 'Something with this name exists already; choose another name.', undefined, {
      cause: thrown,
    });
  if (typeof code === 'string' && (UNSTORABLE_CHARACTER.test(code) || /surrogate/.test(String(detail))))
    return new ApiError('VALIDATION_ERROR', 'The request holds a character that no text can have, such as NUL; leave it out.');
  if (typeof code === 'string' && CATALOG_GONE.test(code))
    return new ApiError('UNAVAILABLE', 'The catalog does not answer at the moment; try again.', undefined, { cause: thrown });
  return new ApiError('INTERNAL_ERROR', 'Something went wrong on our side; the log has it under this request id.', undefined, {
    cause: thrown,
  });
}

/** What of a request names a route; its `path` would lack the prefix. */
interface AskedFor {
  method: string;
  originalUrl: string;
}

export function noSuchRoute({ method, originalUrl }: AskedFor): ApiError {
  const [path = ''] = originalUrl.split('?', 1);
  return new ApiError('NOT_FOUND', `There is no route ${method} ${path.slice(0, 200)}; /api/docs lists them.`);
}

function fromHttpException(thrown: HttpException, request?: AskedFor): ApiError {
  const code = CODE_OF_STATUS.get(thrown.getStatus());
  if (code === 'NOT_FOUND' && request) return noSuchRoute(request);
  if (code === 'PAYLOAD_TOO_LARGE') return new ApiError(code, 'The body is larger than this server takes (BODY_LIMIT_BYTES).');
  // The parser's own words would repeat a piece of the body, which may be a password.
  if (thrown.getStatus() < 500)
    return new ApiError(
      code ?? 'VALIDATION_ERROR',
      'The request could not be read: its path must be well percent-encoded, and its body valid JSON in UTF-8.',
    );
  return new ApiError(
    code ?? 'INTERNAL_ERROR',
    code === 'UNAVAILABLE' ? sentence(thrown.message) : 'Something went wrong on our side; the log has it under this request id.',
  );
}

function sentence(message: string): string {
  return /[.!?]$/.test(message) ? message : `${message}.`;
}
