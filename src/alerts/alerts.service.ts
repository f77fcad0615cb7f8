import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import type { Trx } from '../catalog/catalog.js';
import { Catalog } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { tableDifferences } from '../comparisons/table-differences.js';
import { Outbox } from '../outbox/outbox.js';
import { exclusionsOf } from '../sources/source-values.js';
import { SourcesService } from '../sources/sources.service.js';
import { type Breach, breachesOf, DEFAULT_ALERT_LIMITS } from './alert-rules.js';
import { type ListAlertsDto, toAlert } from './alert.dto.js';
import { type AlertRow, AlertsRepository, type ObservedBackup } from './alerts.repository.js';

/** Tells when a backup lacks what the one before it had, until someone has looked at it or it is there again. */
@Injectable()
export class AlertsService {
  constructor(
    private readonly alerts: AlertsRepository,
    private readonly catalog: Catalog,
    private readonly sources: SourcesService,
    private readonly changes: Changes,
    private readonly outbox: Outbox,
  ) {}

  async list(caller: Identity, { page, limit, open, source }: ListAlertsDto): Promise<Page<AlertRow>> {
    const sourceId = source === undefined ? undefined : (await this.sources.get(caller.organizationId, source)).id;
    const offset = (page - 1) * limit;
    const { rows, total } = await this.alerts.list(caller.organizationId, { open, sourceId, limit, offset });
    return new Page(rows, { page, limit, total });
  }

  /** Someone has looked at it, and what is missing is missed no longer. @throws NOT_FOUND, CONFLICT when it is closed */
  async acknowledge(caller: Identity, id: string, note: string | undefined): Promise<AlertRow> {
    await this.catalog.transaction(async (trx) => {
      const alert = await this.alerts.find(caller.organizationId, id, trx);
      if (!alert) throw Errors.notFound('alert', id);
      if (alert.closed_at) throw Errors.conflict(`The alert is closed already (${alert.closed_by}).`);
      await this.alerts.close(trx, id, 'acknowledged', note ?? null);
      await this.tell(trx, 'alert.closed', caller.organizationId, id);
      await this.changes.record(trx, caller, 'alert.acknowledged', id, { rule: alert.rule, source: alert.source_name, note });
    });
    await this.changes.committed(caller, 'alert', id, ['backups']);
    return (await this.alerts.find(caller.organizationId, id)) as AlertRow;
  }

  /**
   * Holds a backup that was just completed against the one before it, in the transaction that completes it. An open alert keeps its
   * base, and closes when a later backup has again what was missing.
   */
  async observe(trx: Trx, backupId: string): Promise<void> {
    const head = await this.alerts.observe(trx, backupId);
    if (!head || head.dump_bytes === null) return;
    const previous = await this.alerts.before(trx, head);
    const open = await this.alerts.open(trx, head.source_id);
    const breaches = previous ? await this.breaches(trx, previous, head) : [];
    for (const alert of open) {
      const base = await this.alerts.observe(trx, alert.base_backup_id);
      // What it was held against is removed: only a person can close it now.
      if (!base) continue;
      const still = (await this.breaches(trx, base, head)).find(({ rule }) => rule === alert.rule);
      if (still) await this.alerts.update(trx, alert.id, head.id, still);
      else {
        await this.alerts.close(trx, alert.id, 'recovered', null);
        await this.tell(trx, 'alert.closed', alert.organization_id, alert.id);
      }
    }
    for (const breach of breaches) {
      if (open.some(({ rule }) => rule === breach.rule)) continue;
      const id = await this.alerts.raise(trx, head, previous?.id ?? '', breach.rule, breach);
      await this.tell(trx, 'alert.raised', head.organization_id, id);
    }
  }

  /** Those who are told by webhook or mail hear of it when it is true. Its subject is the backup, after whose own events it comes. */
  private async tell(trx: Trx, type: 'alert.raised' | 'alert.closed', organizationId: string, id: string): Promise<void> {
    const row = await this.alerts.find(organizationId, id, trx);
    if (!row) return;
    await this.outbox.record(trx, { organizationId, type, subject: row.backup_id, data: { alert: toAlert(row) } });
  }

  private async breaches(trx: Trx, base: ObservedBackup, head: ObservedBackup): Promise<Breach[]> {
    const { rows } = await tableDifferences(trx, base.id, head.id);
    const excluded = exclusionsOf(head.options);
    const seen = {
      baseRows: base.row_count,
      headRows: head.row_count,
      baseBytes: base.dump_bytes,
      headBytes: head.dump_bytes,
      tables: rows.map(({ schema, name, base_rows, head_rows }) => ({ schema, name, baseRows: base_rows, headRows: head_rows })),
    };
    return breachesOf(
      { ...DEFAULT_ALERT_LIMITS, ...head.options.alerts },
      seen,
      ({ schema, name }) =>
        excluded.schemas.includes(schema) || excluded.tables.some((table) => table.schema === schema && table.name === name),
    );
  }
}
