import { Injectable, Logger, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { Cron } from '@nestjs/schedule';
import { EventBus } from '../common/events/event-bus.js';
import type { EventName } from '../common/events/event-map.js';
import { Catalog } from './catalog.js';

const LEAST_INTERVAL_MS = 60_000;
/** A large catalog takes long to export: at most this share of the time is spent on it. */
const SHARE = 1 / 20;

/** Milliseconds to wait before the next snapshot: it is begun at most once a minute, and more rarely the longer one takes. */
export function waitForNext(now: number, last: { startedAt: number; durationMs: number } | undefined): number {
  if (!last) return 0;
  return Math.max(0, last.startedAt + Math.max(LEAST_INTERVAL_MS, last.durationMs / SHARE) - now);
}

/** Whether the event has left something in the catalog that must survive it. */
export function isWorthKeeping(name: EventName): boolean {
  return name === 'api.changed' || /\.(queued|completed|failed|canceled)$/.test(name);
}

/** Takes snapshots of the embedded catalog: after finished runs and writes through the API, and daily. The last one is taken at its close. */
@Injectable()
export class SnapshotTaker implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly logger = new Logger('catalog');
  private timer: NodeJS.Timeout | undefined;
  private last: { startedAt: number; durationMs: number } | undefined;
  private running: Promise<void> | undefined;
  private stopListening: (() => void) | undefined;
  private isStopped = false;

  constructor(
    private readonly catalog: Catalog,
    private readonly bus: EventBus,
  ) {}

  /** What the first start, or a start after a crash, has put into the catalog is kept too. */
  onApplicationBootstrap(): void {
    if (!this.catalog.home) return;
    this.stopListening = this.bus.onAny((name) => {
      if (isWorthKeeping(name)) this.schedule();
    });
    this.schedule();
  }

  async onModuleDestroy(): Promise<void> {
    this.isStopped = true;
    this.stopListening?.();
    clearTimeout(this.timer);
    await this.running;
  }

  @Cron('41 3 * * *')
  async takeDaily(): Promise<void> {
    this.schedule();
    await this.running;
  }

  /** The next one comes as soon as it may; what happens while one is taken is in the one after it. */
  private schedule(): void {
    if (!this.catalog.home || this.isStopped || this.timer) return;
    this.timer = setTimeout(
      () => {
        this.running = this.take().finally(() => (this.running = undefined));
      },
      waitForNext(Date.now(), this.last),
    );
    this.timer.unref();
  }

  private async take(): Promise<void> {
    await this.running;
    this.timer = undefined;
    const startedAt = Date.now();
    try {
      const taken = await this.catalog.home?.snapshots.take(this.catalog.db);
      this.logger.debug({ event: 'catalog.snapshot', ...taken }, 'catalog.snapshot');
    } catch (error) {
      this.logger.error({ event: 'catalog.snapshot-failed', err: error }, 'catalog.snapshot-failed');
    }
    this.last = { startedAt, durationMs: Date.now() - startedAt };
  }
}
