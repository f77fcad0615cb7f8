import { CACHE_MANAGER, type Cache } from '@nestjs/cache-manager';
import { Inject, Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { CatalogSignals } from '../../catalog/catalog-signals.js';
import { CACHE_TTL_MS, CACHE_TOPICS, cacheKeys, type CacheTopic, type CacheTtl } from './cache-keys.js';

const CHANNEL = 'backstay_cache';

/**
 * Kept answers and values. Nothing is searched for and deleted: each organization's topics have a generation that is part of the
 * key, and a write begins a new one, also in the other processes of a shared catalog.
 */
@Injectable()
export class CacheService implements OnModuleInit {
  private readonly logger = new Logger('cache');
  private readonly process = randomUUID();
  private readonly generations = new Map<string, number>();
  /** Raised when invalidations may have been missed; part of every generation. */
  private epoch = 0;
  private hits = 0;
  private misses = 0;

  constructor(
    @Inject(CACHE_MANAGER) private readonly cache: Cache,
    private readonly signals: CatalogSignals,
  ) {}

  async onModuleInit(): Promise<void> {
    await this.signals.on(
      CHANNEL,
      (payload) => this.told(payload),
      // Whatever was said while nobody listened is not known: everything kept before counts as stale.
      () => (this.epoch += 1),
    );
  }

  /** What a value that depends on these topics is keyed on; take it before the value is read. */
  generation(organizationId: string, topics: readonly CacheTopic[]): string {
    return `${this.epoch}:${topics.map((topic) => this.generations.get(`${organizationId}|${topic}`) ?? 0).join(':')}`;
  }

  async get<T>(key: string): Promise<T | undefined> {
    const value = await this.cache.get<T>(key);
    if (value === undefined) this.misses += 1;
    else this.hits += 1;
    return value;
  }

  async set(key: string, value: unknown, ttl: CacheTtl): Promise<void> {
    await this.cache.set(key, value, CACHE_TTL_MS[ttl]);
  }

  /** The kept value, or the one that `make` gives now. */
  async getOrSet<T>(
    organizationId: string,
    topics: readonly CacheTopic[],
    name: string,
    ttl: CacheTtl,
    make: () => Promise<T>,
  ): Promise<T> {
    const key = cacheKeys.value(organizationId, this.generation(organizationId, topics), name);
    const kept = await this.get<T>(key);
    if (kept !== undefined) return kept;
    const made = await make();
    await this.set(key, made, ttl);
    return made;
  }

  /** Forgets what depends on these topics; call it after the change has committed and before its answer goes out. */
  async invalidate(organizationId: string, topics: readonly CacheTopic[]): Promise<void> {
    for (const topic of topics) this.bump(organizationId, topic);
    const message = JSON.stringify({ from: this.process, organizationId, topics });
    await this.signals.notify(CHANNEL, message).catch((error: unknown) => {
      this.logger.warn(
        { event: 'cache.not-told', err: error },
        'the other processes will see this change when their answers expire',
      );
    });
  }

  /** How well it works, for the metrics. */
  statistics(): { hits: number; misses: number; hitRatio: number } {
    const total = this.hits + this.misses;
    return { hits: this.hits, misses: this.misses, hitRatio: total === 0 ? 0 : this.hits / total };
  }

  private bump(organizationId: string, topic: CacheTopic): void {
    const key = `${organizationId}|${topic}`;
    this.generations.set(key, (this.generations.get(key) ?? 0) + 1);
  }

  private told(payload: string): void {
    const { from, organizationId, topics } = JSON.parse(payload) as {
      from: string;
      organizationId: string;
      topics: CacheTopic[];
    };
    if (from === this.process) return;
    for (const topic of topics) if (CACHE_TOPICS.includes(topic)) this.bump(organizationId, topic);
  }
}
