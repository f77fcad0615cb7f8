import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import type { CatalogTables, SourceOptions } from '../catalog/tables.js';

export type SourceRow = Selectable<CatalogTables['sources']>;

export interface SourceValues {
  name: string;
  kind: string;
  host: string;
  port: number;
  database: string;
  username: string;
  sealed_password: string | null;
  supabase_url: string | null;
  sealed_service_role_key: string | null;
  tls: { mode: string; ca?: string };
  options: SourceOptions;
}

/** Sources, by organization. */
@Injectable()
export class SourcesRepository {
  constructor(private readonly catalog: Catalog) {}

  private living(organizationId: string, db: Trx | Catalog['db'] = this.catalog.db) {
    return db.selectFrom('sources').where('organization_id', '=', organizationId).where('deleted_at', 'is', null);
  }

  async list(organizationId: string, limit: number, offset: number): Promise<{ rows: SourceRow[]; total: number }> {
    const rows = await this.living(organizationId).selectAll().orderBy('name').limit(limit).offset(offset).execute();
    const { total } = await this.living(organizationId)
      .select((e) => e.fn.countAll<number>().as('total'))
      .executeTakeFirstOrThrow();
    return { rows, total: Number(total) };
  }

  /** By id or, failing that, by name. */
  async find(organizationId: string, idOrName: string): Promise<SourceRow | undefined> {
    return this.living(organizationId)
      .selectAll()
      .where((e) => e.or([e('id', '=', idOrName), e('name', '=', idOrName)]))
      .orderBy(sql`id = ${idOrName}`, 'desc')
      .executeTakeFirst();
  }

  /** By id, also when it was deleted: its backups still name it. */
  async findEvenDeleted(organizationId: string, id: string): Promise<SourceRow | undefined> {
    return this.catalog.db
      .selectFrom('sources')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .executeTakeFirst();
  }

  /** Every source, or the one with this id; the oldest first. */
  async all(organizationId: string, id: string | null): Promise<SourceRow[]> {
    const query = this.living(organizationId).selectAll().orderBy('created_at').orderBy('id');
    return (id === null ? query : query.where('id', '=', id)).execute();
  }

  /** Up to two, to tell one from several. */
  async firstTwo(organizationId: string): Promise<SourceRow[]> {
    return this.living(organizationId).selectAll().orderBy('created_at').limit(2).execute();
  }

  async insert(trx: Trx, organizationId: string, id: string, values: SourceValues): Promise<SourceRow> {
    return trx
      .insertInto('sources')
      .values({ id, organization_id: organizationId, ...values, tls: json(values.tls), options: json(values.options) })
      .returningAll()
      .executeTakeFirstOrThrow();
  }

  async update(trx: Trx, organizationId: string, id: string, values: SourceValues): Promise<SourceRow | undefined> {
    return trx
      .updateTable('sources')
      .set({ ...values, tls: json(values.tls), options: json(values.options), updated_at: sql<Date>`now()` })
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .where('deleted_at', 'is', null)
      .returningAll()
      .executeTakeFirst();
  }

  /** What kind of source each of these is. */
  async kinds(trx: Trx, ids: readonly string[]): Promise<Map<string, string>> {
    if (ids.length === 0) return new Map();
    const rows = await trx
      .selectFrom('sources')
      .select(['id', 'kind'])
      .where('id', 'in', [...ids])
      .execute();
    return new Map(rows.map(({ id, kind }) => [id, kind]));
  }

  async setServerVersion(organizationId: string, id: string, version: string): Promise<void> {
    await this.catalog.db
      .updateTable('sources')
      .set({ server_version: version })
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .execute();
  }

  /** Runs of this source that have not ended. */
  async openRuns(trx: Trx, id: string): Promise<number> {
    const { count } = await trx
      .selectFrom('backups')
      .select((e) => e.fn.countAll<number>().as('count'))
      .where('source_id', '=', id)
      .where('status', 'in', ['queued', 'running'])
      .executeTakeFirstOrThrow();
    return Number(count);
  }

  /** Its credentials are forgotten at once; the row stays, since backups name it. @returns the names of its schedules, which go with it */
  async markDeleted(trx: Trx, organizationId: string, id: string): Promise<string[]> {
    await trx
      .updateTable('sources')
      .set({ deleted_at: sql<Date>`now()`, sealed_password: null, sealed_service_role_key: null })
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .execute();
    // What ran by the clock for it has nothing to run for any more.
    const schedules = await trx
      .deleteFrom('schedules')
      .where('organization_id', '=', organizationId)
      .where('source_id', '=', id)
      .returning('name')
      .execute();
    return schedules.map(({ name }) => name);
  }
}
