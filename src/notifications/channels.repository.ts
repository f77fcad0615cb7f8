import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';

/** A channel, with the names of its sources. */
export type ChannelRow = Selectable<CatalogTables['notification_channels']> & { source_names: string[] };

export type ChannelValues = Pick<
  Selectable<CatalogTables['notification_channels']>,
  'name' | 'kind' | 'events' | 'source_ids' | 'min_severity' | 'only_changes' | 'enabled' | 'addresses' | 'sealed_urls' | 'host'
>;

/** Notification channels, by organization. */
@Injectable()
export class ChannelsRepository {
  constructor(private readonly catalog: Catalog) {}

  private rows(db: Trx | Catalog['db'] = this.catalog.db) {
    return db
      .selectFrom('notification_channels as c')
      .selectAll('c')
      .select(
        sql<
          string[]
        >`ARRAY(SELECT s.name FROM sources s WHERE s.id = ANY(c.source_ids) AND s.organization_id = c.organization_id ORDER BY s.name)`.as(
          'source_names',
        ),
      );
  }

  async list(organizationId: string, limit: number, offset: number): Promise<{ rows: ChannelRow[]; total: number }> {
    const rows = await this.rows()
      .where('c.organization_id', '=', organizationId)
      .orderBy('c.name')
      .limit(limit)
      .offset(offset)
      .execute();
    const { total } = await this.catalog.db
      .selectFrom('notification_channels')
      .select((e) => e.fn.countAll<number>().as('total'))
      .where('organization_id', '=', organizationId)
      .executeTakeFirstOrThrow();
    return { rows, total: Number(total) };
  }

  /** By id or, failing that, by name. */
  async find(organizationId: string, idOrName: string, db?: Trx): Promise<ChannelRow | undefined> {
    return this.rows(db)
      .where('c.organization_id', '=', organizationId)
      .where((e) => e.or([e('c.id', '=', idOrName), e('c.name', '=', idOrName)]))
      .orderBy(sql`c.id = ${idOrName}`, 'desc')
      .executeTakeFirst();
  }

  async findAnywhere(id: string): Promise<ChannelRow | undefined> {
    return this.rows().where('c.id', '=', id).executeTakeFirst();
  }

  /** The enabled channels of these organizations, in the transaction that writes their deliveries. */
  async enabledOf(trx: Trx, organizationIds: readonly string[]): Promise<ChannelRow[]> {
    return this.rows(trx).where('c.organization_id', 'in', organizationIds).where('c.enabled', '=', true).execute();
  }

  async insert(trx: Trx, organizationId: string, id: string, values: ChannelValues, madeBy: string | null = null): Promise<void> {
    await trx
      .insertInto('notification_channels')
      .values({ id, organization_id: organizationId, ...values, made_by_setting: madeBy })
      .execute();
  }

  async update(trx: Trx, organizationId: string, id: string, values: ChannelValues): Promise<void> {
    await trx
      .updateTable('notification_channels')
      .set({ ...values, failing_since: null, last_error: null, updated_at: sql<Date>`now()` })
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .execute();
  }

  async delete(trx: Trx, organizationId: string, id: string): Promise<void> {
    await trx.deleteFrom('notification_channels').where('organization_id', '=', organizationId).where('id', '=', id).execute();
  }

  /** The channels that settings have made. */
  async madeBySettings(trx: Trx): Promise<ChannelRow[]> {
    return this.rows(trx).where('c.made_by_setting', 'is not', null).execute();
  }

  /** What became of the newest message. */
  async noteOutcome(id: string, error: string | null): Promise<void> {
    await sql`UPDATE notification_channels SET last_error = ${error},
        failing_since = CASE WHEN ${error}::text IS NULL THEN NULL ELSE coalesce(failing_since, now()) END,
        last_delivered_at = CASE WHEN ${error}::text IS NULL THEN now() ELSE last_delivered_at END
      WHERE id = ${id}`.execute(this.catalog.db);
  }

  /** How many enabled channels fail, in all organizations. */
  async failing(): Promise<number> {
    const { count } = await this.catalog.db
      .selectFrom('notification_channels')
      .select((e) => e.fn.countAll<number>().as('count'))
      .where('enabled', '=', true)
      .where('failing_since', 'is not', null)
      .executeTakeFirstOrThrow();
    return Number(count);
  }

  /** Whether all was well the last time a channel was told about something, and what it is now. @returns what it was */
  async changeState(trx: Trx, channelId: string, about: string, state: 'good' | 'bad'): Promise<'good' | 'bad' | undefined> {
    const before = await trx
      .selectFrom('notification_states')
      .select('state')
      .where('channel_id', '=', channelId)
      .where('about', '=', about)
      .forUpdate()
      .executeTakeFirst();
    await trx
      .insertInto('notification_states')
      .values({ channel_id: channelId, about, state })
      .onConflict((conflict) => conflict.columns(['channel_id', 'about']).doUpdateSet({ state }))
      .execute();
    return before?.state as 'good' | 'bad' | undefined;
  }
}
