import type { Client } from 'pg';
import { EngineError } from '../errors.js';

/**
 * Settings that decide how a value is written as text. A database or a role may carry others (`ALTER DATABASE SET`), and then
 * the same row gives another hash; so every connection that dumps or hashes pins them. Where pg_dump sets one itself, the
 * value here is the same as its own, so that its connection and ours agree.
 */
export const PINNED_SETTINGS = {
  TimeZone: 'UTC',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  extra_float_digits: '3',
  bytea_output: 'hex',
  xmlbinary: 'base64',
  lc_monetary: 'C',
  search_path: '',
  row_security: 'off',
  synchronize_seqscans: 'off',
  quote_all_identifiers: 'off',
} as const satisfies Record<string, string>;

/** Time-outs of the source that would cut a long dump short. */
const UNLIMITED = { statement_timeout: '0', idle_in_transaction_session_timeout: '0', lock_timeout: '0' } as const;

/**
 * The value of the start-up parameter `options` (and of PGOPTIONS): the pinned settings, no time-outs, then `extra`, which wins.
 * Options given at the start of a session override `ALTER DATABASE SET` and `ALTER ROLE SET`.
 */
export function startupOptions(extra: Readonly<Record<string, string>> = {}): string {
  return Object.entries({ ...UNLIMITED, ...PINNED_SETTINGS, ...extra })
    .map(([name, value]) => `-c ${name}=${value.replace(/[\\\s]/g, (character) => `\\${character}`)}`)
    .join(' ');
}

/**
 * Asks the server whether the pinned settings are in force: connection poolers drop start-up options without a word.
 *
 * @throws EngineError POOLER_UNSUITABLE naming the settings that differ.
 */
export async function checkPinnedSettings(client: Pick<Client, 'query'>): Promise<void> {
  const names = Object.keys(PINNED_SETTINGS);
  const { rows } = await client.query<{ name: string; setting: string }>(
    'select name, setting from pg_catalog.pg_settings where name = any($1)',
    [names],
  );
  const actual = new Map(rows.map((row) => [row.name, row.setting]));
  const wrong = Object.entries(PINNED_SETTINGS).filter(([name, value]) => actual.get(name) !== value);
  if (wrong.length === 0) return;
  throw new EngineError(
    'POOLER_UNSUITABLE',
    `The connection ignores the settings given at its start (${wrong.map(([name]) => name).join(', ')}), as connection poolers do.`,
    'Connect to the database directly or through a session pooler on port 5432; a transaction pooler (port 6543 at Supabase) keeps no session.',
  );
}
