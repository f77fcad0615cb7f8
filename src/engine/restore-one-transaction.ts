import type { Client } from 'pg';
import { dropKeysWithTheirTables } from './archive/clean-drops.js';
import type { ArchiveToc } from './archive/toc.js';
import { applicationName } from './backup.js';
import { EngineError } from './errors.js';
import { withClient } from './postgres/client.js';
import { describeConnection, type PgConnection } from './postgres/connection.js';
import type { ProgressMeter } from './progress.js';
import type { OpenedArchive } from './restore-archive.js';
import { checkRestored } from './restore-check.js';
import { createMissingRoles } from './restore-globals.js';
import { restoreStream } from './restore-loading.js';
import type { RestoreOutcome, RestoreRequest } from './restore-request.js';
import { adaptToRoles } from './restore-roles.js';
import { choose, withChoice } from './restore-selection.js';

/** How long pg_restore waits for a lock that somebody else holds on what it replaces. */
const LOCK_TIMEOUT = '30s';

/**
 * Loads an archive into a database in one transaction, fed through a pipe: whatever fails, on either side, rolls back all of it.
 * @param replace drop what the archive has before it is made anew
 */
export async function restoreInOneTransaction(
  request: RestoreRequest,
  connection: PgConnection,
  archive: OpenedArchive,
  meter: ProgressMeter,
  replace: boolean,
): Promise<RestoreOutcome> {
  const session = { applicationName: applicationName(request.runId), signal: request.signal };
  const chosen = choose(archive, request.selection);
  const adapted = await withClient(connection, session, async (client) => {
    await request.beforeChange();
    const created = request.createRoles ? await createMissingRoles(client, request, archive) : [];
    const roles = await adaptToRoles(client, archive);
    return { ...roles, warnings: [...created, ...roles.warnings, ...chosen.notes] };
  });
  const how = [
    '--single-transaction',
    ...(replace ? ['--clean', '--if-exists'] : []),
    ...(request.selection.schemaOnly ? ['--schema-only'] : []),
    ...(request.selection.dataOnly ? ['--data-only'] : []),
  ];
  const loading = {
    source: request,
    archive,
    connection,
    applicationName: session.applicationName,
    meter,
    settings: { lock_timeout: LOCK_TIMEOUT },
  };
  await withChoice(archive, chosen, (choice) =>
    restoreStream(
      loading,
      replace ? dropKeysWithTheirTables(adapted.header, archive.toc) : adapted.header,
      [...how, ...choice],
      async () => {
        const transactionId = await withClient(
          connection,
          { applicationName: 'backstay:watch', signal: request.signal },
          (client) => transactionOf(client, session.applicationName),
        );
        if (transactionId !== null) await request.onCommitting(transactionId);
      },
    ),
  );
  return checkCommitted(connection, session.applicationName, request, chosen.tables, meter, adapted.warnings);
}

/** Full id of the transaction that the session of this name is in; null when it has none. */
async function transactionOf(client: Client, name: string): Promise<string | null> {
  // The session shows 32 bits; the rest are those of now, or one less where the counter has turned over since.
  const { rows } = await client.query<{ xid: string }>(
    `SELECT (CASE WHEN full_id > newest THEN full_id - 4294967296 ELSE full_id END)::text AS xid FROM (
       SELECT ((newest >> 32) << 32) | backend_xid::text::bigint AS full_id, newest
         FROM pg_catalog.pg_stat_activity, (SELECT txid_snapshot_xmax(txid_current_snapshot()) AS newest) AS now
        WHERE application_name = $1 AND backend_xid IS NOT NULL LIMIT 1) AS found`,
    [name],
  );
  return rows[0]?.xid ?? null;
}

/** Whether a transaction that was about to commit did. @throws EngineError while it is still open */
export async function wasCommitted(connection: PgConnection, transactionId: string): Promise<boolean> {
  return withClient(connection, { applicationName: 'backstay:recovery' }, async (client) => {
    const { rows } = await client.query<{ status: string | null }>('SELECT txid_status($1::bigint) AS status', [transactionId]);
    if (rows[0]?.status === 'in progress') {
      throw new EngineError(
        'RESTORE_FAILED',
        `The transaction of a restore into ${describeConnection(connection)} is still open.`,
        'Wait until its session has ended.',
      );
    }
    return rows[0]?.status === 'committed';
  });
}

/** What is committed can't be taken back any more: no cancel, and no failure to compare, makes it a restore that failed. */
async function checkCommitted(
  connection: PgConnection,
  applicationName: string,
  { selection }: RestoreRequest,
  tables: OpenedArchive['tables'],
  meter: ProgressMeter,
  warnings: string[],
): Promise<RestoreOutcome> {
  try {
    const expected = selection.schemaOnly ? [] : tables;
    return { ...(await checkRestored(connection, { applicationName }, expected, meter)), warnings };
  } catch (error) {
    const why = error instanceof EngineError ? error.message : 'the server refused a statement.';
    const warning = `The restore is committed, but its rows could not be compared with the manifest: ${why}`;
    return { countsEqual: false, differences: [], warnings: [...warnings, warning] };
  }
}

/** Locks that a restore of these entries holds at once in one transaction, and what the server has room for. */
export async function lockNeeds(
  client: Client,
  toc: ArchiveToc,
  dumpIds: ReadonlySet<number> | null,
  replace: boolean,
): Promise<{ needed: number; capacity: number; perTransaction: number }> {
  const { rows } = await client.query<{ capacity: string; each: string }>(
    `SELECT current_setting('max_locks_per_transaction')::bigint * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint) AS capacity, current_setting('max_locks_per_transaction') AS each`,
  );
  // A table comes with its TOAST table and that one's index; what is replaced is locked to be dropped, too.
  const weights: Record<string, number> = { TABLE: 3, INDEX: 1, CONSTRAINT: 1, SEQUENCE: 1, VIEW: 1, 'MATERIALIZED VIEW': 3 };
  const needed = toc.entries.reduce(
    (sum, entry) => sum + (dumpIds === null || dumpIds.has(entry.dumpId) ? (weights[entry.desc] ?? 0) : 0),
    0,
  );
  return {
    needed: needed * (replace ? 2 : 1),
    capacity: Number(rows[0]?.capacity ?? 0),
    perTransaction: Number(rows[0]?.each ?? 64),
  };
}
