import { LRUCache } from 'lru-cache';

/** A store in memory as Keyv wants one: it gives the time to live as a number, where lru-cache takes options. */
export class BoundedStore {
  private readonly entries: LRUCache<string, object>;

  /** @param max how many entries are kept; the least recently used go first */
  constructor(max: number) {
    this.entries = new LRUCache({ max });
  }

  get(key: string): object | undefined {
    return this.entries.get(key);
  }

  /** @param ttl milliseconds */
  set(key: string, value: object, ttl?: number): this {
    this.entries.set(key, value, ttl === undefined ? {} : { ttl });
    return this;
  }

  has(key: string): boolean {
    return this.entries.has(key);
  }

  delete(key: string): boolean {
    return this.entries.delete(key);
  }

  clear(): void {
    this.entries.clear();
  }
}
