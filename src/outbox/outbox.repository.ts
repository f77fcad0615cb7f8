import { Injectable } from '@nestjs/common';
import { type Insertable, sql } from 'kysely';
import { Catalog, type Db, type Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';
import type { OutboxRow } from './outbox-consumer.js';

/** Any constant will do, as long as every version of the server uses the same. */
const HAND_OVER_LOCK = 7_239_410_120;

/** The events that are to be told, in the order in which they were recorded. */
@Injectable()
export class OutboxRepository {
  constructor(private readonly catalog: Catalog) {}

  async insert(db: Db | Trx, rows: readonly Insertable<CatalogTables['outbox']>[]): Promise<void> {
    await db.insertInto('outbox').values(rows).execute();
  }

  /**
   * One process at a time hands over, so that a consumer gets the events of a subject in their order. One that stands still in the middle
   * loses its session, and with it the lock.
   */
  async lockHandOver(trx: Trx): Promise<void> {
    if (!this.catalog.embedded) await sql`SET LOCAL idle_in_transaction_session_timeout = '10s'`.execute(trx);
    await sql`SELECT pg_advisory_xact_lock(${sql.lit(HAND_OVER_LOCK)})`.execute(trx);
  }

  async anyOpen(): Promise<boolean> {
    const { rows } = await sql`SELECT 1 FROM outbox WHERE done_at IS NULL LIMIT 1`.execute(this.catalog.db);
    return rows.length > 0;
  }

  /** Events that not everyone has taken, and the time of the oldest; null when there is none. */
  async backlog(): Promise<{ waiting: number; oldestAt: Date | null }> {
    const { rows } = await sql<{
      waiting: number;
      oldest_at: Date | null;
    }>`SELECT count(*) AS waiting, min(occurred_at) AS oldest_at
      FROM outbox WHERE done_at IS NULL`.execute(this.catalog.db);
    return { waiting: Number(rows[0]?.waiting), oldestAt: rows[0]?.oldest_at ?? null };
  }

  /** The next events that a consumer has not taken. */
  async nextFor(trx: Trx, consumer: string, limit: number): Promise<OutboxRow[]> {
    return trx
      .selectFrom('outbox')
      .selectAll()
      .where('done_at', 'is', null)
      .where(sql<boolean>`NOT ${consumer} = ANY(taken_by)`)
      .orderBy('position')
      .limit(limit)
      .execute();
  }

  /** A consumer has taken these; whoever comes last ends them. */
  async markTaken(trx: Trx, consumer: string, all: readonly string[], events: readonly OutboxRow[]): Promise<void> {
    const ids = events.map(({ id }) => id);
    await sql`UPDATE outbox SET taken_by = array_append(taken_by, ${consumer}::text),
        done_at = CASE WHEN array_append(taken_by, ${consumer}::text) @> ${[...all]}::text[] THEN now() END
      WHERE id = ANY(${ids})`.execute(trx);
  }

  /** Events that everyone has taken long ago, with their deliveries. @returns how many; as many as `limit` means there may be more */
  async prune(days: number, limit: number): Promise<number> {
    const { rows } = await sql`DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox WHERE occurred_at < now() - make_interval(days => ${days}) AND done_at IS NOT NULL
        ORDER BY occurred_at LIMIT ${limit} FOR UPDATE SKIP LOCKED) RETURNING id`.execute(this.catalog.db);
    return rows.length;
  }
}
