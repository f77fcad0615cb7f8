import { bucketsOf, type Period, PERIODS } from './buckets.js';

const DAY_MS = 86_400_000;

/** As long stay failed, canceled, broken and partial backups and those made elsewhere: what went wrong can be looked at. */
const HISTORY_DAYS = 30;

/** What of a backup decides whether it is kept. */
export interface Candidate {
  id: string;
  sourceId: string | null;
  scheduleId: string | null;
  type: string;
  tags: readonly string[];
  status: string;
  origin: string;
  broken: boolean;
  /** Completed, but not all of it is there. */
  partial: boolean;
  pinned: boolean;
  /** A restore, verification or compare needs it. */
  inUse: boolean;
  /** Somebody took it out of the trash. */
  broughtBack: boolean;
  /** Until when a destination keeps it from being removed; null when none does. */
  lockedUntil: Date | null;
  proofLevel: number | null;
  storedBytes: number;
  createdAt: Date;
}

/** Which backups to keep; 0 and null stand for a rule that is not used. */
export interface Policy {
  name: string;
  keepLast: number;
  keepDays: number | null;
  keepHourly: number;
  keepDaily: number;
  keepWeekly: number;
  keepMonthly: number;
  keepYearly: number;
  /** Of one source. */
  maxBytes: number | null;
  /** So many completed ones stay, whatever the other rules say. */
  minimumCount: number;
  /** Whether backups of each type are counted for themselves. */
  perType: boolean;
  /** The newest backup that is proven to this level stays. */
  proofLevel: number;
  graceMinutes: number;
  /** Zone of days, weeks, months and years. */
  timeZone: string;
  /** Each narrows what it is about; an empty list does not. */
  sourceIds: readonly string[];
  scheduleIds: readonly string[];
  tags: readonly string[];
  /** Schedules that name this policy: their backups are among those it is about, whatever else narrows it. */
  namedBySchedules: readonly string[];
  /** About nothing but those. */
  onlyNamed: boolean;
}

export interface Circumstances {
  now: Date;
  /** Sources with an open alert of lost tables, rows or bytes. */
  heldSources: ReadonlySet<string>;
}

/** Why a backup is kept or removed. */
export const RULES = {
  'no-policy': 'No policy is about it',
  'empty-policy': 'The policy has no rule that would remove anything',
  'not-ended': 'It has not ended',
  pinned: 'It is pinned',
  'in-use': 'A restore, verification or compare needs it',
  locked: 'A destination keeps it from being removed (object lock)',
  'brought-back': 'Somebody has brought it back from the trash',
  alert: 'An alert of lost tables, rows or bytes is open for its source',
  newest: 'It is the newest completed and unbroken backup of its source and type',
  'newest-proven': "It is the newest that is proven to the policy's level",
  grace: 'It is younger than the grace time',
  'from-the-future': 'Its time is later than now: a clock was wrong',
  'only-left': 'There is no completed and unbroken backup after it',
  history: `It does not count, and is younger than ${HISTORY_DAYS} days or keepDays`,
  keepLast: 'It is one of the last keepLast',
  keepDays: 'It is younger than keepDays',
  keepHourly: 'It is the newest of one of the last keepHourly hours',
  keepDaily: 'It is the newest of one of the last keepDaily days',
  keepWeekly: 'It is the newest of one of the last keepWeekly weeks',
  keepMonthly: 'It is the newest of one of the last keepMonthly months',
  keepYearly: 'It is the newest of one of the last keepYearly years',
  minimumCount: 'It is one of the last minimumCount',
  'within-maxBytes': 'It fits into maxBytes',
  maxBytes: 'It does not fit into maxBytes beside newer ones',
  expired: 'No rule keeps it',
  'not-counted': 'It is failed, canceled, broken, partial or external, and old',
} as const;
export type Rule = keyof typeof RULES;

export interface Decision {
  backupId: string;
  kept: boolean;
  rule: Rule;
  /** Name of the policy whose rule it is; null for what holds without one. */
  policy: string | null;
}

const KEEP_OF_PERIOD = {
  hourly: 'keepHourly',
  daily: 'keepDaily',
  weekly: 'keepWeekly',
  monthly: 'keepMonthly',
  yearly: 'keepYearly',
} as const satisfies Record<Period, Rule>;

/**
 * Says for each backup whether it is kept, and by which rule. Pure: the same backups give the same answer in whatever order they come.
 * A backup goes only if some policy is about it and every one that is lets it go, and only if nothing protects it.
 * @param backups all that are not in the trash, of whole sources: what protects looks at all of them
 */
export function chooseKept(backups: readonly Candidate[], policies: readonly Policy[], circumstances: Circumstances): Decision[] {
  const newestFirst = [...backups].sort(newerFirst);
  const newest = newestOf(newestFirst, circumstances.now, () => true);
  const protections = new Map(newestFirst.map((backup) => [backup.id, protectionOf(backup, newest, circumstances)]));
  const verdicts = new Map<string, Decision>();
  for (const policy of policies) {
    const isAbout = newestFirst.filter((backup) => covers(policy, backup));
    const provenOf = newestOf(newestFirst, circumstances.now, ({ proofLevel }) => (proofLevel ?? -1) >= policy.proofLevel);
    for (const decision of decide(isAbout, newestFirst, policy, provenOf, { now: circumstances.now, protections })) {
      const earlier = verdicts.get(decision.backupId);
      if (!earlier || (!earlier.kept && decision.kept)) verdicts.set(decision.backupId, decision);
    }
  }
  return newestFirst.map((backup) => {
    const protection = protections.get(backup.id);
    if (protection) return { backupId: backup.id, kept: true, rule: protection, policy: null };
    return verdicts.get(backup.id) ?? { backupId: backup.id, kept: true, rule: 'no-policy', policy: null };
  });
}

/** Whether a backup is one that the policy decides about. */
export function covers(policy: Policy, { sourceId, scheduleId, tags }: Candidate): boolean {
  if (scheduleId !== null && policy.namedBySchedules.includes(scheduleId)) return true;
  if (policy.onlyNamed) return false;
  const isOneOf = (ids: readonly string[], id: string | null) => ids.length === 0 || (id !== null && ids.includes(id));
  if (!isOneOf(policy.sourceIds, sourceId) || !isOneOf(policy.scheduleIds, scheduleId)) return false;
  return policy.tags.length === 0 || tags.some((tag) => policy.tags.includes(tag));
}

/** Whether a policy has no rule by which anything could go. */
function isEmpty(policy: Policy): boolean {
  return (
    policy.keepLast === 0 &&
    policy.keepDays === null &&
    policy.maxBytes === null &&
    PERIODS.every((period) => policy[KEEP_OF_PERIOD[period]] === 0)
  );
}

/** Only what is whole and ours counts as a backup that is kept. */
export function counts(backup: Candidate): boolean {
  return backup.status === 'completed' && !backup.broken && !backup.partial && backup.origin !== 'external';
}

function groupOf({ sourceId, type }: Pick<Candidate, 'sourceId' | 'type'>): string {
  return `${sourceId}|${type}`;
}

function newerFirst(a: Candidate, b: Candidate): number {
  return b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? 1 : -1);
}

/** The newest of each source and type: of all, and of those that a wrong clock did not put into the future. */
function newestOf(newestFirst: readonly Candidate[], now: Date, isMeant: (backup: Candidate) => boolean): Set<string> {
  const found = new Map<string, string>();
  for (const backup of newestFirst) {
    if (!counts(backup) || !isMeant(backup)) continue;
    const group = groupOf(backup);
    if (!found.has(group)) found.set(group, backup.id);
    if (backup.createdAt <= now && !found.has(`now|${group}`)) found.set(`now|${group}`, backup.id);
  }
  return new Set(found.values());
}

/** The first of each source and type. */
function newestIn(newestFirst: readonly Candidate[]): Map<string, Candidate> {
  return new Map(newestFirst.toReversed().map((backup) => [groupOf(backup), backup]));
}

/** By which rule a backup stays whatever the policies say, by id. */
type Protections = ReadonlyMap<string, Rule | undefined>;

function protectionOf(backup: Candidate, newest: Set<string>, { heldSources, now }: Circumstances): Rule | undefined {
  if (backup.status === 'queued' || backup.status === 'running') return 'not-ended';
  if (backup.pinned) return 'pinned';
  if (backup.inUse) return 'in-use';
  if (backup.lockedUntil !== null && backup.lockedUntil > now) return 'locked';
  if (backup.broughtBack) return 'brought-back';
  if (backup.sourceId !== null && heldSources.has(backup.sourceId)) return 'alert';
  if (newest.has(backup.id)) return 'newest';
  return backup.createdAt > now ? 'from-the-future' : undefined;
}

function decide(
  covered: readonly Candidate[],
  all: readonly Candidate[],
  policy: Policy,
  proven: Set<string>,
  { now, protections }: { now: Date; protections: Protections },
): Decision[] {
  const kept = new Map<string, Rule>();
  const gone = new Map<string, Rule>();
  if (isEmpty(policy)) for (const { id } of covered) kept.set(id, 'empty-policy');
  for (const [, group] of grouped(covered, ({ sourceId, type }) =>
    policy.perType ? groupOf({ sourceId, type }) : `${sourceId}`,
  )) {
    const slots = group.filter((backup) => counts(backup) && backup.createdAt <= now);
    for (const [id, rule] of keptByCount(slots, policy, now)) if (!kept.has(id)) kept.set(id, rule);
  }
  const past = all.filter(({ createdAt }) => createdAt <= now);
  const newestCounted = newestIn(past.filter(counts));
  // Of those made elsewhere there is nothing here but the report, so a later report is as good as a backup of ours.
  const newestReported = newestIn(past.filter(({ origin, status }) => origin === 'external' && status === 'completed'));
  for (const backup of covered) {
    if (kept.has(backup.id) && !counts(backup)) continue;
    if (proven.has(backup.id)) kept.set(backup.id, 'newest-proven');
    else if (now.getTime() - backup.createdAt.getTime() < policy.graceMinutes * 60_000) kept.set(backup.id, 'grace');
    else if (!counts(backup)) {
      const isFollowed = (newest: Map<string, Candidate>) => {
        const newer = newest.get(groupOf(backup));
        return newer !== undefined && newer.id !== backup.id && newerFirst(newer, backup) < 0;
      };
      const days = Math.max(HISTORY_DAYS, policy.keepDays ?? 0);
      if (now.getTime() - backup.createdAt.getTime() < days * DAY_MS) kept.set(backup.id, 'history');
      else if (!isFollowed(newestCounted) && !(backup.origin === 'external' && isFollowed(newestReported)))
        kept.set(backup.id, 'only-left');
      else gone.set(backup.id, 'not-counted');
    }
  }
  if (policy.maxBytes !== null) for (const id of overBudget(covered, kept, protections, policy)) gone.set(id, 'maxBytes');
  return covered.map(({ id }) => {
    const isKept = kept.has(id) && !gone.has(id);
    return { backupId: id, kept: isKept, rule: isKept ? kept.get(id)! : (gone.get(id) ?? 'expired'), policy: policy.name };
  });
}

/** @param slots completed and unbroken ones of one source, the newest first */
function keptByCount(slots: readonly Candidate[], policy: Policy, now: Date): Map<string, Rule> {
  const kept = new Map<string, Rule>();
  const keep = ({ id }: Candidate, rule: Rule) => void (kept.has(id) || kept.set(id, rule));
  for (const backup of slots.slice(0, policy.minimumCount)) keep(backup, 'minimumCount');
  for (const backup of slots.slice(0, policy.keepLast)) keep(backup, 'keepLast');
  for (const backup of slots)
    if (policy.keepDays !== null && now.getTime() - backup.createdAt.getTime() < policy.keepDays * DAY_MS)
      keep(backup, 'keepDays');
  const periods = PERIODS.filter((period) => policy[KEEP_OF_PERIOD[period]] > 0);
  const seen = new Map(periods.map((period) => [period, new Set<number>()]));
  for (const backup of periods.length > 0 ? slots : []) {
    const buckets = bucketsOf(backup.createdAt, policy.timeZone);
    for (const period of periods) {
      const those = seen.get(period)!;
      if (those.has(buckets[period]) || those.size >= policy[KEEP_OF_PERIOD[period]]) continue;
      those.add(buckets[period]);
      keep(backup, KEEP_OF_PERIOD[period]);
    }
  }
  // With nothing but a limit of bytes, everything stays that fits.
  if (isEmpty({ ...policy, maxBytes: null }) && policy.maxBytes !== null)
    for (const backup of slots) keep(backup, 'within-maxBytes');
  return kept;
}

const NEVER_FOR_BYTES: readonly Rule[] = ['newest-proven', 'grace', 'minimumCount'];

/**
 * What is kept by a rule that bytes come before, the oldest first, until the rest of the source fits. What is protected counts, whether a
 * rule keeps it or not: it would else push something out the next time, when others have made room for it.
 */
function overBudget(
  covered: readonly Candidate[],
  kept: ReadonlyMap<string, Rule>,
  protections: Protections,
  policy: Policy,
): string[] {
  const gone: string[] = [];
  for (const [, ofSource] of grouped(covered, ({ sourceId }) => `${sourceId}`)) {
    const held = ofSource.filter((backup) => counts(backup) && (kept.has(backup.id) || protections.get(backup.id) !== undefined));
    let bytes = held.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    for (const backup of held.toReversed()) {
      if (bytes <= policy.maxBytes!) break;
      if (protections.get(backup.id) !== undefined || NEVER_FOR_BYTES.includes(kept.get(backup.id)!)) continue;
      gone.push(backup.id);
      bytes -= backup.storedBytes;
    }
  }
  return gone;
}

function grouped(backups: readonly Candidate[], keyOf: (backup: Candidate) => string): Map<string, Candidate[]> {
  const groups = new Map<string, Candidate[]>();
  for (const backup of backups) {
    const key = keyOf(backup);
    const group = groups.get(key);
    if (group) group.push(backup);
    else groups.set(key, [backup]);
  }
  return groups;
}
