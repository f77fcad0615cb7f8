import { CacheModule as NestCacheModule } from '@nestjs/cache-manager';
import { Global, Module } from '@nestjs/common';
import { Keyv } from 'keyv';
import { BoundedStore } from './bounded-store.js';
import { CacheService } from './cache.service.js';
import { CachedReadInterceptor } from './cached-read.interceptor.js';

const MOST_ENTRIES = 2_000;

/** One bounded store in memory for all that is kept. */
@Global()
@Module({
  imports: [NestCacheModule.register({ stores: [new Keyv({ store: new BoundedStore(MOST_ENTRIES) })] })],
  providers: [CacheService, CachedReadInterceptor],
  exports: [CacheService, CachedReadInterceptor],
})
export class CacheModule {}
