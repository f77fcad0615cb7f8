import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException, Logger } from '@nestjs/common';
import { ThrottlerException } from '@nestjs/throttler';
import type { Request, Response } from 'express';
import { EngineError } from '../../engine/errors.js';
import { ApiError, ERROR_STATUS, type ErrorCode, fromEngineError } from '../errors.js';
import { requestContext } from './request-context.js';

const CODE_OF_STATUS = new Map<number, ErrorCode>(
  Object.entries(ERROR_STATUS).map(([code, status]) => [status, code as ErrorCode]),
);
const UNIQUE_VIOLATION = '23505';
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
    response.status(error.status).json({
      success: false,
      error: error.message,
      code: error.code,
      ...(error.fields ? { fields: error.fields } : {}),
      requestId: requestContext()?.requestId ?? (http.getRequest<{ requestId?: string }>().requestId as string),
    });
  }
}

/** Maps anything thrown to the taxonomy. */
function toApiError(thrown: unknown, request?: { method: string; path: string }): ApiError {
  if (thrown instanceof ApiError) return thrown;
  if (thrown instanceof EngineError) return fromEngineError(thrown);
  if (thrown instanceof ThrottlerException)
    return new ApiError('RATE_LIMITED', 'Too many requests from you to this route; wait for the seconds in Retry-After.');
  if (thrown instanceof HttpException) return fromHttpException(thrown, request);
  const { code, type, status } = (thrown ?? {}) as { code?: unknown; type?: unknown; status?: unknown };
  // body-parser's errors are no HttpExceptions.
  if (type === 'entity.too.large')
    return new ApiError('PAYLOAD_TOO_LARGE', 'The body is larger than this server takes (BODY_LIMIT_BYTES).');
  if (typeof type === 'string' && typeof status === 'number' && status < 500)
    return new ApiError(
      'VALIDATION_ERROR',
      'The body could not be read; send valid JSON with content-type application/json in UTF-8.',
    );
  if (code === UNIQUE_VIOLATION)
    return new ApiError('CONFLICT', 'Something with this name exists already; choose another name.', undefined, {
      cause: thrown,
    });
  if (typeof code === 'string' && CATALOG_GONE.test(code))
    return new ApiError('UNAVAILABLE', 'The catalog does not answer at the moment; try again.', undefined, { cause: thrown });
  return new ApiError('INTERNAL_ERROR', 'Something went wrong on our side; the log has it under this request id.', undefined, {
    cause: thrown,
  });
}

function fromHttpException(thrown: HttpException, request?: { method: string; path: string }): ApiError {
  const code = CODE_OF_STATUS.get(thrown.getStatus());
  if (code === 'NOT_FOUND' && request)
    return new ApiError('NOT_FOUND', `There is no route ${request.method} ${request.path}; /api/docs lists them.`);
  if (code && thrown.getStatus() < 500) return new ApiError(code, sentence(thrown.message));
  if (thrown.getStatus() < 500) return new ApiError('VALIDATION_ERROR', sentence(thrown.message));
  return new ApiError(
    code ?? 'INTERNAL_ERROR',
    code === 'UNAVAILABLE' ? sentence(thrown.message) : 'Something went wrong on our side; the log has it under this request id.',
  );
}

function sentence(message: string): string {
  return /[.!?]$/.test(message) ? message : `${message}.`;
}
