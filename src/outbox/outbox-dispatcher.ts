import { type BeforeApplicationShutdown, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { DiscoveryService } from '@nestjs/core';
import { Cron, Interval } from '@nestjs/schedule';
import { Catalog } from '../catalog/catalog.js';
import { Settings } from '../config/settings.js';
import { Outbox } from './outbox.js';
import { type OutboxConsumer, TakesEvents } from './outbox-consumer.js';
import { OutboxRepository } from './outbox.repository.js';

/** For events whose wake-up was lost. */
const LOOK_MS = 2_000;
const EVENTS_PER_STEP = 500;
/** As long can deliveries be looked up and repeated. */
const KEPT_DAYS = 30;

/** Hands what was recorded over to those who tell of it, each for itself: one that fails keeps no other from its events. */
@Injectable()
export class OutboxDispatcher implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('outbox');
  private readonly consumers = new Map<string, OutboxConsumer>();
  private running: Promise<void> | undefined;
  private isWanted = false;
  private isStopped = true;

  constructor(
    private readonly outbox: Outbox,
    private readonly events: OutboxRepository,
    private readonly catalog: Catalog,
    private readonly settings: Settings,
    private readonly discovery: DiscoveryService,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    if (this.settings.role === 'api') return;
    for (const provider of this.discovery.getProviders({ metadataKey: TakesEvents.KEY })) {
      const name = this.discovery.getMetadataByDecorator(TakesEvents, provider) as string;
      this.consumers.set(name, provider.instance as OutboxConsumer);
    }
    this.isStopped = false;
    await this.outbox.onRecorded(() => this.wake());
    this.wake();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.isStopped = true;
    await this.running;
  }

  /** Looks for events now, or once more when it is just looking. */
  @Interval(LOOK_MS)
  wake(): void {
    this.isWanted = true;
    if (this.isStopped || this.running) return;
    this.running = this.handOverAll().finally(() => {
      this.running = undefined;
      if (this.isWanted) this.wake();
    });
  }

  /** Removes what nobody will ask for any more. */
  @Cron('17 * * * *')
  async prune(): Promise<void> {
    if (this.isStopped) return;
    while ((await this.events.prune(KEPT_DAYS, EVENTS_PER_STEP)) === EVENTS_PER_STEP);
  }

  private async handOverAll(): Promise<void> {
    while (this.isWanted && !this.isStopped) {
      this.isWanted = false;
      try {
        if (!(await this.events.anyOpen())) continue;
        for (const name of this.consumers.keys()) await this.handOver(name);
      } catch (error) {
        this.logger.error({ event: 'outbox.not-read', err: error }, 'outbox.not-read');
      }
    }
  }

  private async handOver(name: string): Promise<void> {
    const consumer = this.consumers.get(name)!;
    try {
      let count = EVENTS_PER_STEP;
      while (count === EVENTS_PER_STEP && !this.isStopped) {
        count = await this.catalog.transaction(async (trx) => {
          await this.events.lockHandOver(trx);
          const events = await this.events.nextFor(trx, name, EVENTS_PER_STEP);
          if (events.length === 0) return 0;
          await consumer.take(trx, events);
          await this.events.markTaken(trx, name, [...this.consumers.keys()], events);
          return events.length;
        });
        if (count > 0) consumer.taken();
      }
    } catch (error) {
      // They stay, and come again at the next look.
      this.logger.error({ event: 'outbox.not-taken', consumer: name, err: error }, 'outbox.not-taken');
    }
  }
}
