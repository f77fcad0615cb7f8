import type { Client } from 'pg';
import type { TableDigest } from './artifact/manifest.js';
import { withClient } from './postgres/client.js';
import type { PgConnection } from './postgres/connection.js';
import { quoteName } from './postgres/relations.js';
import type { ProgressMeter } from './progress.js';

/** A table whose row count after the restore is not the manifest's. */
export interface CountDifference {
  schema: string;
  table: string;
  expectedRows: number;
  /** null when the table is not there. */
  actualRows: number | null;
}

const TABLES_PER_QUERY = 100;

/** Counts the rows of each table exactly, many tables to a query, and compares with the manifest. */
async function compareCounts(
  client: Client,
  expected: readonly TableDigest[],
  onTable: (done: number) => void,
): Promise<CountDifference[]> {
  const there = await existing(client);
  const differences: CountDifference[] = [];
  for (let start = 0; start < expected.length; start += TABLES_PER_QUERY) {
    const tables = expected.slice(start, start + TABLES_PER_QUERY);
    const actual = await countRows(
      client,
      tables.map((table) => (there.has(nameOf(table)) ? table : null)),
    );
    tables.forEach((table, index) => {
      const rows = actual[index] ?? null;
      if (rows !== table.rows)
        differences.push({ schema: table.schema, table: table.name, expectedRows: table.rows, actualRows: rows });
    });
    onTable(start + tables.length);
  }
  return differences;
}

async function existing(client: Client): Promise<Set<string>> {
  const { rows } = await client.query<{ schema: string; name: string }>(
    `SELECT n.nspname AS schema, c.relname AS name FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','m')`,
  );
  return new Set(rows.map(nameOf));
}

async function countRows(client: Client, tables: readonly (TableDigest | null)[]): Promise<(number | null)[]> {
  const counts = tables.map((table) =>
    table ? `(SELECT count(*) FROM ONLY ${quoteName(table.schema)}.${quoteName(table.name)})` : 'NULL::bigint',
  );
  const { rows } = await client.query<{ counts: (string | null)[] }>(`SELECT ARRAY[${counts.join(', ')}]::text[] AS counts`);
  return (rows[0]?.counts ?? []).map((count) => (count === null ? null : Number(count)));
}

function nameOf({ schema, name }: { schema: string; name: string }): string {
  return JSON.stringify([schema, name]);
}

/** Analyzes the restored database and counts its rows. */
export async function checkRestored(
  connection: PgConnection,
  session: { applicationName: string; signal?: AbortSignal },
  expected: readonly TableDigest[],
  meter: ProgressMeter,
): Promise<{ countsEqual: boolean; differences: CountDifference[] }> {
  meter.begin('analyze');
  return withClient(connection, session, async (client) => {
    await client.query('ANALYZE');
    meter.begin('compare');
    const differences = await compareCounts(client, expected, (done) => meter.tables(done, expected.length));
    return { countsEqual: differences.length === 0, differences };
  });
}
