import { describe, expect, it } from '@jest/globals';
import { type AlertLimits, breachesOf, DEFAULT_ALERT_LIMITS, type Observed } from './alert-rules.js';

const SAME: Observed = { baseRows: 1000, headRows: 1000, baseBytes: 9000, headBytes: 9000, tables: [] };
const table = (name: string, baseRows: number | null, headRows: number | null) => ({
  schema: 'public',
  name,
  baseRows,
  headRows,
});
const rulesOf = (seen: Partial<Observed>, limits: Partial<AlertLimits> = {}, excluded: string[] = []) =>
  breachesOf({ ...DEFAULT_ALERT_LIMITS, ...limits }, { ...SAME, ...seen }, ({ name }) => excluded.includes(name)).map(
    ({ rule }) => rule,
  );

describe('the alert rules', () => {
  it('are silent where nothing is missing, and where much was added', () => {
    expect(rulesOf({})).toEqual([]);
    expect(rulesOf({ headRows: 99_999, headBytes: 99_999, tables: [table('new', null, 5), table('grown', 1, 9)] })).toEqual([]);
    expect(rulesOf({ baseRows: 0, headRows: 0, baseBytes: 0, headBytes: 0 })).toEqual([]);
  });

  it('tell of a table that is gone, unless the source leaves it out by now', () => {
    expect(rulesOf({ tables: [table('users', 3, null)] })).toEqual(['table-lost']);
    expect(rulesOf({ tables: [table('users', 3, null)] }, {}, ['users'])).toEqual([]);
    expect(rulesOf({ tables: [table('users', 3, null)] }, { tableLost: false })).toEqual([]);
  });

  it('tell of rows at more than the limit, not at it', () => {
    expect(rulesOf({ headRows: 600 })).toEqual([]);
    expect(rulesOf({ headRows: 599 })).toEqual(['rows-dropped']);
    expect(rulesOf({ headRows: 0 }, { rowsDroppedPercent: null })).toEqual([]);
  });

  it('do not miss the rows of a table that is left out on purpose', () => {
    expect(rulesOf({ headRows: 500, tables: [table('log', 500, null)] }, {}, ['log'])).toEqual([]);
  });

  it('tell of a large table that was emptied, however small a part of all rows it was, and not of a queue', () => {
    expect(rulesOf({ baseRows: 1_000_000, headRows: 999_000, tables: [table('users', 1000, 0)] })).toEqual(['rows-dropped']);
    expect(rulesOf({ baseRows: 1_000_000, headRows: 999_001, tables: [table('queue', 999, 0)] })).toEqual([]);
  });

  it('tell of bytes, and of nothing where one of the two has no dump', () => {
    expect(rulesOf({ headBytes: 4499 })).toEqual(['size-dropped']);
    expect(rulesOf({ headBytes: 4500 })).toEqual([]);
    expect(rulesOf({ headBytes: null })).toEqual([]);
  });

  it('name the first twenty tables', () => {
    const tables = Array.from({ length: 25 }, (_, n) => table(`t${n}`, 1, null));
    const [breach] = breachesOf(DEFAULT_ALERT_LIMITS, { ...SAME, tables }, () => false);
    expect(breach?.tables).toHaveLength(20);
    expect(breach?.message).toMatch(/^25 tables of the backup before are gone: public\.t0, .* and 5 more\.$/);
  });
});
