import type { Client } from 'pg';
import { dropKeysWithTheirTables } from './archive/clean-drops.js';
import { withLockTimeout } from './archive/lock-timeout.js';
import { selectEntries, type Selection } from './archive/selection.js';
import { toSideSchema } from './archive/side-schema.js';
import type { ArchiveToc } from './archive/toc.js';
import { applicationName } from './backup.js';
import { EngineError } from './errors.js';
import { withClient } from './postgres/client.js';
import { describeConnection, type PgConnection } from './postgres/connection.js';
import { quoteName, relationKey } from './postgres/relations.js';
import type { ProgressMeter } from './progress.js';
import { type OpenedArchive, openArchive } from './restore-archive.js';
import { checkRestored } from './restore-check.js';
import { existingObjects } from './restore-existing.js';
import { createMissingRoles } from './restore-globals.js';
import { restoreStream } from './restore-loading.js';
import type { RestoreOutcome, RestoreRequest } from './restore-request.js';
import { adaptToRoles } from './restore-roles.js';
import { choose, type Chosen, withChoice } from './restore-selection.js';

const LOCK_TIMEOUT_MS = 60_000;

/** What becomes of what is there: nothing is, it is dropped before it is made anew, or it stays and the restored comes beside it. */
export type Placement = 'empty' | 'replace' | { sideSchema: string };

/**
 * Loads an archive into a database in one transaction, fed through a pipe: whatever fails, on either side, rolls back all of it.
 */
export async function restoreInOneTransaction(
  request: RestoreRequest,
  connection: PgConnection,
  archive: OpenedArchive,
  meter: ProgressMeter,
  placement: Placement,
): Promise<RestoreOutcome> {
  const session = { applicationName: applicationName(request.runId), signal: request.signal };
  const adapted = await withClient(connection, session, async (client) => {
    const exists = placement === 'replace' ? await existingObjects(client) : undefined;
    const chosen = choose(archive, request.selection, exists);
    await request.beforeChange();
    const created = request.createRoles ? await createMissingRoles(client, request, archive) : [];
    const roles = await adaptToRoles(client, archive);
    return {
      chosen,
      header: withLockTimeout(roles.header, request.lockTimeoutMs ?? LOCK_TIMEOUT_MS),
      warnings: [...created, ...roles.warnings],
      settings: await loadSettings(client, request),
    };
  });
  const placed = place(archive, adapted.chosen, adapted.header, request.selection, placement);
  const loading = {
    source: request,
    archive,
    connection,
    applicationName: session.applicationName,
    meter,
    settings: adapted.settings,
  };
  const clean = placement === 'replace' ? ['--clean', '--if-exists'] : [];
  await withSideSchema(connection, placement, session, () =>
    withChoice(placed, (choice) =>
      restoreStream(loading, placed.header, ['--single-transaction', ...clean, ...choice], async () => {
        const watch = { applicationName: 'backstay:watch', signal: request.signal };
        const transactionId = await withClient(connection, watch, (client) => transactionOf(client, session.applicationName));
        if (transactionId !== null) await request.onCommitting(transactionId);
      }),
    ),
  );
  const expected = request.selection.schemaOnly ? [] : placed.tables;
  return checkCommitted(connection, session.applicationName, expected, meter, [...adapted.warnings, ...placed.notes]);
}

/** What the restore of an attempt that died just after its commit would have found. @throws EngineError when the archive can't be opened */
export async function compareCommitted(
  request: RestoreRequest,
  connection: PgConnection,
  placement: Placement,
  meter: ProgressMeter,
): Promise<RestoreOutcome> {
  const archive = await openArchive(request);
  const placed = place(archive, choose(archive, request.selection), archive.header, request.selection, placement);
  const expected = request.selection.schemaOnly ? [] : placed.tables;
  const note = 'The server ended just after the commit; what else there was to note about this restore is lost.';
  return checkCommitted(connection, applicationName(request.runId), expected, meter, [note]);
}

interface Placed extends Chosen {
  header: Buffer;
  toc: ArchiveToc;
}

function place(archive: OpenedArchive, chosen: Chosen, header: Buffer, selection: Selection, placement: Placement): Placed {
  if (placement === 'empty') return { ...chosen, header, toc: archive.toc };
  if (placement === 'replace') return { ...chosen, header: dropKeysWithTheirTables(header, archive.toc), toc: archive.toc };
  const { sideSchema } = placement;
  const side = toSideSchema(header, selectEntries(archive.toc, selection), sideSchema);
  const moved = new Set(side.tables.map(relationKey));
  const tables = chosen.tables
    .filter((table) => moved.has(relationKey(table)))
    .map((table) => ({ ...table, schema: sideSchema }));
  return { header: side.header, toc: side.toc, dumpIds: side.dumpIds, tables, notes: side.notes };
}

/** The schema is made before the transaction, and goes again, empty as it is then, when that fails. */
async function withSideSchema(
  connection: PgConnection,
  placement: Placement,
  session: { applicationName: string; signal: AbortSignal },
  work: () => Promise<void>,
): Promise<void> {
  if (typeof placement === 'string') return work();
  const name = quoteName(placement.sideSchema);
  await withClient(connection, session, (client) => client.query(`CREATE SCHEMA IF NOT EXISTS ${name}`));
  try {
    await work();
  } catch (error) {
    await withClient(connection, { applicationName: session.applicationName }, (client) =>
      client.query(`DROP SCHEMA IF EXISTS ${name}`),
    ).catch(() => undefined);
    throw error;
  }
}

/** Rows alone come in the archive's order, which foreign keys and triggers of a table that is there would mind. */
async function loadSettings(client: Client, { selection }: RestoreRequest): Promise<Record<string, string>> {
  if (!selection.dataOnly) return {};
  const { rows } = await client.query<{ may: boolean }>(
    'SELECT rolsuper AS may FROM pg_catalog.pg_roles WHERE rolname = current_user',
  );
  return rows[0]?.may ? { session_replication_role: 'replica' } : {};
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
  expected: OpenedArchive['tables'],
  meter: ProgressMeter,
  warnings: string[],
): Promise<RestoreOutcome> {
  try {
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
