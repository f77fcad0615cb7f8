import { Injectable } from '@nestjs/common';
import type { Trx } from '../catalog/catalog.js';
import { matchesEvent } from '../common/events/event-patterns.js';
import { type OutboxConsumer, type OutboxRow, TakesEvents } from '../outbox/outbox-consumer.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import { EndpointsRepository } from './endpoints.repository.js';
import { WebhookWorker } from './webhook-worker.js';

/** Makes a delivery of each event for each endpoint that wants it. */
@Injectable()
@TakesEvents('webhooks')
export class WebhookConsumer implements OutboxConsumer {
  constructor(
    private readonly endpoints: EndpointsRepository,
    private readonly deliveries: DeliveriesRepository,
    private readonly worker: WebhookWorker,
  ) {}

  async take(trx: Trx, events: readonly OutboxRow[]): Promise<void> {
    const endpoints = await this.endpoints.enabledOf(trx, [...new Set(events.map((event) => event.organization_id))]);
    const pairs = events.flatMap((event) =>
      endpoints
        .filter(({ organization_id }) => organization_id === event.organization_id)
        .filter((endpoint) => matchesEvent(endpoint.events, event.type))
        .map((endpoint) => ({ event, endpoint })),
    );
    await this.deliveries.queue(trx, pairs);
  }

  taken(): void {
    this.worker.wake();
  }
}
