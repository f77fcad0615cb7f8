import { Injectable } from '@nestjs/common';
import { type Insertable, sql } from 'kysely';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import type { CatalogTables, WebhookAttempt } from '../catalog/tables.js';
import { newId } from '../common/identifiers.js';
import type { OutboxRow } from '../outbox/outbox-consumer.js';
import type { ListDeliveriesDto } from './webhook.dto.js';
import type { DeliveryRow, EndpointRow } from './webhook-view.js';

/** A claim ends by itself after this time, should its holder have died; longer than any attempt takes. */
const CLAIM_SECONDS = 25;
/** So many attempts of a delivery are kept, however often it is sent again. */
const ATTEMPTS_KEPT = 30;
const ROWS_PER_INSERT = 500;

/** A delivery that this process may send now. */
export interface ClaimedDelivery {
  id: string;
  endpoint_id: string;
  event_id: string;
  tries: number;
  body: string;
}

/** How a delivery goes on after an attempt. */
export interface Settlement {
  attempt: WebhookAttempt;
  status: 'delivered' | 'pending' | 'failed';
  error: string | null;
  nextAttemptAt: Date | null;
}

/** Deliveries of events to webhook endpoints. */
@Injectable()
export class DeliveriesRepository {
  constructor(private readonly catalog: Catalog) {}

  async list(
    organizationId: string,
    filter: ListDeliveriesDto & { endpointId?: string },
  ): Promise<{ rows: DeliveryRow[]; total: number }> {
    let all = this.catalog.db.selectFrom('webhook_deliveries').where('organization_id', '=', organizationId);
    if (filter.endpointId !== undefined) all = all.where('endpoint_id', '=', filter.endpointId);
    if (filter.status) all = all.where('status', '=', filter.status);
    if (filter.event !== undefined) all = all.where('event_type', '=', filter.event);
    const rows = await all
      .selectAll()
      .orderBy('position', 'desc')
      .orderBy('id', 'desc')
      .limit(filter.limit)
      .offset((filter.page - 1) * filter.limit)
      .execute();
    const { total } = await all.select((e) => e.fn.countAll<number>().as('total')).executeTakeFirstOrThrow();
    return { rows, total: Number(total) };
  }

  async find(organizationId: string, id: string): Promise<DeliveryRow | undefined> {
    return this.catalog.db
      .selectFrom('webhook_deliveries')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .executeTakeFirst();
  }

  /** Queues events for endpoints; those that are queued there already are passed over. @returns how many are new */
  async queue(trx: Trx, pairs: readonly { event: Omit<OutboxRow, 'body'>; endpoint: EndpointRow }[]): Promise<number> {
    let queued = 0;
    for (let start = 0; start < pairs.length; start += ROWS_PER_INSERT) {
      const rows = pairs.slice(start, start + ROWS_PER_INSERT).map(({ event, endpoint }) => ({
        ...deliveryOf(event, endpoint),
        status: 'pending',
        next_attempt_at: new Date(),
      }));
      const inserted = await trx
        .insertInto('webhook_deliveries')
        .values(rows)
        .onConflict((conflict) => conflict.doNothing())
        .returning('id')
        .execute();
      queued += inserted.length;
    }
    return queued;
  }

  /** A test that was sent already: its event, which is nobody else's, and how it went. */
  async insertTest(
    trx: Trx,
    event: { id: string; type: string; body: string; at: Date },
    endpoint: EndpointRow,
    attempt: WebhookAttempt,
  ): Promise<DeliveryRow> {
    const recorded = await trx
      .insertInto('outbox')
      .values({
        id: event.id,
        organization_id: endpoint.organization_id,
        type: event.type,
        subject: event.id,
        body: event.body,
        occurred_at: event.at,
        done_at: new Date(),
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    return trx
      .insertInto('webhook_deliveries')
      .values({
        ...deliveryOf(recorded, endpoint),
        status: attempt.error === null ? 'delivered' : 'failed',
        error: attempt.error,
        attempts: json([attempt]),
        tries: 1,
        finished_at: new Date(),
      })
      .returningAll()
      .executeTakeFirstOrThrow();
  }

  /**
   * Takes deliveries that are due, of enabled endpoints, where no earlier one of the same subject is still on its way.
   * @param full endpoints that have enough to do
   */
  async claim(token: string, limit: number, perEndpoint: number, full: readonly string[]): Promise<ClaimedDelivery[]> {
    const { rows } = await sql<ClaimedDelivery>`
      WITH picked AS (
        SELECT due.id FROM webhook_endpoints e CROSS JOIN LATERAL (
          SELECT d.id FROM webhook_deliveries d
          WHERE d.endpoint_id = e.id AND d.status = 'pending' AND d.next_attempt_at <= now()
            AND (d.claimed_until IS NULL OR d.claimed_until < now())
            AND NOT EXISTS (SELECT 1 FROM webhook_deliveries b WHERE b.endpoint_id = d.endpoint_id AND b.subject = d.subject
              AND b.status = 'pending' AND b.position < d.position)
          ORDER BY d.next_attempt_at, d.position LIMIT ${perEndpoint} FOR UPDATE OF d SKIP LOCKED) due
        WHERE e.enabled AND NOT e.id = ANY(${[...full]}::text[]) LIMIT ${limit})
      UPDATE webhook_deliveries d SET claimed_by = ${token}, claimed_until = now() + make_interval(secs => ${CLAIM_SECONDS})
      FROM picked, outbox o WHERE d.id = picked.id AND o.id = d.event_id
      RETURNING d.id, d.endpoint_id, d.event_id, d.tries, o.body`.execute(this.catalog.db);
    return rows;
  }

  /** Writes down how an attempt went. @returns false when the claim had ended, and somebody else has the delivery now */
  async settle(trx: Trx, id: string, token: string, { attempt, status, error, nextAttemptAt }: Settlement): Promise<boolean> {
    const { rows } = await sql`UPDATE webhook_deliveries SET
        attempts = jsonb_path_query_array(attempts || ${json([attempt])}::jsonb, ${sql.lit(`$[last - ${ATTEMPTS_KEPT - 1} to last]`)}),
        tries = tries + 1, status = ${status}, error = ${error}, next_attempt_at = ${nextAttemptAt}, claimed_by = NULL,
        claimed_until = NULL, finished_at = CASE WHEN ${status} = 'pending' THEN NULL ELSE now() END
      WHERE id = ${id} AND claimed_by = ${token} RETURNING id`.execute(trx);
    return rows.length > 0;
  }

  /** Gives claims back that were not used. */
  async release(token: string): Promise<void> {
    await sql`UPDATE webhook_deliveries SET claimed_by = NULL, claimed_until = NULL WHERE claimed_by = ${token}`.execute(
      this.catalog.db,
    );
  }

  /** No process but this one can hold a claim: those that are left were held by one that is gone. */
  async releaseAll(): Promise<void> {
    await sql`UPDATE webhook_deliveries SET claimed_by = NULL, claimed_until = NULL WHERE claimed_by IS NOT NULL`.execute(
      this.catalog.db,
    );
  }

  /** What waits for an endpoint that gets nothing any more. */
  async failPending(trx: Trx, endpointId: string, error: string): Promise<void> {
    await sql`UPDATE webhook_deliveries SET status = 'failed', error = ${error}, next_attempt_at = NULL, finished_at = now(),
        claimed_by = NULL, claimed_until = NULL
      WHERE endpoint_id = ${endpointId} AND status = 'pending'`.execute(trx);
  }

  /** Begins the plan of one delivery anew. */
  async requeue(trx: Trx, id: string): Promise<DeliveryRow> {
    return trx
      .updateTable('webhook_deliveries')
      .set({ status: 'pending', error: null, tries: 0, next_attempt_at: new Date(), finished_at: null })
      .where('id', '=', id)
      .returningAll()
      .executeTakeFirstOrThrow();
  }

  /** Begins the plan of an endpoint's deliveries anew, from a time on; tests stay as they are. */
  async requeueSince(trx: Trx, endpointId: string, since: Date, status: string | undefined): Promise<number> {
    let query = trx
      .updateTable('webhook_deliveries')
      .set({ status: 'pending', error: null, tries: 0, next_attempt_at: new Date(), finished_at: null })
      .where('endpoint_id', '=', endpointId)
      .where('occurred_at', '>=', since)
      .where('event_type', '!=', 'webhook.test');
    if (status !== undefined) query = query.where('status', '=', status);
    return (await query.returning('id').execute()).length;
  }

  /** Events since a time that were never queued for an endpoint, without their bodies. */
  async missedBy(trx: Trx, { id, organization_id, created_at }: EndpointRow, since: Date): Promise<Omit<OutboxRow, 'body'>[]> {
    return trx
      .selectFrom('outbox as o')
      .select(['o.id', 'o.position', 'o.organization_id', 'o.type', 'o.subject', 'o.occurred_at', 'o.taken_by', 'o.done_at'])
      .where('o.organization_id', '=', organization_id)
      .where('o.occurred_at', '>=', since > created_at ? since : created_at)
      .where('o.type', '!=', 'webhook.test')
      .where(sql<boolean>`NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.event_id = o.id AND d.endpoint_id = ${id})`)
      .orderBy('o.position')
      .execute();
  }
}

type DeliveryValues = Pick<
  Insertable<CatalogTables['webhook_deliveries']>,
  'id' | 'position' | 'organization_id' | 'endpoint_id' | 'event_id' | 'event_type' | 'subject' | 'occurred_at'
>;

function deliveryOf(event: Omit<OutboxRow, 'body'>, endpoint: EndpointRow): DeliveryValues {
  return {
    id: newId('dlv'),
    position: event.position,
    organization_id: event.organization_id,
    endpoint_id: endpoint.id,
    event_id: event.id,
    event_type: event.type,
    subject: event.subject,
    occurred_at: event.occurred_at,
  };
}
