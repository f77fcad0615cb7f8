import { Injectable } from '@nestjs/common';
import { Changes } from '../audit/changes.js';
import type { Identity } from '../auth/identity.js';
import { Catalog } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { Page } from '../common/http/envelope.interceptor.js';
import type { PagingDto } from '../common/http/paging.dto.js';
import { newId } from '../common/identifiers.js';
import { isTimeZone } from '../schedules/next-run.js';
import { SourcesService } from '../sources/sources.service.js';
import { chooseKept, covers, type Decision } from './choose-kept.js';
import { sentenceOf, toPolicy } from './retention-view.js';
import type { CreateRetentionPolicyDto, UpdateRetentionPolicyDto } from './retention.dto.js';
import { type CandidateRow, type PolicyRow, type PolicyValues, RetentionRepository } from './retention.repository.js';

/** Which backups are kept: policies, and what they would do. */
@Injectable()
export class RetentionService {
  constructor(
    private readonly retention: RetentionRepository,
    private readonly catalog: Catalog,
    private readonly sources: SourcesService,
    private readonly changes: Changes,
  ) {}

  async list(caller: Identity, { page, limit }: PagingDto): Promise<Page<PolicyRow>> {
    const { rows, total } = await this.retention.list(caller.organizationId, limit, (page - 1) * limit);
    return new Page(rows, { page, limit, total });
  }

  /** @throws NOT_FOUND */
  async get(organizationId: string, idOrName: string): Promise<PolicyRow> {
    const row = await this.retention.find(organizationId, idOrName);
    if (!row) throw Errors.notFound('retention policy', idOrName);
    return row;
  }

  names(organizationId: string): Promise<Map<string, string>> {
    return this.retention.names(organizationId);
  }

  async create(caller: Identity, dto: CreateRetentionPolicyDto): Promise<PolicyRow> {
    const id = newId('ret');
    const values = await this.valuesOf(caller.organizationId, dto, undefined);
    const row = await this.catalog.transaction(async (trx) => {
      const inserted = await this.retention.insert(trx, caller.organizationId, id, values);
      await this.changes.record(trx, caller, 'retention-policy.created', id, { ...dto });
      return inserted;
    });
    await this.changes.committed(caller, 'retention-policy', id, ['retention']);
    return row;
  }

  async update(caller: Identity, idOrName: string, dto: UpdateRetentionPolicyDto): Promise<PolicyRow> {
    const old = await this.get(caller.organizationId, idOrName);
    const values = await this.valuesOf(caller.organizationId, dto, old);
    const row = await this.catalog.transaction(async (trx) => {
      const updated = await this.retention.update(trx, caller.organizationId, old.id, values);
      if (!updated) throw Errors.notFound('retention policy', idOrName);
      await this.changes.record(trx, caller, 'retention-policy.updated', old.id, { ...dto });
      return updated;
    });
    await this.changes.committed(caller, 'retention-policy', old.id, ['retention']);
    return row;
  }

  /** What it would have removed stays from then on, unless another policy is about it. */
  async delete(caller: Identity, idOrName: string): Promise<PolicyRow> {
    const row = await this.get(caller.organizationId, idOrName);
    await this.catalog.transaction(async (trx) => {
      await this.retention.remove(trx, caller.organizationId, row.id);
      await this.changes.record(trx, caller, 'retention-policy.deleted', row.id, { name: row.name });
    });
    await this.changes.committed(caller, 'retention-policy', row.id, ['retention']);
    return row;
  }

  /** What would become of each backup that a policy is about, all policies taken together, the newest first. */
  async preview(caller: Identity, idOrName: string, now: Date): Promise<{ backup: CandidateRow; decision: Decision }[]> {
    const { organizationId } = caller;
    const { id } = await this.get(organizationId, idOrName);
    const rows = await this.retention.policies(this.catalog.db, organizationId);
    const candidates = await this.retention.candidates(this.catalog.db, organizationId);
    const heldSources = await this.retention.heldSources(this.catalog.db, organizationId);
    const own = rows.find((row) => row.id === id);
    const byId = new Map(candidates.map((backup) => [backup.id, backup]));
    return chooseKept(candidates, rows.map(toPolicy), { now, heldSources }).flatMap((decision) => {
      const backup = byId.get(decision.backupId)!;
      return own && covers(toPolicy(own), backup) ? [{ backup, decision }] : [];
    });
  }

  /** Of each source, which policies are about its backups, what they keep, and how many backups they let go that are still there. */
  async ofSources(
    organizationId: string,
    sourceIds: readonly string[],
    now: Date,
  ): Promise<Map<string, { policies: { name: string; rules: string }[]; waiting: number }>> {
    const rows = await this.retention.policies(this.catalog.db, organizationId);
    const candidates = await this.retention.candidates(this.catalog.db, organizationId);
    const heldSources = await this.retention.heldSources(this.catalog.db, organizationId);
    const policies = rows.map(toPolicy);
    const released = new Set(
      chooseKept(candidates, policies, { now, heldSources }).flatMap(({ kept, backupId }) => (kept ? [] : [backupId])),
    );
    return new Map(
      sourceIds.map((id) => {
        const own = candidates.filter(({ sourceId }) => sourceId === id);
        const about = policies.filter(
          (policy) =>
            own.some((backup) => covers(policy, backup)) ||
            (!policy.onlyNamed &&
              policy.scheduleIds.length + policy.tags.length === 0 &&
              (policy.sourceIds.length === 0 || policy.sourceIds.includes(id))),
        );
        const waiting = own.filter((backup) => released.has(backup.id)).length;
        return [id, { policies: about.map((policy) => ({ name: policy.name, rules: sentenceOf(policy) })), waiting }];
      }),
    );
  }

  private async valuesOf(
    organizationId: string,
    dto: CreateRetentionPolicyDto | UpdateRetentionPolicyDto,
    old: PolicyRow | undefined,
  ): Promise<PolicyValues> {
    if (dto.timezone !== undefined && !isTimeZone(dto.timezone))
      throw Errors.validation({ timezone: 'is no zone of the IANA database, such as Europe/Berlin or UTC' });
    const isBoundAnew = [dto.sources, dto.schedules, dto.tags].some((list) => list !== undefined);
    return {
      name: dto.name ?? old?.name ?? '',
      keep_last: dto.keepLast ?? old?.keep_last ?? 0,
      keep_days: dto.keepDays === undefined ? (old?.keep_days ?? null) : dto.keepDays,
      keep_hourly: dto.keepHourly ?? old?.keep_hourly ?? 0,
      keep_daily: dto.keepDaily ?? old?.keep_daily ?? 0,
      keep_weekly: dto.keepWeekly ?? old?.keep_weekly ?? 0,
      keep_monthly: dto.keepMonthly ?? old?.keep_monthly ?? 0,
      keep_yearly: dto.keepYearly ?? old?.keep_yearly ?? 0,
      max_bytes: dto.maxBytes === undefined ? (old?.max_bytes ?? null) : dto.maxBytes,
      minimum_count: dto.minimumCount ?? old?.minimum_count ?? 0,
      per_type: dto.perType ?? old?.per_type ?? true,
      proof_level: dto.proofLevel ?? old?.proof_level ?? 2,
      grace_minutes: dto.graceMinutes ?? old?.grace_minutes ?? 0,
      timezone: dto.timezone ?? old?.timezone ?? 'UTC',
      source_ids: dto.sources ? await this.sourceIds(organizationId, dto.sources) : (old?.source_ids ?? []),
      schedule_ids: dto.schedules ? await this.scheduleIds(organizationId, dto.schedules) : (old?.schedule_ids ?? []),
      tags: dto.tags ?? old?.tags ?? [],
      only_named: isBoundAnew ? false : (old?.only_named ?? false),
    };
  }

  private async sourceIds(organizationId: string, sources: readonly string[]): Promise<string[]> {
    const ids = new Set<string>();
    for (const source of sources) ids.add((await this.sources.get(organizationId, source)).id);
    return [...ids];
  }

  private async scheduleIds(organizationId: string, schedules: readonly string[]): Promise<string[]> {
    const ids = new Set<string>();
    for (const schedule of schedules) {
      const found = await this.retention.findSchedule(organizationId, schedule);
      if (!found) throw Errors.notFound('schedule', schedule);
      ids.add(found.id);
    }
    return [...ids];
  }
}
