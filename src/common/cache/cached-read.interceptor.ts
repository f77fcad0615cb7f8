import {
  applyDecorators,
  type CallHandler,
  type ExecutionContext,
  Injectable,
  type NestInterceptor,
  SetMetadata,
  UseInterceptors,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Request, Response } from 'express';
import { mergeMap, type Observable, of } from 'rxjs';
import { cacheKeys, type CacheTopic, type CacheTtl } from './cache-keys.js';
import { Page } from '../http/envelope.interceptor.js';
import { carriesSecret } from '../http/secret-headers.js';
import { CacheService } from './cache.service.js';

const CACHED = 'backstay:cached-read';

interface CachedOptions {
  ttl: CacheTtl;
  topics: readonly CacheTopic[];
}

/** An answer in a form that any store can keep. */
interface Kept {
  page?: { items: unknown[]; meta: Page<unknown>['meta'] };
  data?: unknown;
}

/** Keeps the answers of a GET route, each for callers of the same organization with the same permissions, until one of the topics changes. */
export const CachedRead = (ttl: CacheTtl, ...topics: CacheTopic[]) =>
  applyDecorators(SetMetadata(CACHED, { ttl, topics } satisfies CachedOptions), UseInterceptors(CachedReadInterceptor));

/** Serves kept answers; `X-Cache` says `HIT` or `MISS`. */
@Injectable()
export class CachedReadInterceptor implements NestInterceptor {
  constructor(
    private readonly cache: CacheService,
    private readonly reflector: Reflector,
  ) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const options = this.reflector.get<CachedOptions | undefined>(CACHED, context.getHandler());
    const request = context
      .switchToHttp()
      .getRequest<Request & { identity?: { organizationId: string; permissions: Iterable<string> } }>();
    const { identity } = request;
    // What a lent key opens is for its owner alone.
    if (!options || !identity || request.method !== 'GET' || carriesSecret(request.headers)) return next.handle();
    const { organizationId } = identity;
    const key = cacheKeys.answer(
      organizationId,
      this.cache.generation(organizationId, options.topics),
      identity.permissions,
      request.originalUrl,
    );
    const kept = await this.cache.get<Kept>(key);
    const response = context.switchToHttp().getResponse<Response>();
    response.setHeader('X-Cache', kept === undefined ? 'MISS' : 'HIT');
    if (kept !== undefined) return of(kept.page ? new Page(kept.page.items, kept.page.meta) : kept.data);
    return next.handle().pipe(
      mergeMap(async (answer: unknown) => {
        const entry: Kept = answer instanceof Page ? { page: { items: answer.items, meta: answer.meta } } : { data: answer };
        await this.cache.set(key, entry, options.ttl);
        return answer;
      }),
    );
  }
}
