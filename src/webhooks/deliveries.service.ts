import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog } from '../catalog/catalog.js';
import { matchesEvent } from '../common/events/event-patterns.js';
import { Errors } from '../common/errors.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { newId } from '../common/identifiers.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import { EndpointsRepository } from './endpoints.repository.js';
import { EndpointsService } from './endpoints.service.js';
import { WebhookSender } from './webhook-sender.js';
import { WebhookWorker } from './webhook-worker.js';
import type { ListDeliveriesDto, RedeliverSinceDto } from './webhook.dto.js';
import type { DeliveryRow, EndpointRow } from './webhook-view.js';

/** What was sent, what is to be sent again, and tests. */
@Injectable()
export class DeliveriesService {
  constructor(
    private readonly deliveries: DeliveriesRepository,
    private readonly endpoints: EndpointsService,
    private readonly rows: EndpointsRepository,
    private readonly sender: WebhookSender,
    private readonly worker: WebhookWorker,
    private readonly catalog: Catalog,
    private readonly changes: Changes,
  ) {}

  async list(caller: Identity, filter: ListDeliveriesDto, endpointId?: string): Promise<Page<DeliveryRow>> {
    const { page, limit } = filter;
    if (endpointId !== undefined) await this.endpoints.get(caller.organizationId, endpointId);
    const which = endpointId === undefined ? filter : { ...filter, endpointId };
    const { rows, total } = await this.deliveries.list(caller.organizationId, which);
    return new Page(rows, { page, limit, total });
  }

  /** @throws NOT_FOUND */
  async get(organizationId: string, id: string): Promise<DeliveryRow> {
    const row = await this.deliveries.find(organizationId, id);
    if (!row) throw Errors.notFound('delivery', id);
    return row;
  }

  /** Sends a test event now, once, also to a disabled endpoint, and tells how it went. */
  async test(caller: Identity, endpointId: string): Promise<DeliveryRow> {
    const endpoint = await this.endpoints.get(caller.organizationId, endpointId);
    const at = new Date();
    const event = { id: newId('evt'), type: 'webhook.test', at };
    const data = { endpoint: { id: endpoint.id, url: endpoint.url }, message: 'This is a test; nothing has happened.' };
    const body = JSON.stringify({ type: event.type, timestamp: at.toISOString(), data });
    const { attempt } = await this.sender.send(endpoint, { id: event.id, body });
    return this.catalog.transaction(async (trx) => {
      await this.locked(trx, endpoint);
      await this.changes.record(trx, caller, 'webhook.tested', endpoint.id, { status: attempt.status });
      return this.deliveries.insertTest(trx, { ...event, body }, endpoint, attempt);
    });
  }

  /** Sends one delivery again, under the same id, by a plan that begins anew. */
  async redeliver(caller: Identity, id: string): Promise<DeliveryRow> {
    const delivery = await this.get(caller.organizationId, id);
    const endpoint = await this.endpoints.get(caller.organizationId, delivery.endpoint_id);
    const row = await this.catalog.transaction(async (trx) => {
      await this.locked(trx, endpoint, true);
      await this.changes.record(trx, caller, 'webhook.redelivered', endpoint.id, { delivery: id });
      return this.deliveries.requeue(trx, id);
    });
    this.worker.wake();
    return row;
  }

  /** Sends an endpoint's deliveries since a time again, and what it missed while it was disabled. @returns how many were queued */
  async redeliverSince(caller: Identity, endpointId: string, { since, status }: RedeliverSinceDto): Promise<number> {
    const from = new Date(since);
    const endpoint = await this.endpoints.get(caller.organizationId, endpointId);
    const queued = await this.catalog.transaction(async (trx) => {
      const locked = await this.locked(trx, endpoint, true);
      const again = await this.deliveries.requeueSince(trx, endpointId, from, status);
      const missed = status === 'delivered' || status === 'pending' ? [] : await this.deliveries.missedBy(trx, locked, from);
      const wanted = missed.filter(({ type }) => matchesEvent(locked.events, type));
      const anew = await this.deliveries.queue(
        trx,
        wanted.map((event) => ({ event, endpoint: locked })),
      );
      await this.changes.record(trx, caller, 'webhook.redelivered', endpointId, { since, status, queued: again + anew });
      return again + anew;
    });
    this.worker.wake();
    return queued;
  }

  private async locked(
    trx: Parameters<EndpointsRepository['lock']>[0],
    { id }: EndpointRow,
    toSend = false,
  ): Promise<EndpointRow> {
    const endpoint = await this.rows.lock(trx, id);
    if (!endpoint) throw Errors.notFound('webhook endpoint', id);
    if (toSend && !endpoint.enabled)
      throw Errors.conflict('The endpoint is disabled; enable it first (PUT with "enabled": true).');
    return endpoint;
  }
}
