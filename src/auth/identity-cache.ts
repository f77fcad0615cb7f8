import { Injectable, type OnModuleInit } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { CatalogSignals } from '../catalog/catalog-signals.js';
import type { Trx } from '../catalog/catalog.js';
import type { Principal } from './identity.js';

const CHANNEL = 'backstay_identity';
const MOST = 5_000;
/** Bounds what a lost message can do: revocations are told at once, to the other processes by NOTIFY. */
const TTL_MS = 5_000;

interface Kept {
  principal: Principal;
  expiresAt: number;
}

/** Who stands behind credentials that were looked up a moment ago. Only good ones are kept, and any change of any of them forgets them all. */
@Injectable()
export class IdentityCache implements OnModuleInit {
  private readonly kept = new LRUCache<string, Kept>({ max: MOST, ttl: TTL_MS });
  /** A look-up that began before a change must not be kept after it. */
  private generation = 0;

  constructor(private readonly signals: CatalogSignals) {}

  async onModuleInit(): Promise<void> {
    await this.signals.on(
      CHANNEL,
      () => this.forget(),
      () => this.forget(),
    );
  }

  /** Who was found to stand behind these credentials a moment ago. */
  peek(key: string): Principal | undefined {
    const kept = this.kept.get(key);
    return kept && kept.expiresAt > Date.now() ? kept.principal : undefined;
  }

  /** The kept principal, or the one that `look` finds now. @param key says the scheme and the credentials' hash, never the credentials */
  async getOrFind(
    key: string,
    look: () => Promise<(Principal & { expiresAt?: Date | null }) | undefined>,
  ): Promise<Principal | undefined> {
    const kept = this.peek(key);
    if (kept) return kept;
    const { generation } = this;
    const found = await look();
    if (!found) return undefined;
    const { expiresAt, ...principal } = found;
    if (generation === this.generation)
      this.kept.set(key, { principal, expiresAt: expiresAt?.getTime() ?? Number.POSITIVE_INFINITY });
    return principal;
  }

  /** Tells the other processes in the transaction that changes who may do what; call `forget` after it has committed. */
  async changing(trx: Trx): Promise<void> {
    await this.signals.notify(CHANNEL, '', trx);
  }

  forget(): void {
    this.generation += 1;
    this.kept.clear();
  }
}
