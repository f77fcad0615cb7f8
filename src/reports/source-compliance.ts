import type {
  NewestBackup,
  ReportedBackup,
  ReportedRestore,
  ReportedSchedule,
  ReportedSource,
  ReportedVerification,
} from './reports.repository.js';
import { longestExposure, verdictOf, within } from './measure.js';
import type { ProvenBackupDto, RestoreRecordDto, SourceComplianceDto } from './report.dto.js';
import { countSlots } from './slots.js';

const SHOWN_RESTORES = 100;
const DRILL_LEVEL = 3;

/** What is known of one source. */
export interface SourceFacts {
  source: ReportedSource;
  backups: readonly ReportedBackup[];
  restores: readonly ReportedRestore[];
  verifications: readonly ReportedVerification[];
  schedules: readonly ReportedSchedule[];
  newest: NewestBackup | undefined;
  proven: NewestBackup | undefined;
  kept: { count: number; oldestAt: Date | null } | undefined;
  retention: { policies: { name: string; rules: string }[]; waiting: number };
}

/** The time that is looked at, and how many slots of a schedule are counted. */
export interface Period {
  from: Date;
  to: Date;
  mostSlots: number;
}

/** Holds what was promised for a source against what was measured. Pure. */
export function complianceOf(facts: SourceFacts, period: Period): SourceComplianceDto {
  const { source, newest, proven } = facts;
  const schedule = scheduleOf(facts, period);
  const rpo = rpoOf(facts, period);
  const rto = rtoOf(facts);
  const retention = retentionOf(facts, period);
  return {
    id: source.id,
    name: source.name,
    deleted: source.deleted,
    verdict: verdictOf([schedule.met, rpo.met, rto.met, retention.met, newest?.broken ? false : null]),
    schedule,
    rpo,
    rto,
    backups: countsOf(facts, period),
    verifications: verificationsOf(facts),
    newest: newest ? toProven(newest) : null,
    newestProven: proven ? toProven(proven) : null,
    retention,
    encryption: encryptionOf(facts, period),
    restores: facts.restores.slice(0, SHOWN_RESTORES).map(toRestoreRecord),
    restoreCount: facts.restores.length,
  };
}

function isIn({ from, to }: Period, moment: Date | null): boolean {
  return moment !== null && moment >= from && moment < to;
}

function scheduleOf({ schedules, backups }: SourceFacts, { from, to, mostSlots }: Period): SourceComplianceDto['schedule'] {
  const counted = schedules.map((schedule) => {
    const runs = backups.flatMap(({ scheduleId, scheduledFor, status }) =>
      scheduleId === schedule.id && scheduledFor !== null
        ? [{ slot: scheduledFor, completed: status === 'completed', open: status === 'queued' || status === 'running' }]
        : [],
    );
    const { id, name, cron, timezone, enabled, unrun } = schedule;
    const count = countSlots(schedule, runs, unrun, from, to, mostSlots);
    return {
      id,
      name,
      cron,
      timezone,
      enabled,
      expected: count.expected,
      completed: count.completed,
      missed: count.missed,
      firstMissed: count.firstMissed.map((slot) => slot.toISOString()),
      countedFrom: count.countedFrom.toISOString(),
    };
  });
  const expected = counted.some((schedule) => schedule.expected > 0);
  return { met: expected ? counted.every(({ missed }) => missed === 0) : null, schedules: counted };
}

function rpoOf({ source, backups }: SourceFacts, period: Period): SourceComplianceDto['rpo'] {
  const points = backups.flatMap(({ id, status, broken, components, startedAt, finishedAt }) =>
    status === 'completed' && !broken && components.includes('database') && startedAt && finishedAt
      ? [{ id, startedAt, finishedAt }]
      : [],
  );
  const from = new Date(Math.max(period.from.getTime(), source.createdAt.getTime()));
  const exposure = source.deleted ? null : longestExposure(points, from, period.to);
  return {
    targetMinutes: source.rpoMinutes,
    measuredMs: exposure?.ms ?? null,
    worstFrom: exposure?.from.toISOString() ?? null,
    worstTo: exposure?.to.toISOString() ?? null,
    restorePoints: points.filter(({ finishedAt }) => isIn(period, finishedAt)).length,
    met: within(exposure?.ms ?? null, source.rpoMinutes),
  };
}

function rtoOf({ source, restores, verifications }: SourceFacts): SourceComplianceDto['rto'] {
  const measured = [
    ...restores.flatMap((restore) => {
      const ms = durationOf(restore);
      return restore.status === 'completed' && isWhole(restore) && ms !== null ? [{ id: restore.id, ms }] : [];
    }),
    ...verifications.flatMap(({ id, restoreMs }) => (restoreMs === null ? [] : [{ id, ms: restoreMs }])),
  ].toSorted((a, b) => b.ms - a.ms);
  const [longest] = measured;
  return {
    targetMinutes: source.rtoMinutes,
    measuredMs: longest?.ms ?? null,
    measuredBy: longest?.id ?? null,
    measurements: measured.length,
    met: within(longest?.ms ?? null, source.rtoMinutes),
  };
}

/** Whether a restore brought back all of a database: one of a single table says nothing of the time that all takes. */
function isWhole({ components, target }: ReportedRestore): boolean {
  return (
    components.includes('database') &&
    Object.values(target.selection ?? {}).every((value) => value === undefined || value === false)
  );
}

function countsOf({ backups }: SourceFacts, period: Period): SourceComplianceDto['backups'] {
  const own = backups.filter(({ createdAt }) => isIn(period, createdAt));
  const count = (wanted: string) => own.filter(({ status }) => status === wanted).length;
  const [completed, failed] = [count('completed'), count('failed')];
  return {
    completed,
    failed,
    canceled: count('canceled'),
    broken: own.filter(({ broken }) => broken).length,
    successRate: completed + failed === 0 ? null : completed / (completed + failed),
  };
}

function verificationsOf({ verifications }: SourceFacts): SourceComplianceDto['verifications'] {
  const levels = verifications.flatMap(({ provenLevel }) => provenLevel ?? []);
  return {
    completed: verifications.filter(({ status }) => status === 'completed').length,
    failed: verifications.filter(({ status }) => status === 'failed').length,
    highestLevel: levels.length > 0 ? Math.max(...levels) : null,
    drills: levels.filter((level) => level >= DRILL_LEVEL).length,
  };
}

function retentionOf({ backups, kept, retention }: SourceFacts, period: Period): SourceComplianceDto['retention'] {
  const removed = backups.filter(({ deletedAt }) => isIn(period, deletedAt));
  const byHand = removed.filter(({ removalRule, status, broken }) => removalRule === null && status === 'completed' && !broken);
  return {
    policies: retention.policies,
    kept: kept?.count ?? 0,
    oldestAt: kept?.oldestAt?.toISOString() ?? null,
    removedByPolicy: removed.filter(({ removalRule }) => removalRule !== null).length,
    removedByHand: byHand.length,
    waitingForRemoval: retention.waiting,
    met: retention.policies.length === 0 ? null : byHand.length === 0,
  };
}

function encryptionOf({ backups }: SourceFacts, period: Period): SourceComplianceDto['encryption'] {
  const completed = backups.filter(({ status, finishedAt }) => status === 'completed' && isIn(period, finishedAt));
  return {
    method: 'age',
    recipients: [...new Set(completed.flatMap(({ recipients }) => recipients ?? []))].sort(),
    notRecorded: completed.filter(({ recipients }) => recipients === null).length,
  };
}

function toProven({ id, finishedAt, level, provenAt, broken }: NewestBackup): ProvenBackupDto {
  return { id, finishedAt: finishedAt.toISOString(), level, provenAt: provenAt?.toISOString() ?? null, broken };
}

function toRestoreRecord(row: ReportedRestore): RestoreRecordDto {
  return {
    id: row.id,
    backupId: row.backupId,
    at: row.createdAt.toISOString(),
    status: row.status,
    mode: row.target.mode,
    host: row.target.host,
    database: row.target.database,
    by: row.requestedBy ? `${row.requestedBy.name} (${row.requestedBy.kind} ${row.requestedBy.id})` : null,
    durationMs: durationOf(row),
    countsEqual: row.countsEqual,
  };
}

function durationOf({ startedAt, finishedAt }: { startedAt: Date | null; finishedAt: Date | null }): number | null {
  return startedAt && finishedAt ? finishedAt.getTime() - startedAt.getTime() : null;
}
