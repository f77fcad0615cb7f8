import { Injectable } from '@nestjs/common';
import { AuditService } from '../audit/audit.service.js';
import { actorOf, type Identity } from '../auth/identity.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import { Errors } from '../common/errors.js';
import { EventBus } from '../common/events/event-bus.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { newTimedId, timedIdPattern } from '../common/identifiers.js';
import { JobQueue } from '../jobs/job-queue.js';
import { hasEnded } from '../jobs/run.js';
import { RunsRepository } from '../jobs/runs.repository.js';
import { RestoreTargets } from './restore-targets.js';
import type { CreateRestoreDto, ListRestoresDto } from './restore.dto.js';
import { type RestoreRow, RestoresRepository } from './restores.repository.js';

const ID = timedIdPattern('restore');

/** Restores: asked for, listed, canceled. */
@Injectable()
export class RestoresService {
  constructor(
    private readonly restores: RestoresRepository,
    private readonly backups: BackupsService,
    private readonly targets: RestoreTargets,
    private readonly catalog: Catalog,
    private readonly queue: JobQueue,
    private readonly runs: RunsRepository,
    private readonly audit: AuditService,
    private readonly cache: CacheService,
    private readonly bus: EventBus,
  ) {}

  async list(caller: Identity, filter: ListRestoresDto): Promise<Page<RestoreRow>> {
    const { rows, total } = await this.restores.list(caller.organizationId, filter);
    return new Page(rows, { page: filter.page, limit: filter.limit, total });
  }

  async get(organizationId: string, id: string): Promise<RestoreRow> {
    if (!ID.test(id)) throw Errors.validation({ id: 'is not the id of a restore (restore_2025-12-22_14-30-00_k7m2qd)' });
    const row = await this.restores.find(organizationId, id);
    if (!row) throw Errors.notFound('restore', id);
    return row;
  }

  /** Looks at the target first, so that what can't work is refused at once; then queues the restore. */
  async create(caller: Identity, backupId: string, dto: CreateRestoreDto): Promise<RestoreRow> {
    const backup = await this.backups.get(caller.organizationId, backupId);
    if (backup.status !== 'completed')
      throw Errors.conflict(`The backup is ${backup.status}; only completed ones can be restored.`);
    if (!backup.components.includes('database'))
      throw Errors.precondition(
        `The backup ${backupId} is of type ${backup.type} and has no component database; its files can be downloaded.`,
      );
    const id = newTimedId('restore', new Date());
    const target = await this.targets.prepare(backup, id, dto);
    const row = await this.catalog.transaction(async (trx) => {
      const run = await this.runs.lock(trx, 'backup', backupId);
      if (!run) throw Errors.notFound('backup', backupId);
      const inserted = await this.restores.insert(trx, {
        id,
        organizationId: caller.organizationId,
        backupId,
        target: target.column,
        sealedUrl: target.sealedUrl,
        components: dto.components ?? ['database'],
        requestedBy: actorOf(caller),
      });
      await this.queue.enqueue(trx, 'restore', id);
      await this.audit.record(trx, {
        organizationId: caller.organizationId,
        actor: actorOf(caller),
        action: 'restore.created',
        resource: { kind: 'restore', id },
        changes: { backupId, target: target.column },
      });
      return inserted;
    });
    const source = backup.source_id === null ? null : { id: backup.source_id, name: backup.source_name ?? '' };
    this.bus.emit('restore.queued', {
      organizationId: caller.organizationId,
      runId: id,
      backupId,
      source,
      attempt: 0,
      durationMs: null,
      error: null,
    });
    this.queue.wake('restore');
    await this.changed(caller, id);
    return row;
  }

  async cancel(caller: Identity, id: string): Promise<RestoreRow> {
    const restore = await this.get(caller.organizationId, id);
    await this.catalog.transaction(async (trx) => {
      const run = await this.runs.requestCancel(trx, caller.organizationId, 'restore', id);
      if (!run || hasEnded(run.status))
        throw Errors.conflict(`The restore has ${run?.status ?? restore.status} already; there is nothing to cancel.`);
      if (run.status === 'queued') await this.runs.end(trx, 'restore', id, 'canceled', null);
      await this.audit.record(trx, {
        organizationId: caller.organizationId,
        actor: actorOf(caller),
        action: 'restore.canceled',
        resource: { kind: 'restore', id },
      });
    });
    await this.changed(caller, id);
    return this.get(caller.organizationId, id);
  }

  private async changed(caller: Identity, id: string): Promise<void> {
    await this.cache.invalidate(caller.organizationId, ['restores']);
    this.bus.emit('api.changed', {
      organizationId: caller.organizationId,
      actor: actorOf(caller),
      resourceKind: 'restore',
      resourceId: id,
    });
  }
}
