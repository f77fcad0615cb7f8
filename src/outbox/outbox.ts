import { Injectable } from '@nestjs/common';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { CatalogSignals } from '../catalog/catalog-signals.js';
import type { ToldEvent } from '../common/events/told-events.js';
import { newId } from '../common/identifiers.js';
import { OutboxRepository } from './outbox.repository.js';

const OUTBOX_CHANNEL = 'backstay_outbox';

/** Something that happened, as others are told of it. */
export interface DomainEvent {
  organizationId: string;
  type: ToldEvent;
  /** Id of what it is about; events of one subject keep their order. The backup's, for whatever is about a backup. */
  subject: string;
  /** What stands under `data` in the message, in the contract's shapes; never a secret. */
  data: object;
}

/**
 * Where an event that must not be lost is written, in the transaction of the change that it tells of. Webhooks and notifications take
 * it from here, each at least once, under an id that stays the same.
 */
@Injectable()
export class Outbox {
  private readonly listeners = new Set<() => void>();

  constructor(
    private readonly outbox: OutboxRepository,
    private readonly catalog: Catalog,
    private readonly signals: CatalogSignals,
  ) {}

  /** Records an event; without a transaction, in one of its own. */
  record(trx: Trx | undefined, event: DomainEvent): Promise<void> {
    return this.recordAll(trx, [event]);
  }

  /** Records several events, in their order. */
  async recordAll(trx: Trx | undefined, events: readonly DomainEvent[]): Promise<void> {
    if (events.length === 0) return;
    const occurredAt = new Date();
    const rows = events.map(({ organizationId, type, subject, data }) => ({
      id: newId('evt'),
      organization_id: organizationId,
      type,
      subject,
      body: JSON.stringify({ type, timestamp: occurredAt.toISOString(), data }),
      occurred_at: occurredAt,
    }));
    await this.outbox.insert(trx ?? this.catalog.db, rows);
    await this.signals.notify(OUTBOX_CHANNEL, '', trx);
    // The embedded catalog serves one at a time: whoever is woken now looks after this transaction.
    if (this.catalog.embedded) for (const listener of this.listeners) setImmediate(listener);
  }

  /** How many events wait to be handed over, and since when: milliseconds, 0 when none waits. */
  async backlog(): Promise<{ waiting: number; oldestMs: number }> {
    const { waiting, oldestAt } = await this.outbox.backlog();
    return { waiting, oldestMs: oldestAt ? Math.max(0, Date.now() - oldestAt.getTime()) : 0 };
  }

  /** Calls `listener` whenever something was recorded, here or by another process. */
  async onRecorded(listener: () => void): Promise<void> {
    this.listeners.add(listener);
    const wake = () => {
      for (const each of this.listeners) each();
    };
    await this.signals.on(OUTBOX_CHANNEL, wake, wake);
  }
}
