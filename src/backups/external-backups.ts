import { Injectable } from '@nestjs/common';
import { AuditService } from '../audit/audit.service.js';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import { Errors } from '../common/errors.js';
import { EventBus } from '../common/events/event-bus.js';
import type { Actor } from '../common/http/request-context.js';
import { newTimedId } from '../common/identifiers.js';
import { backupPrefix } from '../engine/store/layout.js';
import { Installation } from '../installation/installation.js';
import { durationMs } from '../jobs/run-view.js';
import { Outbox } from '../outbox/outbox.js';
import { SourcesService } from '../sources/sources.service.js';
import { type BackupType, externalKey } from './backup.js';
import { toBackup } from './backup-view.js';
import { type BackupRow, BackupsRepository } from './backups.repository.js';

/** Stands in for the folder of a source, at the place where nothing lies. */
const NO_SOURCE = 'external';
const UNIQUE_VIOLATION = '23505';

/** A backup that was made elsewhere, as it was reported. */
export interface Report {
  organizationId: string;
  /** As it came, with or without a suffix. */
  id: string;
  status: 'completed' | 'failed';
  /** The time in the id. */
  at: Date;
  type: BackupType;
  source: string | undefined;
  label: string | undefined;
  error: string | undefined;
  tables: number;
  records: number;
  bytes: number;
  durationMs: number | undefined;
}

/** Puts backups that others have made into the list, so that they are counted, told of and kept in view. */
@Injectable()
export class ExternalBackups {
  constructor(
    private readonly backups: BackupsRepository,
    private readonly catalog: Catalog,
    private readonly sources: SourcesService,
    private readonly installation: Installation,
    private readonly outbox: Outbox,
    private readonly audit: AuditService,
    private readonly cache: CacheService,
    private readonly bus: EventBus,
  ) {}

  /**
   * Records a report once: the same id again changes nothing.
   * @param guard runs first in the transaction, and may refuse
   * @throws VALIDATION_ERROR for a source that there is not, CONFLICT when the id is that of a backup of this server
   */
  async record(report: Report, actor: Actor, guard: (trx: Trx) => Promise<void>): Promise<{ backup: BackupRow; isNew: boolean }> {
    const source = report.source === undefined ? undefined : await this.sourceOf(report.organizationId, report.source);
    const make = () =>
      this.catalog.transaction(async (trx) => {
        await guard(trx);
        await this.backups.lockReport(trx, report.organizationId, report.id);
        const earlier = await this.backups.findByIdempotencyKey(trx, report.organizationId, externalKey(report.id));
        if (earlier) return { backup: earlier, isNew: false };
        const backup = await this.insert(trx, report, source, actor);
        await this.audit.record(trx, {
          organizationId: report.organizationId,
          actor,
          action: 'backup.reported',
          resource: { kind: 'backup', id: backup.id },
          changes: { status: report.status, source: source?.name ?? null },
        });
        const data = { backup: toBackup(backup) };
        const { organizationId, status } = report;
        await this.outbox.record(trx, { organizationId, type: `backup.${status}`, subject: backup.id, data });
        return { backup, isNew: true };
      });
    // Another organization may have taken the id at this moment.
    const made = await make().catch((error: { code?: string }) => {
      if (error.code === UNIQUE_VIOLATION) return make();
      throw error;
    });
    if (made.isNew) await this.tell(made.backup);
    return made;
  }

  private async insert(
    trx: Trx,
    report: Report,
    source: { id: string; name: string } | undefined,
    actor: Actor,
  ): Promise<BackupRow> {
    const id = await this.freeId(trx, report);
    const { organizationId, at } = report;
    const ended =
      report.durationMs === undefined ? new Date(Math.max(at.getTime(), Date.now())) : new Date(at.getTime() + report.durationMs);
    const error = {
      code: 'EXTERNAL_FAILED',
      message: report.error ?? 'The job that makes this backup reported that it has failed.',
      hint: 'Look into the log of that job; this server did not make the backup.',
    };
    return trx
      .insertInto('backups')
      .values({
        id,
        organization_id: organizationId,
        status: report.status,
        origin: 'external',
        source_id: source?.id ?? null,
        source_name: source?.name ?? null,
        type: report.type,
        components: [],
        compress: false,
        label: report.label ?? null,
        tags: [],
        prefix: backupPrefix({ installation: this.installation.id, organization: organizationId, source: NO_SOURCE, backup: id }),
        idempotency_key: externalKey(report.id),
        requested_by: json(actor),
        stored_bytes: report.bytes,
        table_count: report.tables,
        row_count: report.records,
        created_at: at,
        // How long it took is told only when it is known.
        started_at: report.durationMs === undefined ? null : at,
        finished_at: ended,
        error: report.status === 'failed' ? json(error) : null,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
  }

  /** As it came, unless somebody else has it: ids are unique over all organizations, and nobody may learn of others'. */
  private async freeId(trx: Trx, { id, at, organizationId }: Report): Promise<string> {
    const taken = await this.backups.findAnywhere(id, trx);
    if (!taken) return id;
    if (taken.organization_id === organizationId)
      throw Errors.conflict(`${id} is a backup that this server makes itself; report others under ids of their own.`);
    return newTimedId('backup', at);
  }

  private async sourceOf(organizationId: string, idOrName: string): Promise<{ id: string; name: string }> {
    const source = await this.sources.find(organizationId, idOrName);
    if (!source) throw Errors.validation({ source: 'is not the id or name of a source of this organization' });
    return source;
  }

  private async tell(backup: BackupRow): Promise<void> {
    await this.cache.invalidate(backup.organization_id, ['backups']);
    this.bus.emit(`backup.${backup.status as Report['status']}`, {
      organizationId: backup.organization_id,
      runId: backup.id,
      backupId: backup.id,
      source: backup.source_id === null ? null : { id: backup.source_id, name: backup.source_name ?? '' },
      attempt: 0,
      durationMs: durationMs(backup),
      error: backup.error,
    });
  }
}
