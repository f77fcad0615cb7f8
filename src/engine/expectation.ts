/**
 * What a query must give. A boolean, a number or null: exactly one row whose first column is that. Text: one of `rows` (at least one
 * row) and `no rows`; a comparison with a number, such as `>= 1000`; else exactly one row whose first column is that text.
 */
export type Expectation = string | number | boolean | null;

/** What a query gave; the value is the first column of the first row, as PostgreSQL writes it. */
export interface Given {
  rows: number;
  value: string | null;
}

const COMPARISON = /^(<=|>=|<>|!=|<|>|=)\s*(-?\d+(?:\.\d+)?)$/;

/** Whether what a query gave is what was expected. */
export function isMet(expectation: Expectation, { rows, value }: Given): boolean {
  if (expectation === 'rows') return rows > 0;
  if (expectation === 'no rows') return rows === 0;
  if (rows !== 1) return false;
  if (expectation === null) return value === null;
  if (value === null) return false;
  if (typeof expectation === 'boolean') return value === (expectation ? 't' : 'f') || value === String(expectation);
  if (typeof expectation === 'number') return isNumber(value) && compare(value, String(expectation)) === 0;
  const comparison = COMPARISON.exec(expectation);
  if (!comparison) return value === expectation;
  const [, operator = '', number = ''] = comparison;
  if (!isNumber(value)) return false;
  const order = compare(value, number);
  switch (operator) {
    case '<':
      return order < 0;
    case '<=':
      return order <= 0;
    case '>':
      return order > 0;
    case '>=':
      return order >= 0;
    case '=':
      return order === 0;
    default:
      return order !== 0;
  }
}

/** As a person reads it. */
export function describeExpectation(expectation: Expectation): string {
  if (expectation === 'rows') return 'at least one row';
  if (expectation === 'no rows') return 'no rows';
  return expectation === null ? 'null' : String(expectation);
}

function isNumber(text: string): boolean {
  return /^-?\d+(?:\.\d+)?(?:e[+-]?\d+)?$/i.test(text);
}

/** Whole numbers exactly, however many digits they have. */
function compare(a: string, b: string): number {
  if (/^-?\d+$/.test(a) && /^-?\d+$/.test(b)) {
    const [x, y] = [BigInt(a), BigInt(b)];
    return x < y ? -1 : x > y ? 1 : 0;
  }
  return Number(a) - Number(b);
}
