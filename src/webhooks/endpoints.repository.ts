import { Injectable } from '@nestjs/common';
import { sql, type Updateable } from 'kysely';
import { Catalog, type Db, type Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';
import type { EndpointRow } from './webhook-view.js';

export type EndpointValues = Pick<
  EndpointRow,
  'url' | 'description' | 'events' | 'enabled' | 'sealed_secret' | 'sealed_headers' | 'header_names'
>;

/** Webhook endpoints, by organization. */
@Injectable()
export class EndpointsRepository {
  constructor(private readonly catalog: Catalog) {}

  async list(organizationId: string, limit: number, offset: number): Promise<{ rows: EndpointRow[]; total: number }> {
    const all = this.catalog.db.selectFrom('webhook_endpoints').where('organization_id', '=', organizationId);
    const rows = await all.selectAll().orderBy('created_at').orderBy('id').limit(limit).offset(offset).execute();
    const { total } = await all.select((e) => e.fn.countAll<number>().as('total')).executeTakeFirstOrThrow();
    return { rows, total: Number(total) };
  }

  async find(organizationId: string, id: string, db: Db | Trx = this.catalog.db): Promise<EndpointRow | undefined> {
    return db
      .selectFrom('webhook_endpoints')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .executeTakeFirst();
  }

  async insert(trx: Trx, organizationId: string, id: string, values: EndpointValues): Promise<EndpointRow> {
    return trx
      .insertInto('webhook_endpoints')
      .values({ id, organization_id: organizationId, ...values })
      .returningAll()
      .executeTakeFirstOrThrow();
  }

  async update(
    trx: Trx,
    organizationId: string,
    id: string,
    values: Updateable<CatalogTables['webhook_endpoints']>,
  ): Promise<EndpointRow | undefined> {
    return trx
      .updateTable('webhook_endpoints')
      .set({ ...values, updated_at: sql<Date>`now()` })
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .returningAll()
      .executeTakeFirst();
  }

  async delete(trx: Trx, organizationId: string, id: string): Promise<EndpointRow | undefined> {
    return trx
      .deleteFrom('webhook_endpoints')
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .returningAll()
      .executeTakeFirst();
  }

  /** One that is enabled, whatever the organization; for the server's own work. */
  async findEnabled(id: string): Promise<EndpointRow | undefined> {
    return this.catalog.db
      .selectFrom('webhook_endpoints')
      .selectAll()
      .where('id', '=', id)
      .where('enabled', '=', true)
      .executeTakeFirst();
  }

  async count(trx: Trx, organizationId: string): Promise<number> {
    const { total } = await trx
      .selectFrom('webhook_endpoints')
      .select((e) => e.fn.countAll<number>().as('total'))
      .where('organization_id', '=', organizationId)
      .executeTakeFirstOrThrow();
    return Number(total);
  }

  /** The endpoints of these organizations that are to be told, kept from being disabled until the transaction ends. */
  async enabledOf(trx: Trx, organizationIds: readonly string[]): Promise<EndpointRow[]> {
    return trx
      .selectFrom('webhook_endpoints')
      .selectAll()
      .where('organization_id', 'in', [...organizationIds])
      .where('enabled', '=', true)
      .orderBy('id')
      .forShare()
      .execute();
  }

  /** An endpoint, locked until the transaction ends; whoever changes its deliveries as well locks it first. */
  async lock(trx: Trx, id: string): Promise<EndpointRow | undefined> {
    return trx.selectFrom('webhook_endpoints').selectAll().where('id', '=', id).forNoKeyUpdate().executeTakeFirst();
  }

  /** Notes how a delivery went; a time is written anew once in ten seconds at most. */
  async noteOutcome(trx: Trx, id: string, isDelivered: boolean): Promise<void> {
    if (isDelivered)
      await sql`UPDATE webhook_endpoints SET failing_since = NULL, last_delivered_at = now() WHERE id = ${id}
        AND (failing_since IS NOT NULL OR last_delivered_at IS NULL OR last_delivered_at < now() - interval '10 seconds')`.execute(
        trx,
      );
    else await sql`UPDATE webhook_endpoints SET failing_since = now() WHERE id = ${id} AND failing_since IS NULL`.execute(trx);
  }
}
