import { Injectable } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { Changes } from '../audit/changes.js';
import { actorOf, type Identity } from '../auth/identity.js';
import { Catalog, type Db, type Trx } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import { Errors } from '../common/errors.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import { BACKUP_ID, newTimedId } from '../common/identifiers.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import { DestinationsService } from '../destinations/destinations.service.js';
import { backupPrefix } from '../engine/store/layout.js';
import { Installation } from '../installation/installation.js';
import { hasEnded } from '../jobs/run.js';
import { RunControl } from '../jobs/run-control.js';
import type { QueuedRun } from '../jobs/run-events.js';
import { SourcesService } from '../sources/sources.service.js';
import { type BackupType, componentsOf } from './backup.js';
import { toBackup } from './backup-view.js';
import type { CreateBackupDto, ListBackupsDto } from './backup.dto.js';
import { type BackupRow, BackupsRepository } from './backups.repository.js';

/** A backup that a schedule asks for. */
export interface ScheduledBackup {
  organizationId: string;
  source: { id: string; name: string };
  type: BackupType;
  compress: boolean;
  label: string | null;
  tags: readonly string[];
  destinations: readonly string[];
  /** How many of them must hold it; null for all. */
  quorum: number | null;
  schedule: { id: string; name: string; slot: Date | null };
  requestedBy: object;
}

/** Backups: asked for, listed, canceled, pinned, thrown away and brought back. */
@Injectable()
export class BackupsService {
  constructor(
    private readonly backups: BackupsRepository,
    private readonly catalog: Catalog,
    private readonly sources: SourcesService,
    private readonly runs: RunControl,
    private readonly installation: Installation,
    private readonly changes: Changes,
    private readonly cache: CacheService,
    private readonly destinations: DestinationsService,
    private readonly copies: BackupCopies,
  ) {}

  async list(caller: Identity, filter: ListBackupsDto): Promise<Page<BackupRow>> {
    const { page, limit } = filter;
    const sourceId = filter.source === undefined ? undefined : (await this.sources.get(caller.organizationId, filter.source)).id;
    const { organizationId } = caller;
    const rows = await this.backups.list(organizationId, filter, sourceId);
    // Turning pages counts once; whatever changes a backup begins the count anew.
    const which = JSON.stringify(['backups', filter.status, filter.type, sourceId, filter.from, filter.to, filter.trash]);
    const count = () => this.backups.count(organizationId, filter, sourceId);
    const total = await this.cache.getOrSet(organizationId, ['backups'], which, 'short', count);
    return new Page(rows, { page, limit, total });
  }

  /** @throws VALIDATION_ERROR before anything is looked up when it is no id at all, NOT_FOUND */
  async get(organizationId: string, id: string, db?: Db | Trx): Promise<BackupRow> {
    const row =
      (await this.backups.find(organizationId, assertBackupId(id), db)) ??
      (await this.backups.findReported(organizationId, id, db));
    if (!row) throw Errors.notFound('backup', id);
    return row;
  }

  /**
   * Queues a backup: its row and its job commit together.
   * @param idempotencyKey the same key with the same request gives the same backup; with another request, CONFLICT
   */
  async create(caller: Identity, dto: CreateBackupDto, idempotencyKey: string | undefined): Promise<BackupRow> {
    const type = typeOf(dto);
    if (dto.includePasswords) refusePasswords(caller, type);
    const source = await this.sources.getOrOnly(caller.organizationId, dto.source);
    const destinations = await this.destinations.choose(caller.organizationId, dto.destinations);
    if (dto.quorum !== undefined && dto.quorum > destinations.length)
      throw Errors.validation({ quorum: `is more than the ${destinations.length} destinations` });
    const requestHash = hashOf({ ...dto, type, source: source.id });
    const id = newTimedId('backup', new Date());
    const make = () =>
      this.catalog.transaction(async (trx) => {
        const earlier =
          idempotencyKey === undefined
            ? undefined
            : await this.backups.findByIdempotencyKey(trx, caller.organizationId, idempotencyKey);
        if (earlier) return { backup: earlier, isNew: false };
        const backup = await this.backups.insert(trx, {
          id,
          organizationId: caller.organizationId,
          sourceId: source.id,
          sourceName: source.name,
          type,
          origin: 'api',
          components: componentsOf(type, source.kind),
          compress: dto.compress ?? true,
          includePasswords: dto.includePasswords ?? false,
          label: dto.label ?? null,
          tags: dto.tags ?? [],
          pinned: dto.pinned ?? false,
          prefix: this.prefixOf(caller.organizationId, source.id, id),
          idempotencyKey: idempotencyKey ?? null,
          requestHash: idempotencyKey === undefined ? null : requestHash,
          requestedBy: actorOf(caller),
        });
        await this.copies.plan(trx, id, destinations, dto.quorum ?? null);
        await this.runs.enqueue(trx, 'backup', id);
        await this.changes.record(trx, caller, 'backup.created', id, {
          type,
          source: source.name,
          ...(dto.includePasswords ? { includePasswords: true } : {}),
        });
        return { backup, isNew: true };
      });
    // Two requests with one key at the same moment: the later one finds the row of the earlier.
    const row = await make().catch((error: { code?: string }) => {
      if (idempotencyKey !== undefined && error.code === UNIQUE_VIOLATION) return make();
      throw error;
    });
    if (!row.isNew) {
      if (row.backup.request_hash === requestHash) return row.backup;
      throw Errors.conflict(
        `The Idempotency-Key was used before with another request (it made ${row.backup.id}); take a new key for a new request.`,
      );
    }
    await this.runs.queued('backup', id);
    await this.changes.committed(caller, 'backup', id, ['backups']);
    return row.backup;
  }

  /**
   * Queues the backup that an in-place restore makes of what it is about to replace.
   * @param noted writes it down in the same transaction
   */
  async createSafety(restored: BackupRow, restoreId: string, noted: (trx: Trx, id: string) => Promise<void>): Promise<BackupRow> {
    const source = await this.sources.get(restored.organization_id, restored.source_id ?? '');
    const destinations = await this.destinations.choose(restored.organization_id);
    const id = newTimedId('backup', new Date());
    const backup = await this.catalog.transaction(async (trx) => {
      const inserted = await this.backups.insert(trx, {
        id,
        organizationId: restored.organization_id,
        sourceId: source.id,
        sourceName: source.name,
        type: 'full',
        origin: 'safety',
        components: componentsOf('full', source.kind),
        compress: true,
        label: `before ${restoreId}`,
        tags: [],
        pinned: false,
        prefix: this.prefixOf(restored.organization_id, source.id, id),
        idempotencyKey: null,
        requestHash: null,
        requestedBy: SYSTEM_ACTOR,
      });
      await this.copies.plan(trx, id, destinations);
      await this.runs.enqueue(trx, 'backup', id);
      await noted(trx, id);
      return inserted;
    });
    await this.runs.queued('backup', id);
    return backup;
  }

  /**
   * Queues backups for schedules, all in the transaction given; call `announce` when it has committed.
   * @returns them in the order of the orders
   */
  async enqueueScheduled(trx: Trx, orders: readonly ScheduledBackup[]): Promise<QueuedRun[]> {
    const now = new Date();
    const kinds = await this.sources.kinds(trx, [...new Set(orders.map(({ source }) => source.id))]);
    const rows = await this.backups.insertAll(
      trx,
      orders.map((order) => {
        const id = newTimedId('backup', now);
        return {
          id,
          organizationId: order.organizationId,
          sourceId: order.source.id,
          sourceName: order.source.name,
          type: order.type,
          origin: 'schedule',
          components: componentsOf(order.type, kinds.get(order.source.id)),
          compress: order.compress,
          label: order.label,
          tags: order.tags,
          pinned: false,
          prefix: this.prefixOf(order.organizationId, order.source.id, id),
          idempotencyKey: null,
          requestHash: null,
          requestedBy: order.requestedBy,
          schedule: order.schedule,
        };
      }),
    );
    const queued = rows.map((row) => ({
      id: row.id,
      organizationId: row.organization_id,
      backupId: row.id,
      source: { id: row.source_id ?? '', name: row.source_name ?? '' },
      data: { backup: toBackup(row) },
    }));
    for (const [index, { id }] of rows.entries()) {
      const { organizationId, destinations, quorum } = orders[index]!;
      const chosen = await this.destinations.chooseLater(organizationId, destinations, trx);
      await this.copies.plan(trx, id, chosen, quorum === null ? null : Math.min(quorum, chosen.length));
    }
    await this.runs.enqueueAll(trx, 'backup', queued);
    return queued;
  }

  /** Tells those in this process of queued backups, once they are committed. */
  announce(backups: readonly QueuedRun[]): Promise<void> {
    return this.runs.allQueued('backup', backups);
  }

  /** Ends a queued backup at once; a running one as soon as its worker hears of it. */
  async cancel(caller: Identity, id: string): Promise<BackupRow> {
    await this.get(caller.organizationId, id);
    const ended = await this.catalog.transaction(async (trx) => {
      await this.changes.record(trx, caller, 'backup.canceled', id, {});
      return this.runs.cancel(trx, caller.organizationId, 'backup', id);
    });
    await this.runs.canceled('backup', id, ended);
    await this.changes.committed(caller, 'backup', id, ['backups']);
    return this.get(caller.organizationId, id);
  }

  async setPinned(caller: Identity, id: string, pinned: boolean): Promise<BackupRow> {
    await this.get(caller.organizationId, id);
    await this.catalog.transaction(async (trx) => {
      await this.backups.setPinned(trx, id, pinned);
      await this.changes.record(trx, caller, pinned ? 'backup.pinned' : 'backup.unpinned', id, {});
    });
    await this.changes.committed(caller, 'backup', id, ['backups']);
    return this.get(caller.organizationId, id);
  }

  /** Moves an ended backup to the trash, from where it can be restored and brought back for TRASH_DAYS. */
  async delete(caller: Identity, id: string): Promise<BackupRow> {
    await this.get(caller.organizationId, id);
    await this.catalog.transaction(async (trx) => {
      const run = await this.runs.lock(trx, 'backup', id);
      const backup = await this.backups.find(caller.organizationId, id, trx);
      if (!run || !backup) throw Errors.notFound('backup', id);
      if (backup.deleted_at) throw Errors.conflict('The backup lies in the trash already.');
      if (!hasEnded(run.status)) throw Errors.conflict(`The backup is ${run.status}; cancel it first.`);
      if (backup.pinned) throw Errors.conflict('The backup is pinned; unpin it first.');
      const held = await this.copies.heldUntil(id, trx);
      if (held)
        throw Errors.conflict(
          `The backup is locked at the destination "${held.destination}" until ${held.until.toISOString()} (object lock); it can be deleted then.`,
        );
      if (await this.backups.isNeeded(trx, id))
        throw Errors.conflict('A restore or verification of this backup is queued or running; wait for it or cancel it first.');
      await this.backups.setTrashed(trx, id, true);
      await this.changes.record(trx, caller, 'backup.deleted', id, {});
    });
    await this.changes.committed(caller, 'backup', id, ['backups']);
    return this.get(caller.organizationId, id);
  }

  async undelete(caller: Identity, id: string): Promise<BackupRow> {
    await this.get(caller.organizationId, id);
    await this.catalog.transaction(async (trx) => {
      await this.runs.lock(trx, 'backup', id);
      const backup = await this.backups.find(caller.organizationId, id, trx);
      if (!backup) throw Errors.notFound('backup', id);
      if (!backup.deleted_at) throw Errors.conflict('The backup does not lie in the trash.');
      await this.backups.setTrashed(trx, id, false);
      await this.changes.record(trx, caller, 'backup.undeleted', id, {});
    });
    await this.changes.committed(caller, 'backup', id, ['backups']);
    return this.get(caller.organizationId, id);
  }

  /** Its objects are read for so long at the most: until then nothing removes them. */
  async noteUse(ids: readonly string[], ms: number): Promise<void> {
    await this.backups.noteUse(ids, ms);
  }

  private prefixOf(organization: string, source: string, backup: string): string {
    return backupPrefix({ installation: this.installation.id, organization, source, backup });
  }
}

/** PostgreSQL's code for a second row with the same key. */
const UNIQUE_VIOLATION = '23505';

/** Anything that is not exactly an id is refused before it touches anything. @throws VALIDATION_ERROR */
function assertBackupId(id: string): string {
  if (BACKUP_ID.test(id)) return id;
  throw Errors.validation({ id: 'is not the id of a backup (backup_2025-12-22_14-30-00_k7m2qd)' });
}

function typeOf(dto: CreateBackupDto): BackupType {
  if (dto.dbOnly === true && dto.type !== undefined && dto.type !== 'database')
    throw Errors.validation({ dbOnly: `means type database, but type is ${dto.type}` });
  return dto.dbOnly === true ? 'database' : (dto.type ?? 'full');
}

function hashOf(request: object): string {
  return createHash('sha256')
    .update(
      JSON.stringify(
        Object.entries(request)
          .filter(([, value]) => value !== undefined)
          .sort(),
      ),
    )
    .digest('hex');
}

/** Who manages sources may have set these passwords; who merely makes backups must not get at them by a backup. */
function refusePasswords(caller: Identity, type: BackupType): void {
  if (type === 'database') throw Errors.validation({ includePasswords: 'roles are part of type full and config' });
  if (!caller.permissions.has('source:manage')) throw Errors.forbidden(['source:manage']);
}
