import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import { actorOf, type Identity } from '../auth/identity.js';
import { refuseExternal } from '../backups/backup.js';
import type { BackupRow } from '../backups/backups.repository.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog } from '../catalog/catalog.js';
import { ApiError, Errors } from '../common/errors.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { newTimedId, timedIdPattern } from '../common/identifiers.js';
import type { RestorePlan } from '../engine/restore-plan.js';
import { hasEnded } from '../jobs/run.js';
import { RunControl } from '../jobs/run-control.js';
import { LentIdentities } from '../keys/lent-identities.js';
import type { LentIdentityDto } from '../keys/lent-identity.dto.js';
import { KeptDatabases } from './kept-databases.js';
import { RestorePlanner } from './restore-planner.js';
import { RestoreTargets } from './restore-targets.js';
import type { CreateRestoreDto, ListRestoresDto } from './restore.dto.js';
import { type RestoreRow, RestoresRepository } from './restores.repository.js';
import { isOfStorage, StorageRestores } from './storage-restores.js';

const ID = timedIdPattern('restore');

/** Restores: asked for, listed, canceled. */
@Injectable()
export class RestoresService {
  constructor(
    private readonly restores: RestoresRepository,
    private readonly backups: BackupsService,
    private readonly targets: RestoreTargets,
    private readonly planner: RestorePlanner,
    private readonly kept: KeptDatabases,
    private readonly lent: LentIdentities,
    private readonly catalog: Catalog,
    private readonly runs: RunControl,
    private readonly changes: Changes,
    private readonly storage: StorageRestores,
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

  /** What a restore would do; changes nothing. */
  async plan(caller: Identity, backupId: string, dto: CreateRestoreDto, lends: LentIdentityDto): Promise<RestorePlan> {
    const backup = await this.restorable(caller, backupId, dto);
    const identities = await this.lent.requireFor(backup, lends);
    if (isOfStorage(dto)) return this.storage.plan(backup, dto, identities);
    const target = await this.targets.of(backup, newTimedId('restore', new Date()), dto.target);
    return this.planner.plan(backup, target, dto, identities);
  }

  /** Looks at the target first, so that what can't work is refused at once; then queues the restore. */
  async create(caller: Identity, backupId: string, dto: CreateRestoreDto, lends: LentIdentityDto): Promise<RestoreRow> {
    const backup = await this.restorable(caller, backupId, dto);
    const identities = await this.lent.requireFor(backup, lends);
    const id = newTimedId('restore', new Date());
    const { column, sealedUrl } = isOfStorage(dto)
      ? await this.storage.prepare(backup, id, dto, identities)
      : await this.prepare(backup, id, dto, identities);
    const row = await this.catalog.transaction(async (trx) => {
      if (!(await this.runs.lock(trx, 'backup', backupId))) throw Errors.notFound('backup', backupId);
      const inserted = await this.restores.insert(trx, {
        id,
        organizationId: caller.organizationId,
        backupId,
        target: column,
        sealedUrl,
        components: dto.components ?? ['database'],
        requestedBy: actorOf(caller),
      });
      await this.lent.lend(trx, id, identities);
      await this.runs.enqueue(trx, 'restore', id);
      await this.changes.record(trx, caller, 'restore.created', id, { backupId, target: column });
      return inserted;
    });
    await this.runs.queued('restore', id);
    await this.changes.committed(caller, 'restore', id, ['restores']);
    return row;
  }

  /** @throws PRECONDITION_FAILED when it can't work */
  private async prepare(backup: BackupRow, id: string, dto: CreateRestoreDto, identities: readonly string[]) {
    const target = await this.targets.of(backup, id, dto.target);
    const { problems } = await this.planner.plan(backup, target, dto, identities);
    if (problems.length > 0) throw Errors.precondition(problems.join(' '));
    return this.targets.stored(id, target, dto);
  }

  /** Takes a swap back: the database that it replaced gets its name again. */
  async revert(caller: Identity, id: string): Promise<RestoreRow> {
    const restore = await this.get(caller.organizationId, id);
    if (restore.components.includes('storage'))
      throw Errors.conflict("A restore of a project's Storage can't be taken back; restore the safety backup that it made.");
    const backup = await this.backups.get(caller.organizationId, restore.backup_id);
    const kept = await this.kept.revert(restore, await this.targets.resolve(backup, restore));
    await this.catalog.transaction(async (trx) => {
      await this.restores.recordReverted(trx, id, kept);
      await this.changes.record(trx, caller, 'restore.reverted', id, { database: restore.target.database, keptAs: kept.name });
    });
    await this.changes.committed(caller, 'restore', id, ['restores']);
    return this.get(caller.organizationId, id);
  }

  private async restorable(caller: Identity, backupId: string, { components }: CreateRestoreDto): Promise<BackupRow> {
    const backup = await this.backups.get(caller.organizationId, backupId);
    if (backup.status !== 'completed')
      throw Errors.conflict(`The backup is ${backup.status}; only completed ones can be restored.`);
    refuseExternal(backup);
    const [wanted = 'database'] = components ?? [];
    if (backup.components.includes(wanted)) return backup;
    throw Errors.precondition(
      `The backup ${backupId} is of type ${backup.type} and has no component ${wanted}; its files can be downloaded.`,
    );
  }

  /** Ends a queued restore at once, a running one as soon as its worker hears of it; its safety backup with it, if that is still going on. */
  async cancel(caller: Identity, id: string): Promise<RestoreRow> {
    await this.get(caller.organizationId, id);
    const ended = await this.catalog.transaction(async (trx) => {
      await this.changes.record(trx, caller, 'restore.canceled', id);
      return this.runs.cancel(trx, caller.organizationId, 'restore', id);
    });
    await this.runs.canceled('restore', id, ended);
    await this.changes.committed(caller, 'restore', id, ['restores']);
    const restore = await this.get(caller.organizationId, id);
    if (restore.safety_backup_id !== null) await this.cancelSafety(caller, restore.safety_backup_id);
    return restore;
  }

  private async cancelSafety(caller: Identity, id: string): Promise<void> {
    const { status } = await this.backups.get(caller.organizationId, id);
    if (hasEnded(status)) return;
    await this.backups.cancel(caller, id).catch((error: unknown) => {
      // It ended in this very moment.
      if (!(error instanceof ApiError) || error.code !== 'CONFLICT') throw error;
    });
  }
}
