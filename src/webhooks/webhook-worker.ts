import { type BeforeApplicationShutdown, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { randomUUID } from 'node:crypto';
import { Catalog } from '../catalog/catalog.js';
import { EventBus } from '../common/events/event-bus.js';
import { Settings } from '../config/settings.js';
import { type ClaimedDelivery, DeliveriesRepository } from './deliveries.repository.js';
import { EndpointDisabling, reasonToDisable } from './endpoint-disabling.js';
import { EndpointsRepository } from './endpoints.repository.js';
import { nextAttemptAt } from './retry-plan.js';
import { type Sent, WebhookSender } from './webhook-sender.js';
import type { EndpointRow } from './webhook-view.js';

/** Repetitions become due without anybody's wake-up. */
const LOOK_MS = 1_000;
const CONCURRENCY = 16;
/** An endpoint that hangs keeps no more than these from the others. */
const PER_ENDPOINT = 4;

/** Sends what is due: several at a time, each under a claim that ends by itself should this process die. */
@Injectable()
export class WebhookWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('webhook');
  private readonly stopping = new AbortController();
  private readonly busy = new Map<Promise<void>, string>();
  private looking: Promise<void> | undefined;
  private isWanted = false;
  private isStopped = true;

  constructor(
    private readonly deliveries: DeliveriesRepository,
    private readonly endpoints: EndpointsRepository,
    private readonly sender: WebhookSender,
    private readonly disabling: EndpointDisabling,
    private readonly catalog: Catalog,
    private readonly settings: Settings,
    private readonly bus: EventBus,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    if (this.settings.role === 'api') return;
    if (this.catalog.embedded) await this.deliveries.releaseAll();
    this.isStopped = false;
    this.wake();
  }

  /** What is on its way gets the grace time; what is not answered by then goes out again at the next start. */
  async beforeApplicationShutdown(): Promise<void> {
    this.isStopped = true;
    await this.looking;
    const grace = setTimeout(() => this.stopping.abort(), this.settings.shutdownGraceSeconds * 1000);
    await Promise.allSettled(this.busy.keys());
    clearTimeout(grace);
  }

  /** Looks for deliveries now, or once more when it is just looking. */
  @Interval(LOOK_MS)
  wake(): void {
    this.isWanted = true;
    if (this.isStopped || this.looking) return;
    this.looking = this.look().finally(() => {
      this.looking = undefined;
      if (this.isWanted && this.busy.size < CONCURRENCY) this.wake();
    });
  }

  private async look(): Promise<void> {
    try {
      while (this.isWanted && !this.isStopped && this.busy.size < CONCURRENCY) {
        this.isWanted = false;
        const token = randomUUID();
        for (const delivery of await this.deliveries.claim(token, CONCURRENCY - this.busy.size, PER_ENDPOINT, this.full()))
          this.begin(delivery, token);
      }
    } catch (error) {
      this.logger.error({ event: 'webhook.not-read', err: error }, 'webhook.not-read');
    }
  }

  private full(): string[] {
    const counts = new Map<string, number>();
    for (const endpointId of this.busy.values()) counts.set(endpointId, (counts.get(endpointId) ?? 0) + 1);
    return [...counts].filter(([, count]) => count >= PER_ENDPOINT).map(([endpointId]) => endpointId);
  }

  private begin(delivery: ClaimedDelivery, token: string): void {
    const work = this.deliver(delivery, token)
      .catch((error: unknown) =>
        // The claim ends by itself, and somebody tries again.
        this.logger.error({ event: 'webhook.not-settled', deliveryId: delivery.id, err: error }, 'webhook.not-settled'),
      )
      .finally(() => {
        this.busy.delete(work);
        this.wake();
      });
    this.busy.set(work, delivery.endpoint_id);
  }

  private async deliver(delivery: ClaimedDelivery, token: string): Promise<void> {
    // Read at the last moment: it may have been changed or disabled since the claim.
    const endpoint = await this.endpoints.findEnabled(delivery.endpoint_id);
    if (!endpoint) return;
    let sent: Sent;
    try {
      sent = await this.sender.send(endpoint, { id: delivery.event_id, body: delivery.body }, this.stopping.signal);
    } catch (error) {
      if (!this.stopping.signal.aborted) throw error;
      await this.deliveries.release(token);
      return;
    }
    const reason = await this.catalog.transaction(async (trx) => {
      const locked = await this.endpoints.lock(trx, endpoint.id);
      if (!locked) return undefined;
      return this.settle(trx, locked, delivery, token, sent);
    });
    if (reason !== undefined)
      this.bus.emit('webhook.disabled', { organizationId: endpoint.organization_id, endpointId: endpoint.id, reason });
  }

  /** @returns why the endpoint was disabled, when it was */
  private async settle(
    trx: Parameters<DeliveriesRepository['settle']>[0],
    endpoint: EndpointRow,
    delivery: ClaimedDelivery,
    token: string,
    { attempt, retryAfterMs, isGone }: Sent,
  ): Promise<string | undefined> {
    const isDelivered = attempt.error === null;
    const next = isDelivered || isGone ? null : nextAttemptAt(delivery.tries + 1, new Date(), retryAfterMs);
    const status = isDelivered ? 'delivered' : next === null ? 'failed' : 'pending';
    const error = status === 'failed' ? attempt.error : null;
    if (!(await this.deliveries.settle(trx, delivery.id, token, { attempt, status, error, nextAttemptAt: next })))
      return undefined;
    await this.endpoints.noteOutcome(trx, endpoint.id, isDelivered);
    const reason = isDelivered || !endpoint.enabled ? undefined : reasonToDisable(endpoint, isGone, new Date());
    if (reason !== undefined) await this.disabling.disable(trx, endpoint, reason);
    return reason;
  }
}
