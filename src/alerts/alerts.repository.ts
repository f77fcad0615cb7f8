import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import type { AlertDetail, CatalogTables, SourceOptions } from '../catalog/tables.js';
import { newId } from '../common/identifiers.js';
import type { AlertRule } from './alert-rules.js';

export type AlertRow = Selectable<CatalogTables['alerts']> & { source_name: string };

/** A backup as the rules look at it. */
export interface ObservedBackup {
  id: string;
  organization_id: string;
  source_id: string;
  row_count: number;
  /** Plain bytes of the component database; null where it has none. */
  dump_bytes: number | null;
  options: SourceOptions;
}

/** Alerts, by organization. */
@Injectable()
export class AlertsRepository {
  constructor(private readonly catalog: Catalog) {}

  async list(
    organizationId: string,
    filter: { open: boolean | undefined; sourceId: string | undefined; limit: number; offset: number },
  ): Promise<{ rows: AlertRow[]; total: number }> {
    let query = this.catalog.db
      .selectFrom('alerts')
      .innerJoin('sources', 'sources.id', 'alerts.source_id')
      .where('alerts.organization_id', '=', organizationId);
    if (filter.open !== undefined) query = query.where('closed_at', filter.open ? 'is' : 'is not', null);
    if (filter.sourceId !== undefined) query = query.where('source_id', '=', filter.sourceId);
    const rows = await query
      .selectAll('alerts')
      .select('sources.name as source_name')
      .orderBy('raised_at', 'desc')
      .orderBy('alerts.id', 'desc')
      .limit(filter.limit)
      .offset(filter.offset)
      .execute();
    const { total } = await query.select((e) => e.fn.countAll<number>().as('total')).executeTakeFirstOrThrow();
    return { rows, total: Number(total) };
  }

  async find(organizationId: string, id: string, db: Trx | Catalog['db'] = this.catalog.db): Promise<AlertRow | undefined> {
    return db
      .selectFrom('alerts')
      .innerJoin('sources', 'sources.id', 'alerts.source_id')
      .selectAll('alerts')
      .select('sources.name as source_name')
      .where('alerts.organization_id', '=', organizationId)
      .where('alerts.id', '=', id)
      .executeTakeFirst();
  }

  async open(trx: Trx, sourceId: string): Promise<Selectable<CatalogTables['alerts']>[]> {
    return trx
      .selectFrom('alerts')
      .selectAll()
      .where('source_id', '=', sourceId)
      .where('closed_at', 'is', null)
      .forUpdate()
      .execute();
  }

  /** A completed backup of a source; undefined for others, and for those whose contents are forgotten. */
  async observe(trx: Trx, backupId: string): Promise<ObservedBackup | undefined> {
    const { rows } = await observed(sql`b.id = ${backupId}`).execute(trx);
    return rows[0];
  }

  /** The newest completed and unbroken backup with a database before this one. */
  async before(trx: Trx, backup: ObservedBackup): Promise<ObservedBackup | undefined> {
    const { rows } = await observed(sql`b.source_id = ${backup.source_id} AND b.id <> ${backup.id} AND NOT b.broken
      AND 'database' = ANY(b.components) ORDER BY b.finished_at DESC, b.id DESC LIMIT 1`).execute(trx);
    return rows[0];
  }

  async raise(trx: Trx, head: ObservedBackup, baseId: string, rule: AlertRule, detail: AlertDetail): Promise<string> {
    const id = newId('alert');
    await trx
      .insertInto('alerts')
      .values({
        id,
        organization_id: head.organization_id,
        source_id: head.source_id,
        rule,
        base_backup_id: baseId,
        backup_id: head.id,
        detail: json(detail),
      })
      .execute();
    return id;
  }

  /** It still holds, as of a later backup. */
  async update(trx: Trx, id: string, backupId: string, detail: AlertDetail): Promise<void> {
    await trx
      .updateTable('alerts')
      .set({ backup_id: backupId, detail: json(detail), updated_at: sql<Date>`now()` })
      .where('id', '=', id)
      .execute();
  }

  async close(trx: Trx, id: string, by: 'acknowledged' | 'recovered', note: string | null): Promise<void> {
    await trx
      .updateTable('alerts')
      .set({ closed_at: sql<Date>`now()`, closed_by: by, note, updated_at: sql<Date>`now()` })
      .where('id', '=', id)
      .where('closed_at', 'is', null)
      .execute();
  }
}

function observed(which: ReturnType<typeof sql>) {
  return sql<ObservedBackup>`SELECT b.id, b.organization_id, b.source_id, b.row_count, s.options,
      (SELECT sum(a.plain_bytes)::bigint FROM artifacts a WHERE a.backup_id = b.id AND a.component = 'database') AS dump_bytes
    FROM backups b JOIN sources s ON s.id = b.source_id
    WHERE b.status = 'completed' AND ${which}`;
}
