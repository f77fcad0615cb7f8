import { type BeforeApplicationShutdown, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { Settings } from '../config/settings.js';
import { ChannelsRepository } from './channels.repository.js';
import { type ClaimedDelivery, DeliveriesRepository } from './deliveries.repository.js';
import { Notifier } from './notifier.js';
import { NotDelivered } from './senders/channel-sender.js';

/** For deliveries that are due by the clock, and for those whose wake-up was lost. */
const LOOK_MS = 2_000;
const AT_ONCE = 8;
/** Longer than any sender takes; then another worker may try. */
const CLAIM_SECONDS = 120;
const MINUTE_MS = 60_000;
/** Waits before the second and each further try. */
const RETRY_MS: readonly number[] = [30_000, 2 * MINUTE_MS, 10 * MINUTE_MS, 60 * MINUTE_MS, 360 * MINUTE_MS];

/** Sends what is due. A channel that hangs or fails delays nobody but itself, and no backup waits for it. */
@Injectable()
export class DeliveryWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('notifications');
  private readonly sending = new Set<Promise<void>>();
  private looking: Promise<void> | undefined;
  private isWanted = false;
  private isStopped = true;

  constructor(
    private readonly deliveries: DeliveriesRepository,
    private readonly channels: ChannelsRepository,
    private readonly notifier: Notifier,
    private readonly settings: Settings,
  ) {}

  onApplicationBootstrap(): void {
    this.isStopped = this.settings.role === 'api';
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.isStopped = true;
    await this.looking;
    await Promise.allSettled(this.sending);
  }

  /** Looks for what is due now, or once more when it is just looking. */
  @Interval(LOOK_MS)
  wake(): void {
    this.isWanted = true;
    if (this.isStopped || this.looking) return;
    this.looking = this.look().finally(() => {
      this.looking = undefined;
      if (this.isWanted && this.sending.size < AT_ONCE) this.wake();
    });
  }

  private async look(): Promise<void> {
    while (this.isWanted && !this.isStopped && this.sending.size < AT_ONCE) {
      this.isWanted = false;
      try {
        const claimed = await this.deliveries.claim(AT_ONCE - this.sending.size, CLAIM_SECONDS);
        for (const delivery of claimed) this.track(this.deliver(delivery));
      } catch (error) {
        this.logger.error({ event: 'notifications.not-read', err: error }, 'notifications.not-read');
      }
    }
  }

  private track(work: Promise<void>): void {
    const tracked = work
      .catch((error: unknown) => this.logger.error({ event: 'notifications.not-noted', err: error }, 'notifications.not-noted'))
      .finally(() => {
        this.sending.delete(tracked);
        this.wake();
      });
    this.sending.add(tracked);
  }

  private async deliver(delivery: ClaimedDelivery): Promise<void> {
    const channel = await this.channels.findAnywhere(delivery.channel_id);
    if (!channel) return;
    if (!channel.enabled) return this.deliveries.end(delivery.id, 'failed', 'The channel was turned off.');
    try {
      const { data } = JSON.parse(delivery.body) as { data: Record<string, unknown> };
      const event = { id: delivery.event_id, type: delivery.event_type, occurredAt: delivery.occurred_at, data };
      await this.notifier.send(channel, event, delivery.body);
      await this.deliveries.end(delivery.id, 'delivered', null);
      await this.channels.noteOutcome(channel.id, null);
    } catch (error) {
      await this.failed(delivery, error);
    }
  }

  private async failed(delivery: ClaimedDelivery, thrown: unknown): Promise<void> {
    if (!(thrown instanceof NotDelivered))
      this.logger.error({ event: 'notification.error', deliveryId: delivery.id, err: thrown }, 'notification.error');
    const failure = thrown instanceof NotDelivered ? thrown : new NotDelivered('Something went wrong inside the server.', false);
    const wait = RETRY_MS[delivery.tries - 1];
    const { channel_id: channelId, event_id: eventId, tries } = delivery;
    this.logger.warn(
      { event: 'notification.not-delivered', channelId, eventId, tries, reason: failure.message },
      'notification.not-delivered',
    );
    if (failure.isFinal || wait === undefined) await this.deliveries.end(delivery.id, 'failed', failure.message);
    else await this.deliveries.postpone(delivery.id, Math.max(wait, failure.retryAfterMs ?? 0), failure.message);
    await this.channels.noteOutcome(channelId, failure.message);
  }
}
