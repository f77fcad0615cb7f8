import { setTimeout as delay } from 'node:timers/promises';
import { EngineError } from '../errors.js';
import { withClient } from './client.js';
import { describeConnection, type PgConnection } from './connection.js';

const MOST_BETWEEN_LOOKS_MS = 1000;
const LEAST_BETWEEN_LOOKS_MS = 50;

/**
 * Runs `work`, and cancels every statement of the sessions named `applicationName` that takes longer than `limitMs` (0: no limit).
 * pg_dump sets its own statement_timeout to 0 at the start, so that the limit has to be held from another session.
 * @throws EngineError RUN_TIMEOUT when a statement was canceled; what `work` throws
 */
export async function withStatementLimit<T>(
  connection: PgConnection,
  { applicationName, limitMs, signal }: { applicationName: string; limitMs: number; signal: AbortSignal },
  work: () => Promise<T>,
): Promise<T> {
  if (limitMs === 0) return work();
  const ending = new AbortController();
  let wasExceeded = false;
  const watching = watch(
    connection,
    applicationName,
    limitMs,
    AbortSignal.any([signal, ending.signal]),
    () => (wasExceeded = true),
  );
  try {
    return await work();
  } catch (error) {
    if (!wasExceeded || signal.aborted) throw error;
    throw new EngineError(
      'RUN_TIMEOUT',
      `A statement of the dump of ${describeConnection(connection)} took longer than the source's limit of ${limitMs} ms and was canceled.`,
      "Raise the source's statementTimeoutMs (0 lifts it), or find out what slows the table down.",
      { cause: error },
    );
  } finally {
    ending.abort();
    await watching;
  }
}

async function watch(
  connection: PgConnection,
  watched: string,
  limitMs: number,
  signal: AbortSignal,
  onExceeded: () => void,
): Promise<void> {
  const pauseMs = Math.max(LEAST_BETWEEN_LOOKS_MS, Math.min(MOST_BETWEEN_LOOKS_MS, limitMs / 4));
  while (!signal.aborted) {
    // A session that breaks is opened anew; when the server is gone for good, the dump fails of itself.
    await withClient(connection, { applicationName: 'backstay:watch', signal }, async (client) => {
      while (!signal.aborted) {
        const { rowCount } = await client.query(
          `SELECT pg_cancel_backend(pid) FROM pg_catalog.pg_stat_activity
            WHERE application_name = $1 AND usename = current_user AND datname = current_database() AND state = 'active'
              AND clock_timestamp() - query_start > make_interval(secs => $2)`,
          [watched, limitMs / 1000],
        );
        if (rowCount) onExceeded();
        await delay(pauseMs, undefined, { signal });
      }
    }).catch(() => undefined);
    await delay(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}
