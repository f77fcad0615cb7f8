import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import { actorOf, type Identity } from '../auth/identity.js';
import type { BackupType } from '../backups/backup.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { Clock } from '../common/clock.js';
import { Errors } from '../common/errors.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { newId } from '../common/identifiers.js';
import type { QueuedRun } from '../jobs/run-events.js';
import { DestinationsService } from '../destinations/destinations.service.js';
import { SourcesService } from '../sources/sources.service.js';
import { cronFault, isTimeZone, slotAfter } from './next-run.js';
import { DEFAULT_VERIFY_LEVEL, dueAt } from './schedule.js';
import type { CreateScheduleDto, ListSchedulesDto, UpdateScheduleDto } from './schedule.dto.js';
import { DueRepository } from './due.repository.js';
import { type ScheduleRow, type ScheduleRunRow, SchedulesRepository, type ScheduleValues } from './schedules.repository.js';

const SHOWN_RUNS = 100;

/** Schedules: made, changed, listed, removed, and started by hand. */
@Injectable()
export class SchedulesService {
  constructor(
    private readonly schedules: SchedulesRepository,
    private readonly due: DueRepository,
    private readonly catalog: Catalog,
    private readonly sources: SourcesService,
    private readonly backups: BackupsService,
    private readonly changes: Changes,
    private readonly clock: Clock,
    private readonly destinations: DestinationsService,
  ) {}

  async list(caller: Identity, filter: ListSchedulesDto): Promise<Page<ScheduleRow>> {
    const { page, limit, enabled, action } = filter;
    const sourceId = filter.source === undefined ? undefined : (await this.sources.get(caller.organizationId, filter.source)).id;
    const { rows, total } = await this.schedules.list(
      caller.organizationId,
      { enabled, sourceId, action },
      limit,
      (page - 1) * limit,
    );
    return new Page(rows, { page, limit, total });
  }

  /** @throws NOT_FOUND */
  async get(organizationId: string, idOrName: string): Promise<ScheduleRow> {
    const row = await this.schedules.find(organizationId, idOrName);
    if (!row) throw Errors.notFound('schedule', idOrName);
    return row;
  }

  history(row: ScheduleRow): Promise<ScheduleRunRow[]> {
    return this.schedules.history(row.id, SHOWN_RUNS);
  }

  /** @throws VALIDATION_ERROR, NOT_FOUND for its source, CONFLICT when the name is taken */
  async create(caller: Identity, dto: CreateScheduleDto): Promise<ScheduleRow> {
    const { organizationId } = caller;
    const action = dto.action ?? 'backup';
    const source =
      action === 'status-check' && dto.source === undefined ? null : await this.sources.getOrOnly(organizationId, dto.source);
    const id = newId('sched');
    await this.check(organizationId, dto, dto.destinations ?? []);
    const values = this.timed({
      name: dto.name,
      source_id: source?.id ?? null,
      action,
      type: dto.type ?? 'full',
      compress: dto.compress ?? true,
      label: dto.label ?? null,
      tags: dto.tags ?? [],
      destinations: dto.destinations ?? [],
      quorum: typeof dto.quorum === 'number' ? dto.quorum : null,
      cron: dto.cron.trim().replace(/\s+/g, ' '),
      timezone: dto.timezone ?? 'UTC',
      enabled: dto.enabled ?? true,
      jitter_seconds: dto.jitterSeconds ?? 0,
      missed_runs: dto.missedRuns ?? 'run-once',
      overlap: dto.overlap ?? 'skip',
      verify_level: dto.verifyLevel ?? DEFAULT_VERIFY_LEVEL,
      retention_policy: dto.retentionPolicy ?? null,
      max_attempts: dto.maxAttempts ?? 1,
      retry_delay_seconds: dto.retryDelaySeconds ?? 60,
    });
    await this.catalog.transaction(async (trx) => {
      await this.schedules.insert(trx, organizationId, id, values);
      await this.changes.record(trx, caller, 'schedule.created', id, {
        name: dto.name,
        cron: values.cron,
        timezone: values.timezone,
      });
    });
    await this.changes.committed(caller, 'schedule', id, []);
    return this.get(organizationId, id);
  }

  async update(caller: Identity, { id: idOrName, ...dto }: UpdateScheduleDto): Promise<ScheduleRow> {
    const { organizationId } = caller;
    const old = await this.get(organizationId, idOrName);
    const source = dto.source === undefined ? undefined : await this.sources.get(organizationId, dto.source);
    const action = dto.action ?? old.action;
    const sourceId = source?.id ?? old.source_id;
    if (action === 'backup' && sourceId === null) throw Errors.validation({ source: 'is needed: a backup is of one source' });
    await this.check(organizationId, dto, dto.destinations ?? old.destinations);
    const values = this.timed(
      {
        name: dto.name ?? old.name,
        source_id: sourceId,
        action,
        type: dto.type ?? old.type,
        compress: dto.compress ?? old.compress,
        label: dto.label ?? old.label,
        tags: dto.tags ?? old.tags,
        destinations: dto.destinations ?? old.destinations,
        quorum: dto.quorum === undefined ? old.quorum : dto.quorum === 'all' ? null : dto.quorum,
        cron: dto.cron === undefined ? old.cron : dto.cron.trim().replace(/\s+/g, ' '),
        timezone: dto.timezone ?? old.timezone,
        enabled: dto.enabled ?? old.enabled,
        jitter_seconds: dto.jitterSeconds ?? old.jitter_seconds,
        missed_runs: dto.missedRuns ?? old.missed_runs,
        overlap: dto.overlap ?? old.overlap,
        verify_level: dto.verifyLevel ?? old.verify_level,
        retention_policy: dto.retentionPolicy === undefined ? old.retention_policy : dto.retentionPolicy,
        max_attempts: dto.maxAttempts ?? old.max_attempts,
        retry_delay_seconds: dto.retryDelaySeconds ?? old.retry_delay_seconds,
      },
      old,
    );
    await this.catalog.transaction(async (trx) => {
      await this.schedules.update(trx, organizationId, old.id, values);
      const changed = Object.keys(dto).filter((name) => dto[name as keyof typeof dto] !== undefined);
      await this.changes.record(trx, caller, 'schedule.updated', old.id, { name: values.name, changed });
    });
    await this.changes.committed(caller, 'schedule', old.id, []);
    return this.get(organizationId, old.id);
  }

  async delete(caller: Identity, idOrName: string): Promise<ScheduleRow> {
    const old = await this.get(caller.organizationId, idOrName);
    await this.catalog.transaction(async (trx) => {
      await this.schedules.delete(trx, caller.organizationId, old.id);
      await this.changes.record(trx, caller, 'schedule.deleted', old.id, { name: old.name });
    });
    await this.changes.committed(caller, 'schedule', old.id, []);
    return old;
  }

  /**
   * Begins the schedule's work now; its slots stay as they are.
   * @returns the id of the queued backup; null for a status check, which the next tick begins
   */
  async runNow(caller: Identity, idOrName: string): Promise<{ schedule: ScheduleRow; backupId: string | null }> {
    const schedule = await this.get(caller.organizationId, idOrName);
    const runId = newId('srun');
    const backup = await this.catalog.transaction(async (trx) => {
      const queued = schedule.action === 'backup' ? await this.order(trx, schedule, null, actorOf(caller)) : null;
      await this.due.insertRuns(trx, [
        {
          id: runId,
          schedule_id: schedule.id,
          slot: null,
          trigger: 'manual',
          status: queued === null ? 'waiting' : 'queued',
          due_at: queued === null ? this.clock.now() : null,
          backup_id: queued?.id ?? null,
        },
      ]);
      await this.changes.record(trx, caller, 'schedule.started', schedule.id, {
        name: schedule.name,
        backupId: queued?.id ?? null,
      });
      return queued;
    });
    if (backup) await this.backups.announce([backup]);
    await this.changes.committed(caller, 'schedule', schedule.id, ['backups']);
    return { schedule, backupId: backup?.id ?? null };
  }

  /** What a schedule names must be there when it is written, not only when it runs. @throws VALIDATION_ERROR */
  private async check(organizationId: string, dto: Partial<CreateScheduleDto>, destinations: readonly string[]): Promise<void> {
    const { retentionPolicy, quorum } = dto;
    if (retentionPolicy && !(await this.schedules.policyExists(organizationId, retentionPolicy)))
      throw Errors.validation({ retentionPolicy: `is "${retentionPolicy}", which is no retention policy of this organization` });
    if (dto.destinations === undefined && typeof quorum !== 'number') return;
    const chosen = await this.destinations.choose(organizationId, destinations);
    if (typeof quorum === 'number' && quorum > chosen.length)
      throw Errors.validation({ quorum: `is more than the ${chosen.length} destinations` });
  }

  private async order(trx: Trx, schedule: ScheduleRow, slot: Date | null, requestedBy: object): Promise<QueuedRun> {
    const [backup] = await this.backups.enqueueScheduled(trx, [
      {
        organizationId: schedule.organization_id,
        source: { id: schedule.source_id ?? '', name: schedule.source_name ?? '' },
        type: schedule.type as BackupType,
        compress: schedule.compress,
        label: schedule.label,
        tags: schedule.tags,
        destinations: schedule.destinations,
        quorum: schedule.quorum,
        schedule: { id: schedule.id, name: schedule.name, slot },
        requestedBy,
      },
    ]);
    return backup as QueuedRun;
  }

  /** With the next slot, which stays when neither times nor jitter were changed: a change of the label must not lose a due run. */
  private timed(values: Omit<ScheduleValues, 'next_slot' | 'due_at'>, old?: ScheduleRow): ScheduleValues {
    const { cron, timezone, jitter_seconds: jitter } = values;
    const fault = cronFault(cron);
    const faults = {
      ...(fault === null ? {} : { cron: fault }),
      ...(isTimeZone(timezone) ? {} : { timezone: 'is no zone of the IANA database, such as Europe/Berlin or UTC' }),
    };
    if (Object.keys(faults).length > 0) throw Errors.validation(faults);
    const isSame =
      old !== undefined &&
      old.enabled === values.enabled &&
      old.cron === cron &&
      old.timezone === timezone &&
      old.jitter_seconds === jitter;
    if (isSame) return { ...values, next_slot: old.next_slot, due_at: old.due_at };
    const slot = values.enabled ? slotAfter(cron, timezone, this.clock.now()) : null;
    return { ...values, next_slot: slot, due_at: slot && dueAt(slot, jitter, Math.random()) };
  }
}
