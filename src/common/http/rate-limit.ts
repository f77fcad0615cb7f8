import { applyDecorators, type ExecutionContext, Inject, Injectable, SetMetadata } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import {
  getOptionsToken,
  getStorageToken,
  SkipThrottle,
  ThrottlerGuard,
  type ThrottlerLimitDetail,
  type ThrottlerModuleOptions,
  type ThrottlerStorage,
} from '@nestjs/throttler';
import type { Response } from 'express';
import { LRUCache } from 'lru-cache';
import { type RateTier, Settings } from '../../config/settings.js';
import { requestContext } from './request-context.js';

const TIER = 'backstay:rate-tier';
const MINUTE_MS = 60_000;

/** Which of the contract's rate tiers a route belongs to; routes without one are of `default`. */
export const RateLimit = (tier: RateTier | 'none') =>
  tier === 'none' ? applyDecorators(SetMetadata(TIER, tier), SkipThrottle()) : SetMetadata(TIER, tier);

/** The throttler's options: one throttler named `default`, whose limit is the tier's. */
export function throttlerOptions(settings: Settings, reflector: Reflector): ThrottlerModuleOptions {
  const limitOf = (context: ExecutionContext) => settings.rateLimits[tierOf(reflector, context)];
  return {
    throttlers: [{ name: 'default', ttl: MINUTE_MS, limit: limitOf, skipIf: (context) => limitOf(context) === 0 }],
    storage: new LruThrottlerStorage(),
  };
}

function tierOf(reflector: Reflector, context: ExecutionContext): RateTier {
  const tier = reflector.getAllAndOverride<RateTier | 'none' | undefined>(TIER, [context.getHandler(), context.getClass()]);
  return tier === undefined || tier === 'none' ? 'default' : tier;
}

/** Counts per identity when there is one, else per address. */
@Injectable()
export class RateLimitGuard extends ThrottlerGuard {
  constructor(
    @Inject(getOptionsToken()) options: ThrottlerModuleOptions,
    @Inject(getStorageToken()) storage: ThrottlerStorage,
    reflector: Reflector,
  ) {
    super(options, storage, reflector);
  }

  protected override async getTracker(request: Record<string, unknown>): Promise<string> {
    const identity = request['identity'] as { kind: string; id: string } | undefined;
    return identity
      ? `${identity.kind}:${identity.id}`
      : `address:${requestContext()?.address ?? (await super.getTracker(request))}`;
  }

  /** Where the client stands, also when it is over the limit. */
  protected override throwThrottlingException(context: ExecutionContext, detail: ThrottlerLimitDetail): Promise<void> {
    const response = context.switchToHttp().getResponse<Response>();
    response.setHeader('X-RateLimit-Limit', detail.limit);
    response.setHeader('X-RateLimit-Remaining', 0);
    response.setHeader('X-RateLimit-Reset', detail.timeToBlockExpire);
    return super.throwThrottlingException(context, detail);
  }
}

interface Window {
  hits: number;
  endsAt: number;
}

/** Counters in memory, the least recently used going first, so that a flood of addresses can't fill it. */
export class LruThrottlerStorage implements ThrottlerStorage {
  private readonly windows: LRUCache<string, Window>;

  constructor(
    max = 50_000,
    private readonly now: () => number = Date.now,
  ) {
    this.windows = new LRUCache({ max, ttl: MINUTE_MS });
  }

  async increment(key: string, ttl: number, limit: number): ReturnType<ThrottlerStorage['increment']> {
    const now = this.now();
    let window = this.windows.get(key);
    if (!window || window.endsAt <= now) {
      window = { hits: 0, endsAt: now + ttl };
      this.windows.set(key, window, { ttl });
    }
    window.hits += 1;
    const seconds = Math.max(1, Math.ceil((window.endsAt - now) / 1000));
    return { totalHits: window.hits, timeToExpire: seconds, isBlocked: window.hits > limit, timeToBlockExpire: seconds };
  }
}
