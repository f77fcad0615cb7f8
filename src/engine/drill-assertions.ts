import { randomBytes } from 'node:crypto';
import type { Client } from 'pg';
import { impossible } from './drill-place.js';
import { EngineError } from './errors.js';
import { withClient } from './postgres/client.js';
import { failureOf } from './postgres/connect-errors.js';
import type { PgConnection } from './postgres/connection.js';
import { describeExpectation, type Expectation, isMet } from './expectation.js';

/** Something that must hold in a restored database. */
export interface Assertion {
  name: string;
  /** One SELECT (or VALUES, or WITH … SELECT). */
  query: string;
  /** What it must give; see expectation.ts. */
  expectation: Expectation;
  timeoutSeconds: number;
}

/** What came of an assertion. */
export interface AssertionResult {
  name: string;
  ok: boolean;
  detail: string;
  /** The assertion itself is at fault, or took too long: nothing is said of the backup. */
  unusable: boolean;
}

const ROLE = 'backstay_assertions';
const SHOWN_CHARACTERS = 200;
const FETCHED_ROWS = 2;
/** Syntax, writing, a time-out, no right to read: these say something of the assertion alone. */
const NO_VERDICT = /^(?:42601|25006|57014|42501|0A000|34000|24000)$/;

/**
 * Runs assertions in a restored database: each in a read-only transaction of its own that is rolled back, one statement that can only
 * read, with a time limit, as a role that may read everything and do nothing else.
 * @param restored enters the database as the superuser of a throwaway server, or as a role without such rights when `asIs`
 * @param ownUser whether that server has a user of its own, who can read none of our files
 * @throws EngineError DRILL_IMPOSSIBLE where no role could be kept from our files
 */
export async function runAssertions(
  restored: PgConnection,
  assertions: readonly Assertion[],
  { asIs, ownUser, signal }: { asIs: boolean; ownUser: boolean; signal: AbortSignal },
): Promise<AssertionResult[]> {
  const reader = asIs ? restored : await makeReader(restored, ownUser, signal);
  const settings = { default_transaction_read_only: 'on', search_path: await searchPathOf(restored, signal) };
  const results: AssertionResult[] = [];
  for (const assertion of assertions) {
    // A session of its own: what one does to its session can't help or hurt another.
    results.push(
      await withClient(
        reader,
        { applicationName: 'backstay:drill', signal, statementTimeoutMs: assertion.timeoutSeconds * 1000, settings },
        (client) => assert(client, assertion, signal),
      ),
    );
  }
  return results;
}

/** The one of the database, as its own clients have it: elsewhere it is pinned to nothing. */
async function searchPathOf(restored: PgConnection, signal: AbortSignal): Promise<string> {
  return withClient(restored, { applicationName: 'backstay:drill', signal }, async (client) => {
    const { rows } = await client.query<{ path: string }>(`SELECT substr(setting, length('search_path=') + 1) AS path
      FROM pg_catalog.pg_db_role_setting, unnest(setconfig) AS setting
      WHERE setrole = 0 AND setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
        AND setting LIKE 'search\\_path=%'`);
    return rows[0]?.path ?? '"$user", public';
  });
}

async function makeReader(restored: PgConnection, ownUser: boolean, signal: AbortSignal): Promise<PgConnection> {
  const password = randomBytes(24).toString('base64url');
  await withClient(restored, { applicationName: 'backstay:drill', signal }, async (client) => {
    await client.query(`CREATE ROLE ${ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE BYPASSRLS PASSWORD '${password}'`);
    const { rows } = await client.query<{ there: boolean }>(
      "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pg_read_all_data') AS there",
    );
    if (rows[0]?.there) await client.query(`GRANT pg_read_all_data TO ${ROLE}`);
    // Before PostgreSQL 14 nothing else lets a role read everything.
    else if (ownUser) await client.query(`ALTER ROLE ${ROLE} SUPERUSER`);
    else
      throw impossible(
        'Before PostgreSQL 14 only a superuser can read everything in a database, and here one could read the files of this server.',
        'Install the server programs of PostgreSQL 14 or newer, or run a worker as root, in a container of its own.',
      );
  });
  return { ...restored, user: ROLE, password };
}

async function assert(client: Client, { name, query, expectation }: Assertion, signal: AbortSignal): Promise<AssertionResult> {
  const wanted = describeExpectation(expectation);
  try {
    await client.query('BEGIN READ ONLY');
    // A cursor takes nothing but a query, and gives no more than is asked for. Extended: one statement, whatever the text holds.
    await client.query({ text: `DECLARE asserted NO SCROLL CURSOR FOR ${query}`, queryMode: 'extended' } as { text: string });
    const { rows, fields } = await client.query<unknown[]>({
      text: `FETCH ${FETCHED_ROWS} FROM asserted`,
      rowMode: 'array',
      types: { getTypeParser: () => (value: string) => value },
    } as never);
    await client.query('ROLLBACK');
    const found = rows as unknown as (string | null)[][];
    const shape = { rows: found.length, columns: fields.length, value: found[0]?.[0] ?? null };
    const ok = isMet(expectation, shape);
    return { name, ok, unusable: false, detail: `${given(shape, found.length)}; ${ok ? 'as' : 'not as'} expected: ${wanted}.` };
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    const { code, message } = failureOf(error);
    if (code === undefined || !/^[0-9A-Z]{5}$/.test(code)) throw error;
    const detail = `${message.slice(0, SHOWN_CHARACTERS)} (SQLSTATE ${code}); expected: ${wanted}.`;
    return { name, ok: false, unusable: NO_VERDICT.test(code), detail };
  }
}

function given({ rows, columns, value }: { rows: number; columns: number; value: string | null }, count: number): string {
  if (rows === 0) return 'No row';
  const shown = value === null ? 'null' : value.length > SHOWN_CHARACTERS ? `${value.slice(0, SHOWN_CHARACTERS)}…` : value;
  const more = count === FETCHED_ROWS ? ' in the first of several rows' : '';
  return `${shown}${columns > 1 ? ` in the first of ${columns} columns` : ''}${more}`;
}

/** The first assertion that does not hold, as the failure of the verification; null when all hold. */
export function assertionFailure(results: readonly AssertionResult[]): EngineError | null {
  const failed = results.filter(({ ok, unusable }) => !ok && !unusable);
  const [first] = failed;
  if (!first) return null;
  const others = failed.length > 1 ? ` ${failed.length - 1} more do not hold either.` : '';
  return new EngineError(
    'ASSERTION_FAILED',
    `The assertion "${first.name}" does not hold in the restored database: ${first.detail}${others}`,
    'Look into the backup, or correct the assertion of the source.',
  );
}
