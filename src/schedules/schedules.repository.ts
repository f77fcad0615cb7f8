import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';

/** A schedule, with the name of its source. */
export type ScheduleRow = Selectable<CatalogTables['schedules']> & { source_name: string | null };
export type ScheduleRunRow = Selectable<CatalogTables['schedule_runs']>;

export type ScheduleValues = Omit<
  Selectable<CatalogTables['schedules']>,
  | 'id'
  | 'organization_id'
  | 'last_run_at'
  | 'last_status'
  | 'run_count'
  | 'failure_count'
  | 'missed_count'
  | 'skipped_count'
  | 'created_at'
  | 'updated_at'
>;

/** Schedules, by organization. */
@Injectable()
export class SchedulesRepository {
  constructor(private readonly catalog: Catalog) {}

  private rows(db: Trx | Catalog['db'] = this.catalog.db) {
    return db
      .selectFrom('schedules')
      .leftJoin('sources', 'sources.id', 'schedules.source_id')
      .selectAll('schedules')
      .select('sources.name as source_name');
  }

  async list(
    organizationId: string,
    filter: { enabled: boolean | undefined; sourceId: string | undefined; action: string | undefined },
    limit: number,
    offset: number,
  ): Promise<{ rows: ScheduleRow[]; total: number }> {
    let query = this.rows().where('schedules.organization_id', '=', organizationId);
    let counted = this.catalog.db
      .selectFrom('schedules')
      .select((e) => e.fn.countAll<number>().as('total'))
      .where('organization_id', '=', organizationId);
    const { enabled, sourceId, action } = filter;
    if (enabled !== undefined) {
      query = query.where('schedules.enabled', '=', enabled);
      counted = counted.where('enabled', '=', enabled);
    }
    if (sourceId !== undefined) {
      query = query.where('schedules.source_id', '=', sourceId);
      counted = counted.where('source_id', '=', sourceId);
    }
    if (action !== undefined) {
      query = query.where('schedules.action', '=', action);
      counted = counted.where('action', '=', action);
    }
    const rows = await query.orderBy('schedules.name').limit(limit).offset(offset).execute();
    return { rows, total: Number((await counted.executeTakeFirstOrThrow()).total) };
  }

  /** By id or, failing that, by name. */
  async find(organizationId: string, idOrName: string, db?: Trx): Promise<ScheduleRow | undefined> {
    return this.rows(db)
      .where('schedules.organization_id', '=', organizationId)
      .where((e) => e.or([e('schedules.id', '=', idOrName), e('schedules.name', '=', idOrName)]))
      .orderBy(sql`schedules.id = ${idOrName}`, 'desc')
      .executeTakeFirst();
  }

  /** By id or name. */
  async policyExists(organizationId: string, idOrName: string): Promise<boolean> {
    const row = await this.catalog.db
      .selectFrom('retention_policies')
      .select('id')
      .where('organization_id', '=', organizationId)
      .where((e) => e.or([e('id', '=', idOrName), e('name', '=', idOrName)]))
      .executeTakeFirst();
    return row !== undefined;
  }

  async insert(trx: Trx, organizationId: string, id: string, values: ScheduleValues): Promise<void> {
    await trx
      .insertInto('schedules')
      .values({ id, organization_id: organizationId, ...values })
      .execute();
  }

  async update(trx: Trx, organizationId: string, id: string, values: ScheduleValues): Promise<void> {
    await trx
      .updateTable('schedules')
      .set({ ...values, updated_at: sql<Date>`now()` })
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .execute();
  }

  async delete(trx: Trx, organizationId: string, id: string): Promise<void> {
    await trx.deleteFrom('schedules').where('organization_id', '=', organizationId).where('id', '=', id).execute();
  }

  /** What became of the schedule's slots, the newest first. */
  async history(scheduleId: string, limit: number): Promise<ScheduleRunRow[]> {
    return this.catalog.db
      .selectFrom('schedule_runs')
      .selectAll()
      .where('schedule_id', '=', scheduleId)
      .orderBy('created_at', 'desc')
      .orderBy('id', 'desc')
      .limit(limit)
      .execute();
  }
}
