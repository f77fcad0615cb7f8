import { Injectable } from '@nestjs/common';
import { type Insertable, type Selectable, sql, type Updateable } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';

export type DestinationRow = Selectable<CatalogTables['destinations']>;

/** Destinations besides the local folder, by organization. */
@Injectable()
export class DestinationsRepository {
  constructor(private readonly catalog: Catalog) {}

  list(organizationId: string, db: Trx | Catalog['db'] = this.catalog.db): Promise<DestinationRow[]> {
    return db.selectFrom('destinations').selectAll().where('organization_id', '=', organizationId).orderBy('name').execute();
  }

  /** By id or, failing that, by name. */
  find(organizationId: string, idOrName: string, db: Trx | Catalog['db'] = this.catalog.db): Promise<DestinationRow | undefined> {
    return db
      .selectFrom('destinations')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where((e) => e.or([e('id', '=', idOrName), e('name', '=', idOrName)]))
      .orderBy(sql`id = ${idOrName}`, 'desc')
      .executeTakeFirst();
  }

  findAnywhere(id: string): Promise<DestinationRow | undefined> {
    return this.catalog.db.selectFrom('destinations').selectAll().where('id', '=', id).executeTakeFirst();
  }

  everywhere(): Promise<DestinationRow[]> {
    return this.catalog.db.selectFrom('destinations').selectAll().orderBy('id').execute();
  }

  madeBySetting(trx: Trx, setting: string): Promise<DestinationRow | undefined> {
    return trx.selectFrom('destinations').selectAll().where('made_by_setting', '=', setting).forUpdate().executeTakeFirst();
  }

  async insert(trx: Trx, values: Insertable<CatalogTables['destinations']>): Promise<void> {
    await trx.insertInto('destinations').values(values).execute();
  }

  async update(trx: Trx, organizationId: string, id: string, values: Updateable<CatalogTables['destinations']>): Promise<void> {
    await trx
      .updateTable('destinations')
      .set({ ...values, updated_at: sql<Date>`now()` })
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .execute();
  }

  async recordTest(id: string, capabilities: string): Promise<void> {
    await this.catalog.db
      .updateTable('destinations')
      .set({ capabilities, tested_at: sql<Date>`now()` })
      .where('id', '=', id)
      .execute();
  }

  async delete(trx: Trx, organizationId: string, id: string): Promise<void> {
    await trx.deleteFrom('destinations').where('organization_id', '=', organizationId).where('id', '=', id).execute();
  }
}
