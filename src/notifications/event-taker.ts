import { Injectable } from '@nestjs/common';
import type { Trx } from '../catalog/catalog.js';
import { matchesEvent } from '../common/events/event-patterns.js';
import { type OutboxConsumer, type OutboxRow, TakesEvents } from '../outbox/outbox-consumer.js';
import { type ChannelRow, ChannelsRepository } from './channels.repository.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import { DeliveryWorker } from './delivery-worker.js';
import { SEVERITIES, severityOf, stateOf, type Severity } from './message.js';

/** Writes down which channels are to be told of an event. */
@Injectable()
@TakesEvents('notifications')
export class EventTaker implements OutboxConsumer {
  constructor(
    private readonly channels: ChannelsRepository,
    private readonly deliveries: DeliveriesRepository,
    private readonly worker: DeliveryWorker,
  ) {}

  async take(trx: Trx, events: readonly OutboxRow[]): Promise<void> {
    const organizations = [...new Set(events.map((event) => event.organization_id))];
    const channels = await this.channels.enabledOf(trx, organizations);
    for (const event of events) {
      for (const channel of channels) {
        if (await this.isWanted(trx, channel, event)) await this.deliveries.insert(trx, channel.id, event);
      }
    }
  }

  taken(): void {
    this.worker.wake();
  }

  private async isWanted(trx: Trx, channel: ChannelRow, event: OutboxRow): Promise<boolean> {
    if (channel.organization_id !== event.organization_id || !matchesEvent(channel.events, event.type)) return false;
    const sourceId = sourceIdOf(event);
    if (channel.source_ids.length > 0 && (sourceId === null || !channel.source_ids.includes(sourceId))) return false;
    const isBadEnough = SEVERITIES.indexOf(severityOf(event.type)) >= SEVERITIES.indexOf(channel.min_severity as Severity);
    return channel.only_changes ? this.isChange(trx, channel, event, sourceId) : isBadEnough;
  }

  /** Of what all was well with: told when it no longer is, and when it is again. The end of a failure is told however bad it has to be. */
  private async isChange(trx: Trx, channel: ChannelRow, event: OutboxRow, sourceId: string | null): Promise<boolean> {
    const state = stateOf(event.type);
    if (state === null) return false;
    const about = `${event.type.split('.')[0]}:${sourceId ?? event.subject}`;
    const before = await this.channels.changeState(trx, channel.id, about, state);
    return before === undefined ? state === 'bad' : before !== state;
  }
}

function sourceIdOf({ body }: OutboxRow): string | null {
  const { data } = JSON.parse(body) as { data: Record<string, { source?: { id?: string } | null } | null> };
  for (const part of Object.values(data)) {
    if (typeof part?.source?.id === 'string') return part.source.id;
  }
  return null;
}
