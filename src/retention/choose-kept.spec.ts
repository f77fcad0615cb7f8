import { describe, expect, it } from '@jest/globals';
import { bucketsOf } from './buckets.js';
import { type Candidate, chooseKept, type Circumstances, counts, type Decision, type Policy } from './choose-kept.js';

/** `npm run torture` sets it to 100,000. */
const HISTORIES = Number(process.env['RETENTION_HISTORIES'] ?? 1_000);
const NOW = new Date('2026-03-15T12:00:00Z');
const [MINUTE_MS, HOUR_MS, DAY_MS] = [60_000, 3_600_000, 86_400_000];

const NO_RULES: Policy = {
  name: 'p',
  keepLast: 0,
  keepDays: null,
  keepHourly: 0,
  keepDaily: 0,
  keepWeekly: 0,
  keepMonthly: 0,
  keepYearly: 0,
  maxBytes: null,
  minimumCount: 0,
  perType: true,
  proofLevel: 2,
  graceMinutes: 0,
  timeZone: 'UTC',
  sourceIds: [],
  scheduleIds: [],
  tags: [],
  namedBySchedules: [],
  onlyNamed: false,
};

function candidate(id: string, createdAt: Date, more: Partial<Candidate> = {}): Candidate {
  return {
    id,
    sourceId: 'a',
    scheduleId: null,
    type: 'full',
    tags: [],
    status: 'completed',
    origin: 'api',
    broken: false,
    partial: false,
    pinned: false,
    inUse: false,
    broughtBack: false,
    lockedUntil: null,
    proofLevel: 0,
    storedBytes: 10,
    createdAt,
    ...more,
  };
}

/** Mulberry32: the same numbers for the same seed, so that a history that fails can be made again. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

interface History {
  backups: Candidate[];
  policies: Policy[];
  circumstances: Circumstances;
  random: () => number;
}

/** Sources, failures, pins and clocks that jump, at random. */
function historyOf(seed: number): History {
  const random = randomOf(seed);
  const below = (count: number) => Math.floor(random() * count);
  const oneOf = <T>(...values: T[]): T => values[below(values.length)]!;
  const step = oneOf(MINUTE_MS, HOUR_MS, 6 * HOUR_MS, DAY_MS, 20 * DAY_MS);
  let clock = NOW.getTime() - below(30) * step;
  const backups = Array.from({ length: below(24) }, (_, i) => {
    clock += Math.floor(random() * step * 2);
    if (random() < 0.04) clock += oneOf(-1, 1) * oneOf(HOUR_MS, DAY_MS, 400 * DAY_MS);
    return candidate(`b${i}`, new Date(clock), {
      sourceId: random() < 0.03 ? null : oneOf('a', 'a', 'b'),
      scheduleId: oneOf(null, 's1', 's2'),
      type: oneOf('full', 'full', 'database', 'config'),
      tags: oneOf([], ['x'], ['y'], ['x', 'y']),
      status: random() < 0.75 ? 'completed' : oneOf('failed', 'canceled', 'queued', 'running'),
      origin: oneOf('api', 'schedule', 'schedule', 'safety', 'external'),
      broken: random() < 0.1,
      partial: random() < 0.08,
      pinned: random() < 0.07,
      inUse: random() < 0.05,
      broughtBack: random() < 0.03,
      lockedUntil: random() < 0.15 ? new Date(clock + below(60) * DAY_MS) : null,
      proofLevel: oneOf(null, 0, 1, 2, 3, 4, 5),
      storedBytes: below(1000),
    });
  });
  const some = (most: number) => (random() < 0.2 ? 1 + below(most) : 0);
  const policies = Array.from({ length: random() < 0.7 ? 1 : 2 }, (_, i): Policy => ({
    name: `p${i}`,
    keepLast: some(5),
    keepDays: random() < 0.2 ? 1 + below(oneOf(30, 365)) : null,
    keepHourly: some(6),
    keepDaily: some(7),
    keepWeekly: some(4),
    keepMonthly: some(4),
    keepYearly: some(2),
    maxBytes: random() < 0.25 ? below(6000) : null,
    minimumCount: some(3),
    perType: random() < 0.7,
    proofLevel: below(6),
    graceMinutes: random() < 0.4 ? below(2000) : 0,
    timeZone: random() < 0.9 ? 'UTC' : oneOf('Europe/Berlin', 'Pacific/Auckland', 'America/St_Johns'),
    sourceIds: oneOf([], [], ['a'], ['b'], ['a', 'b']),
    scheduleIds: oneOf([], [], [], ['s1']),
    tags: oneOf([], [], [], ['x']),
    namedBySchedules: oneOf([], [], ['s2']),
    onlyNamed: random() < 0.05,
  }));
  const now = new Date(NOW.getTime() + (random() < 0.1 ? oneOf(-1, 1) * below(500) * DAY_MS : 0));
  const heldSources = new Set(random() < 0.1 ? [oneOf('a', 'b')] : []);
  return { backups, policies, circumstances: { now, heldSources }, random };
}

const removedOf = (decisions: readonly Decision[]) =>
  new Set(decisions.filter(({ kept }) => !kept).map(({ backupId }) => backupId));
const groupOf = ({ sourceId, type }: Candidate) => `${sourceId}|${type}`;

/** Looks at every history; gives the seeds at which a law does not hold. */
function broken(law: (history: History, removed: Set<string>) => boolean): number[] {
  const seeds: number[] = [];
  for (let seed = 1; seed <= HISTORIES; seed += 1) {
    const history = historyOf(seed);
    if (!law(history, removedOf(chooseKept(history.backups, history.policies, history.circumstances)))) seeds.push(seed);
  }
  return seeds;
}

/** Written apart from the code: the newest of each group by a plain look at all pairs. */
function newestOfEachGroup(backups: readonly Candidate[]): Candidate[] {
  return backups.filter((one) =>
    backups.every(
      (other) =>
        groupOf(one) !== groupOf(other) ||
        other.createdAt < one.createdAt ||
        (other.createdAt.getTime() === one.createdAt.getTime() && other.id <= one.id),
    ),
  );
}

describe(`in ${HISTORIES} random histories, retention`, () => {
  it('removes something in many of them, so that the laws are put to the test', () => {
    expect(broken((_, removed) => removed.size === 0).length).toBeGreaterThan(HISTORIES / 8);
  });

  it('never removes the newest completed and unbroken backup of a source, neither of all nor of those before now', () => {
    expect(
      broken(({ backups, circumstances: { now } }, removed) => {
        const whole = backups.filter(counts);
        const past = whole.filter(({ createdAt }) => createdAt <= now);
        return [...newestOfEachGroup(whole), ...newestOfEachGroup(past)].every(({ id }) => !removed.has(id));
      }),
    ).toEqual([]);
  });

  it("never removes the newest that is proven to its policy's level or above", () => {
    expect(
      broken(({ backups, policies, circumstances }) =>
        policies.every((policy) => {
          const proven = backups.filter((backup) => counts(backup) && (backup.proofLevel ?? -1) >= policy.proofLevel);
          const alone = removedOf(chooseKept(backups, [policy], circumstances));
          return newestOfEachGroup(proven).every(({ id }) => !alone.has(id));
        }),
      ),
    ).toEqual([]);
  });

  it('never removes a pinned one, one in use, one that was brought back, nor one that has not ended', () => {
    expect(
      broken(({ backups }, removed) =>
        backups.every(
          ({ id, pinned, inUse, broughtBack, status }) =>
            !removed.has(id) || !(pinned || inUse || broughtBack || status === 'queued' || status === 'running'),
        ),
      ),
    ).toEqual([]);
  });

  it('never removes one that is locked, and removes as if there were no lock once it has lapsed', () => {
    expect(
      broken(({ backups, policies, circumstances }, removed) => {
        const { now } = circumstances;
        const isLocked = ({ lockedUntil }: Candidate) => lockedUntil !== null && lockedUntil > now;
        if (backups.some((backup) => isLocked(backup) && removed.has(backup.id))) return false;
        const lapsed = backups.map((backup) => (isLocked(backup) ? backup : { ...backup, lockedUntil: null }));
        const without = removedOf(chooseKept(lapsed, policies, circumstances));
        return without.size === removed.size && [...without].every((id) => removed.has(id));
      }),
    ).toEqual([]);
  });

  it('lets a lock push out nothing that no limit of bytes is about, and free nothing else', () => {
    expect(
      broken(({ backups, policies, circumstances }, removed) => {
        if (policies.some(({ maxBytes }) => maxBytes !== null)) return true;
        const unlocked = backups.map((backup) => ({ ...backup, lockedUntil: null }));
        const without = removedOf(chooseKept(unlocked, policies, circumstances));
        return backups.every(
          ({ id, lockedUntil }) =>
            removed.has(id) === (without.has(id) && !(lockedUntil !== null && lockedUntil > circumstances.now)),
        );
      }),
    ).toEqual([]);
  });

  it('never removes one that is younger than the grace time of a policy about it', () => {
    expect(
      broken(({ backups, policies: [policy], circumstances }) => {
        const removed = removedOf(chooseKept(backups, [policy!], circumstances));
        const oldest = circumstances.now.getTime() - policy!.graceMinutes * MINUTE_MS;
        return backups.every(({ id, createdAt }) => !removed.has(id) || createdAt.getTime() <= oldest);
      }),
    ).toEqual([]);
  });

  it('counts no failed, canceled, broken, external or partial one as kept: without them the others fare the same', () => {
    expect(
      broken(({ backups, policies, circumstances }, removed) => {
        const whole = backups.filter(counts);
        const without = removedOf(chooseKept(whole, policies, circumstances));
        return whole.every(({ id }) => removed.has(id) === without.has(id));
      }),
    ).toEqual([]);
  });

  it('removes nothing of a source whose alert is open', () => {
    expect(
      broken(({ backups, circumstances: { heldSources } }, removed) =>
        backups.every(({ id, sourceId }) => !removed.has(id) || sourceId === null || !heldSources.has(sourceId)),
      ),
    ).toEqual([]);
  });

  it('removes nothing by an empty policy, nor without one', () => {
    expect(
      broken(({ backups, policies, circumstances }) => {
        const empty = policies.map((policy) => ({ ...NO_RULES, minimumCount: policy.minimumCount, sourceIds: policy.sourceIds }));
        return [...chooseKept(backups, empty, circumstances), ...chooseKept(backups, [], circumstances)].every(
          ({ kept }) => kept,
        );
      }),
    ).toEqual([]);
  });

  it('decides the same in whatever order backups and policies come', () => {
    expect(
      broken(({ backups, policies, circumstances, random }, removed) => {
        const shuffled = [...backups].map((backup) => ({ backup, at: random() })).sort((a, b) => a.at - b.at);
        const again = chooseKept(
          shuffled.map(({ backup }) => backup),
          policies.toReversed(),
          circumstances,
        );
        const those = removedOf(again);
        return those.size === removed.size && [...those].every((id) => removed.has(id));
      }),
    ).toEqual([]);
  });

  it('keeps what it kept when it looks again at once', () => {
    expect(
      broken(({ backups, policies, circumstances }, removed) => {
        const left = backups.filter(({ id }) => !removed.has(id));
        return removedOf(chooseKept(left, policies, circumstances)).size === 0;
      }),
    ).toEqual([]);
  });

  it('lets one policy remove nothing that another keeps', () => {
    expect(
      broken(({ backups, policies, circumstances }, removed) =>
        policies.every((policy) => {
          const decisions = chooseKept(backups, [policy], circumstances);
          return decisions.every(({ backupId, kept, rule }) => !removed.has(backupId) || !kept || rule === 'no-policy');
        }),
      ),
    ).toEqual([]);
  });
});

describe('a policy', () => {
  const rulesOf = (policy: Partial<Policy>, backups: Candidate[], now = NOW) =>
    Object.fromEntries(
      chooseKept(backups, [{ ...NO_RULES, ...policy }], { now, heldSources: new Set() }).map(({ backupId, rule }) => [
        backupId,
        rule,
      ]),
    );
  const daysAgo = (days: number) => new Date(NOW.getTime() - days * DAY_MS);

  it('keeps the last ones, and failures take no place', () => {
    const failed = [1, 2, 3].map((day) => candidate(`failed${day}`, daysAgo(day), { status: 'failed' }));
    const backups = [candidate('new', daysAgo(4)), candidate('middle', daysAgo(5)), candidate('old', daysAgo(6)), ...failed];
    expect(rulesOf({ keepLast: 2 }, backups)).toMatchObject({
      new: 'newest',
      middle: 'keepLast',
      old: 'expired',
      failed1: 'history',
    });
  });

  it('keeps for days, hours and to the calendar, the newest of each period', () => {
    const backups = Array.from({ length: 800 }, (_, day) => candidate(`d${day}`, daysAgo(day)));
    const rules = rulesOf({ keepDaily: 3, keepWeekly: 2, keepMonthly: 2, keepYearly: 2 }, backups);
    expect(Object.entries(rules).filter(([, rule]) => rule !== 'expired')).toEqual([
      ['d0', 'newest'],
      ['d1', 'keepDaily'],
      ['d2', 'keepDaily'],
      // Sunday, the last day of the week before is d7; the last of February is d15; the last of 2025 is d74.
      ['d7', 'keepWeekly'],
      ['d15', 'keepMonthly'],
      ['d74', 'keepYearly'],
    ]);
    expect(rulesOf({ keepDays: 10 }, backups)).toMatchObject({ d9: 'keepDays', d10: 'expired' });
  });

  it('counts days in its own zone, and both of the hours that the clocks repeat', () => {
    const night = ['2026-01-10T22:30:00Z', '2026-01-10T23:30:00Z'].map((at) => new Date(at));
    expect(night.map((at) => bucketsOf(at, 'UTC').daily).every((day, _, all) => day === all[0])).toBe(true);
    const [before, after] = night.map((at) => bucketsOf(at, 'Europe/Berlin').daily);
    expect(after! - before!).toBe(1);
    const repeated = ['2026-10-25T00:30:00Z', '2026-10-25T01:30:00Z'].map(
      (at) => bucketsOf(new Date(at), 'Europe/Berlin').hourly,
    );
    expect(repeated[1]! - repeated[0]!).toBe(1);
  });

  it('removes the oldest until the rest fits, and never below the minimum', () => {
    const backups = [0, 1, 2, 3, 4].map((day) => candidate(`d${day}`, daysAgo(day), { storedBytes: 100 }));
    expect(rulesOf({ maxBytes: 250 }, backups)).toMatchObject({ d1: 'within-maxBytes', d2: 'maxBytes', d4: 'maxBytes' });
    expect(rulesOf({ maxBytes: 250, minimumCount: 4 }, backups)).toMatchObject({ d3: 'minimumCount', d4: 'maxBytes' });
  });

  it('counts what is pinned among the bytes, so that it pushes nothing out when it looks again', () => {
    const backups = [
      candidate('new', daysAgo(0), { storedBytes: 6 }),
      candidate('month', daysAgo(30), { storedBytes: 3 }),
      candidate('year', daysAgo(200), { storedBytes: 5 }),
      candidate('pinned', daysAgo(250), { storedBytes: 5, pinned: true }),
    ];
    const policy = { keepMonthly: 2, keepYearly: 2, maxBytes: 14 };
    const first = rulesOf(policy, backups);
    expect(first).toEqual({ new: 'newest', month: 'keepMonthly', year: 'maxBytes', pinned: 'pinned' });
    expect(
      rulesOf(
        policy,
        backups.filter(({ id }) => id !== 'year'),
      ),
    ).toEqual({
      new: 'newest',
      month: 'keepMonthly',
      pinned: 'pinned',
    });
  });

  it('is not led astray by a backup from the future', () => {
    const backups = [candidate('future', daysAgo(-4000)), candidate('today', daysAgo(0)), candidate('old', daysAgo(2))];
    expect(rulesOf({ keepLast: 1 }, backups)).toEqual({ future: 'newest', today: 'newest', old: 'expired' });
  });

  it('keeps a broken one while nothing whole came after it', () => {
    const backups = [candidate('whole', daysAgo(90)), candidate('broken', daysAgo(60), { broken: true })];
    expect(rulesOf({ keepLast: 1 }, backups)).toMatchObject({ broken: 'only-left' });
    expect(rulesOf({ keepLast: 1 }, [...backups, candidate('next', daysAgo(1))])).toMatchObject({ broken: 'not-counted' });
  });
});
