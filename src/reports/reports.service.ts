import { Injectable } from '@nestjs/common';
import { setImmediate as breathe } from 'node:timers/promises';
import { AuditService } from '../audit/audit.service.js';
import { AuditTrail } from '../audit/audit-trail.js';
import { actorOf, type Identity } from '../auth/identity.js';
import { Errors } from '../common/errors.js';
import { Installation } from '../installation/installation.js';
import { ServerKeys } from '../keys/server-keys.js';
import { RetentionService } from '../retention/retention.service.js';
import { VERSION } from '../version.js';
import type { ComplianceQueryDto, ComplianceReportDto, ReportFormat, SourceComplianceDto } from './report.dto.js';
import { ReportsRepository } from './reports.repository.js';
import { complianceOf, type Period } from './source-compliance.js';

const DAY_MS = 86_400_000;
const DEFAULT_DAYS = 30;
const MOST_DAYS = 366;
/** Slots of all schedules together; each gets its share, so that a report never holds the server up. */
const MOST_SLOTS = 100_000;
const MOST_SLOTS_OF_ONE = 10_000;

/** Reports of what was promised and what was held. */
@Injectable()
export class ReportsService {
  constructor(
    private readonly reports: ReportsRepository,
    private readonly retention: RetentionService,
    private readonly trail: AuditTrail,
    private readonly audit: AuditService,
    private readonly installation: Installation,
    private readonly keys: ServerKeys,
  ) {}

  /** @throws VALIDATION_ERROR when the period is empty, too long or yet to come */
  async compliance(caller: Identity, query: ComplianceQueryDto, format: ReportFormat): Promise<ComplianceReportDto> {
    const now = new Date();
    const { from, to } = periodOf(query, now);
    const { organizationId } = caller;
    const resource = { kind: 'report', id: 'compliance' };
    const changes = { format, from: from.toISOString(), to: to.toISOString() };
    await this.audit.record(undefined, { organizationId, actor: actorOf(caller), action: 'report.created', resource, changes });
    return {
      organization: { id: organizationId, name: await this.reports.organizationName(organizationId) },
      installation: this.installation.id,
      backstay: VERSION,
      from: from.toISOString(),
      to: to.toISOString(),
      createdAt: now.toISOString(),
      createdBy: actorOf(caller).name,
      signingKey: this.keys.verifyingKeyPem,
      audit: await this.trail.check(organizationId),
      sources: await this.sources(organizationId, from, to, now),
    };
  }

  private async sources(organizationId: string, from: Date, to: Date, now: Date): Promise<SourceComplianceDto[]> {
    const sources = await this.reports.sources(organizationId, from, to);
    const ids = sources.map(({ id }) => id);
    const schedules = await this.reports.schedules(organizationId, from, to);
    const backups = bySource(await this.reports.backups(organizationId, from, to));
    const restores = bySource(await this.reports.restores(organizationId, from, to));
    const verifications = bySource(await this.reports.verifications(organizationId, from, to));
    const { newest, proven } = await this.reports.newest(organizationId, to);
    const kept = await this.reports.kept(organizationId);
    const retention = await this.retention.ofSources(organizationId, ids, now);
    const schedulesOf = bySource(schedules);
    const mostSlots = Math.min(MOST_SLOTS_OF_ONE, Math.floor(MOST_SLOTS / Math.max(1, schedules.length)));
    const period: Period = { from, to, mostSlots };
    const reported: SourceComplianceDto[] = [];
    for (const source of sources) {
      const ofIt = <T extends { sourceId: string }>(rows: readonly T[]) => rows.find(({ sourceId }) => sourceId === source.id);
      reported.push(
        complianceOf(
          {
            source,
            backups: backups.get(source.id) ?? [],
            restores: restores.get(source.id) ?? [],
            verifications: verifications.get(source.id) ?? [],
            schedules: schedulesOf.get(source.id) ?? [],
            newest: ofIt(newest),
            proven: ofIt(proven),
            kept: ofIt(kept),
            retention: retention.get(source.id) ?? { policies: [], waiting: 0 },
          },
          period,
        ),
      );
      await breathe();
    }
    return reported;
  }
}

function periodOf({ from, to }: ComplianceQueryDto, now: Date): { from: Date; to: Date } {
  const end = to === undefined ? now : new Date(to);
  const begin = from === undefined ? new Date(Math.min(end.getTime(), now.getTime()) - DEFAULT_DAYS * DAY_MS) : new Date(from);
  if (begin >= end) throw Errors.validation({ from: 'must be before `to`' });
  if (begin >= now) throw Errors.validation({ from: 'lies in the future' });
  if (end.getTime() - begin.getTime() > MOST_DAYS * DAY_MS)
    throw Errors.validation({ to: `must be at most ${MOST_DAYS} days after \`from\`` });
  return { from: begin, to: end > now ? now : end };
}

function bySource<T extends { sourceId: string | null }>(rows: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const row of rows) {
    if (row.sourceId === null) continue;
    const group = groups.get(row.sourceId);
    if (group) group.push(row);
    else groups.set(row.sourceId, [row]);
  }
  return groups;
}
