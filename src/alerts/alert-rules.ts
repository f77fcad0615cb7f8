/** What a backup is checked for against the one before it. */
export const ALERT_RULES = ['table-lost', 'rows-dropped', 'size-dropped'] as const;
export type AlertRule = (typeof ALERT_RULES)[number];

/** What a source wants to be told of; the percentages are of what the earlier backup had. */
export interface AlertLimits {
  /** A table of the earlier backup is not in the later one. */
  tableLost: boolean;
  /** The rows of all tables fell by more than this, or a large table was emptied; null turns the rule off. */
  rowsDroppedPercent: number | null;
  /** The bytes of the dump fell by more than this; null turns the rule off. */
  sizeDroppedPercent: number | null;
}

export const DEFAULT_ALERT_LIMITS: AlertLimits = { tableLost: true, rowsDroppedPercent: 40, sizeDroppedPercent: 50 };

/** A smaller table may be a queue or a cache that is empty at times. */
const LARGE_TABLE_ROWS = 1000;
/** How many tables are named. */
const NAMED = 20;

/** Two backups of one source, as far as the rules look at them. */
export interface Observed {
  baseRows: number;
  headRows: number;
  /** Bytes of the dump before compression; null where the backup has no database. */
  baseBytes: number | null;
  headBytes: number | null;
  /** Tables that are not the same in both; null rows where a backup has no such table. */
  tables: readonly { schema: string; name: string; baseRows: number | null; headRows: number | null }[];
}

export interface Breach {
  rule: AlertRule;
  /** What is missing, as a sentence. */
  message: string;
  before: number;
  after: number;
  /** The tables that are gone or emptied, as `schema.table`; the first twenty. */
  tables: string[];
}

/**
 * The rules that the later backup breaks.
 * @param isExcluded tells tables that the source leaves out by now, whose absence is wanted
 */
export function breachesOf(
  limits: AlertLimits,
  seen: Observed,
  isExcluded: (table: { schema: string; name: string }) => boolean,
): Breach[] {
  const found = [tablesLost(limits, seen, isExcluded), rowsDropped(limits, seen, isExcluded), sizeDropped(limits, seen)];
  return found.filter((breach) => breach !== null);
}

type IsExcluded = Parameters<typeof breachesOf>[2];

function tablesLost({ tableLost }: AlertLimits, { tables }: Observed, isExcluded: IsExcluded): Breach | null {
  const lost = tables.filter((table) => table.headRows === null && !isExcluded(table));
  if (!tableLost || lost.length === 0) return null;
  const names = lost.map(nameOf);
  const message = `${count(lost.length, 'table')} of the backup before ${lost.length === 1 ? 'is' : 'are'} gone: ${listed(names)}.`;
  return { rule: 'table-lost', message, before: lost.length, after: 0, tables: names.slice(0, NAMED) };
}

function rowsDropped({ rowsDroppedPercent }: AlertLimits, seen: Observed, isExcluded: IsExcluded): Breach | null {
  if (rowsDroppedPercent === null) return null;
  const wantedAway = seen.tables.filter((table) => table.headRows === null && isExcluded(table));
  const before = seen.baseRows - wantedAway.reduce((sum, table) => sum + (table.baseRows ?? 0), 0);
  const emptied = seen.tables.filter((table) => table.headRows === 0 && (table.baseRows ?? 0) >= LARGE_TABLE_ROWS).map(nameOf);
  const percent = dropOf(before, seen.headRows);
  if (percent <= rowsDroppedPercent && emptied.length === 0) return null;
  const message =
    percent > rowsDroppedPercent
      ? `Rows fell by ${percent.toFixed(1)} %, from ${before} to ${seen.headRows} (more than ${rowsDroppedPercent} %).`
      : `${count(emptied.length, 'table')} of ${LARGE_TABLE_ROWS} rows or more ${emptied.length === 1 ? 'was' : 'were'} emptied: ${listed(emptied)}.`;
  return { rule: 'rows-dropped', message, before, after: seen.headRows, tables: emptied.slice(0, NAMED) };
}

function sizeDropped({ sizeDroppedPercent }: AlertLimits, { baseBytes, headBytes }: Observed): Breach | null {
  if (sizeDroppedPercent === null || baseBytes === null || headBytes === null) return null;
  const percent = dropOf(baseBytes, headBytes);
  if (percent <= sizeDroppedPercent) return null;
  const message = `The dump shrank by ${percent.toFixed(1)} %, from ${baseBytes} to ${headBytes} bytes (more than ${sizeDroppedPercent} %).`;
  return { rule: 'size-dropped', message, before: baseBytes, after: headBytes, tables: [] };
}

function dropOf(before: number, after: number): number {
  return before === 0 ? 0 : ((before - after) / before) * 100;
}

function nameOf({ schema, name }: { schema: string; name: string }): string {
  return `${schema}.${name}`;
}

function listed(names: readonly string[]): string {
  const more = names.length - NAMED;
  return names.slice(0, NAMED).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
