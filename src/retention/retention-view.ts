import { type Candidate, type Decision, type Policy, RULES } from './choose-kept.js';
import type { RetentionPolicyDto } from './retention.dto.js';
import type { NamedPolicyRow, PolicyRow } from './retention.repository.js';

/** The answer's fields, each named. @param names of sources and schedules, by id */
export function toRetentionPolicy(row: PolicyRow, names: ReadonlyMap<string, string>): RetentionPolicyDto {
  const named = (ids: readonly string[]) => ids.map((id) => names.get(id) ?? id);
  return {
    id: row.id,
    name: row.name,
    keepLast: row.keep_last,
    keepDays: row.keep_days,
    keepHourly: row.keep_hourly,
    keepDaily: row.keep_daily,
    keepWeekly: row.keep_weekly,
    keepMonthly: row.keep_monthly,
    keepYearly: row.keep_yearly,
    maxBytes: row.max_bytes,
    minimumCount: row.minimum_count,
    perType: row.per_type,
    proofLevel: row.proof_level,
    graceMinutes: row.grace_minutes,
    timezone: row.timezone,
    sources: named(row.source_ids),
    schedules: named(row.schedule_ids),
    tags: row.tags,
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
  };
}

/** A row as the choice takes it. */
export function toPolicy(row: NamedPolicyRow): Policy {
  const isBound = row.source_ids.length + row.schedule_ids.length + row.tags.length > 0;
  return {
    name: row.name,
    keepLast: row.keep_last,
    keepDays: row.keep_days,
    keepHourly: row.keep_hourly,
    keepDaily: row.keep_daily,
    keepWeekly: row.keep_weekly,
    keepMonthly: row.keep_monthly,
    keepYearly: row.keep_yearly,
    maxBytes: row.max_bytes,
    minimumCount: row.minimum_count,
    perType: row.per_type,
    proofLevel: row.proof_level,
    graceMinutes: row.grace_minutes,
    timeZone: row.timezone,
    sourceIds: row.source_ids,
    scheduleIds: row.schedule_ids,
    tags: row.tags,
    namedBySchedules: row.named_by,
    onlyNamed: !isBound && (row.only_named || row.named_by.length > 0),
  };
}

/** A decision in words. */
export function reasonOf({ rule }: Decision, { lockedUntil }: Candidate): string {
  if (rule === 'locked' && lockedUntil) return `It is locked until ${lockedUntil.toISOString()} at a destination (object lock).`;
  return `${RULES[rule]}.`;
}

/** A policy in words, such as `last 7, 30 days, 4 weekly`. */
export function sentenceOf(policy: Policy): string {
  const { keepLast, keepDays, maxBytes, minimumCount } = policy;
  const periods = (['Hourly', 'Daily', 'Weekly', 'Monthly', 'Yearly'] as const).flatMap((period) =>
    policy[`keep${period}`] > 0 ? [`${policy[`keep${period}`]} ${period.toLowerCase()}`] : [],
  );
  const rules = [
    ...(keepLast > 0 ? [`last ${keepLast}`] : []),
    ...(keepDays === null ? [] : [`${keepDays} days`]),
    ...periods,
    ...(maxBytes === null ? [] : [`at most ${maxBytes} bytes`]),
    ...(minimumCount > 0 ? [`at least ${minimumCount}`] : []),
  ];
  return rules.length === 0 ? 'keeps everything' : rules.join(', ');
}
