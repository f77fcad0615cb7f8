import {
  type CallHandler,
  type ExecutionContext,
  Injectable,
  type NestInterceptor,
  SetMetadata,
  StreamableFile,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { map, type Observable } from 'rxjs';

const RAW = 'backstay:raw-answer';

/** For answers that are no JSON envelope: files, event streams, metrics. */
export const RawAnswer = () => SetMetadata(RAW, true);

/** One page of a list, and where it stands in the whole. */
export class Page<T> {
  constructor(
    readonly items: T[],
    readonly meta: { page: number; limit: number; total: number },
  ) {}
}

/** Some entries of a list that is read on by a cursor. */
export class CursorPage<T> {
  constructor(
    readonly items: T[],
    readonly meta: { limit: number; nextCursor: string | null },
  ) {}
}

/** Wraps what a controller returns into `{success, data, meta?}`. */
@Injectable()
export class EnvelopeInterceptor implements NestInterceptor {
  constructor(private readonly reflector: Reflector) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (this.reflector.getAllAndOverride<boolean>(RAW, [context.getHandler(), context.getClass()])) return next.handle();
    return next.handle().pipe(map(envelope));
  }
}

function envelope(value: unknown): unknown {
  if (value instanceof StreamableFile) return value;
  if (value instanceof Page || value instanceof CursorPage) return { success: true, data: value.items, meta: value.meta };
  return { success: true, data: value ?? null };
}
