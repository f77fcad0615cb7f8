import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { sql } from 'kysely';
import type pg from 'pg';
import { Catalog, type Trx } from './catalog.js';

const RECONNECT_MS = 1_000;

interface Listener {
  told: (payload: string) => void;
  /** Whatever was said before is not known: at the beginning, and after the connection was lost. */
  missed: () => void;
}

/** Short messages between the processes of a shared catalog, by LISTEN and NOTIFY over one connection; an embedded one has one process. */
@Injectable()
export class CatalogSignals implements OnModuleDestroy {
  private readonly listeners = new Map<string, Listener>();
  private client: pg.PoolClient | undefined;
  /** One statement after the other on the one connection. */
  private turn: Promise<void> = Promise.resolve();
  private reconnect: NodeJS.Timeout | undefined;
  private stopped = false;

  constructor(private readonly catalog: Catalog) {}

  /** Listens on a channel, once each. @param channel a plain word */
  async on(channel: string, told: Listener['told'], missed: Listener['missed']): Promise<void> {
    this.listeners.set(channel, { told, missed });
    if (!this.catalog.pool) return;
    this.turn = this.turn.then(async () => {
      if (this.client) await this.client.query(`LISTEN ${channel}`).catch(() => undefined);
      else await this.connect();
      missed();
    });
    await this.turn;
  }

  /** Says something to the other processes and this one; inside of a transaction, when it commits. */
  async notify(channel: string, payload: string, trx?: Trx): Promise<void> {
    if (!this.catalog.pool) return;
    await sql`SELECT pg_notify(${channel}, ${payload})`.execute(trx ?? this.catalog.db);
  }

  onModuleDestroy(): void {
    this.stopped = true;
    clearTimeout(this.reconnect);
    this.client?.release(true);
    this.client = undefined;
  }

  private async connect(): Promise<void> {
    if (this.stopped || this.client || !this.catalog.pool) return;
    let end = () => undefined as void;
    try {
      const client = await this.catalog.pool.connect();
      let isOver = false;
      end = () => {
        if (isOver) return;
        isOver = true;
        client.release(true);
        this.client = undefined;
        this.again();
      };
      client.on('notification', ({ channel, payload }) => this.listeners.get(channel)?.told(payload ?? ''));
      client.once('error', end);
      if (this.stopped) return end();
      for (const channel of this.listeners.keys()) await client.query(`LISTEN ${channel}`);
      this.client = client;
      for (const { missed } of this.listeners.values()) missed();
    } catch {
      end();
      this.again();
    }
  }

  private again(): void {
    clearTimeout(this.reconnect);
    if (!this.stopped) this.reconnect = setTimeout(() => (this.turn = this.turn.then(() => this.connect())), RECONNECT_MS);
  }
}
