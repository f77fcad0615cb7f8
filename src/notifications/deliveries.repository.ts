import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';
import { newId } from '../common/identifiers.js';
import type { OutboxRow } from '../outbox/outbox-consumer.js';

export type DeliveryRow = Selectable<CatalogTables['notification_deliveries']>;

/** A delivery that this worker has claimed, with what is to be told. */
export interface ClaimedDelivery {
  id: string;
  channel_id: string;
  tries: number;
  created_at: Date;
  event_id: string;
  event_type: string;
  body: string;
  occurred_at: Date;
}

/** Messages on their way to channels. */
@Injectable()
export class DeliveriesRepository {
  constructor(private readonly catalog: Catalog) {}

  async insert(trx: Trx, channelId: string, event: OutboxRow): Promise<void> {
    await trx
      .insertInto('notification_deliveries')
      .values({
        id: newId('ntf'),
        position: event.position,
        organization_id: event.organization_id,
        channel_id: channelId,
        event_id: event.id,
        event_type: event.type,
        subject: event.subject,
        status: 'pending',
      })
      .onConflict((conflict) => conflict.columns(['channel_id', 'event_id']).doNothing())
      .execute();
  }

  /**
   * Takes due deliveries for a while: of one channel and subject only the first that is left, so that a start is told before its end.
   * @param seconds after which another worker may take them, if this one is gone
   */
  async claim(limit: number, seconds: number): Promise<ClaimedDelivery[]> {
    const { rows } = await sql<ClaimedDelivery>`
      WITH due AS (
        SELECT d.id FROM notification_deliveries d
        WHERE d.status = 'pending' AND d.next_attempt_at <= now() AND (d.claimed_until IS NULL OR d.claimed_until < now())
          AND NOT EXISTS (SELECT 1 FROM notification_deliveries e WHERE e.channel_id = d.channel_id AND e.subject = d.subject
                          AND e.status = 'pending' AND e.position < d.position)
        ORDER BY d.next_attempt_at LIMIT ${limit} FOR UPDATE OF d SKIP LOCKED),
      claimed AS (
        UPDATE notification_deliveries d SET claimed_until = now() + make_interval(secs => ${seconds}), tries = d.tries + 1
        FROM due WHERE d.id = due.id RETURNING d.*)
      SELECT c.id, c.channel_id, c.tries, c.created_at, c.event_id, c.event_type, o.body, o.occurred_at
      FROM claimed c JOIN outbox o ON o.id = c.event_id ORDER BY c.position`.execute(this.catalog.db);
    return rows;
  }

  async end(id: string, status: 'delivered' | 'failed', error: string | null): Promise<void> {
    await this.catalog.db
      .updateTable('notification_deliveries')
      .set({ status, error, claimed_until: null, finished_at: sql<Date>`now()` })
      .where('id', '=', id)
      .execute();
  }

  async postpone(id: string, ms: number, error: string): Promise<void> {
    await this.catalog.db
      .updateTable('notification_deliveries')
      .set({ error, claimed_until: null, next_attempt_at: sql<Date>`now() + make_interval(secs => ${ms / 1000})` })
      .where('id', '=', id)
      .execute();
  }

  async list(channelId: string, limit: number, offset: number): Promise<{ rows: DeliveryRow[]; total: number }> {
    const query = this.catalog.db.selectFrom('notification_deliveries').where('channel_id', '=', channelId);
    const rows = await query.selectAll().orderBy('position', 'desc').orderBy('id', 'desc').limit(limit).offset(offset).execute();
    const { total } = await query.select((e) => e.fn.countAll<number>().as('total')).executeTakeFirstOrThrow();
    return { rows, total: Number(total) };
  }
}
