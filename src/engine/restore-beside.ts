import { applicationName } from './backup.js';
import { withClient } from './postgres/client.js';
import type { PgConnection } from './postgres/connection.js';
import type { ProgressMeter } from './progress.js';
import type { OpenedArchive } from './restore-archive.js';
import { checkRestored } from './restore-check.js';
import { createMissingRoles } from './restore-globals.js';
import { type Loading, restoreFile, restoreStream, withHeaderFile } from './restore-loading.js';
import type { RestoreOutcome, RestoreRequest } from './restore-request.js';
import { adaptToRoles } from './restore-roles.js';
import { canLoadData, loadData } from './restore-data.js';
import { type Chosen, choose, withChoice, withoutEntries } from './restore-selection.js';
import { stagingName } from './restore-staging.js';
import { createLike, databaseOid, dropDatabase } from './restore-target.js';

/** A database that was built under a name of its own, and is whole. */
export interface BuiltDatabase {
  staging: string;
  oid: number;
  outcome: RestoreOutcome;
}

/**
 * Builds a database beside the others, and hands it to `place`, which gives it its name. Whatever fails, it is dropped.
 * @param server any database of the server, other than the one that is to be replaced
 */
export async function withDatabaseBeside(
  request: RestoreRequest,
  server: PgConnection,
  archive: OpenedArchive,
  meter: ProgressMeter,
  place: (built: BuiltDatabase) => Promise<RestoreOutcome>,
): Promise<RestoreOutcome> {
  const staging = stagingName(request.runId, request.attempt);
  const session = { applicationName: applicationName(request.runId), signal: request.signal };
  try {
    const outcome = await build(request, server, staging, archive, meter);
    const oid = await withClient(server, session, (client) => databaseOid(client, staging));
    return await place({ staging, oid: oid ?? 0, outcome });
  } catch (error) {
    // The signal may be aborted already: this session has none.
    const drop = withClient(server, { applicationName: session.applicationName }, (client) => dropDatabase(client, staging));
    await drop.catch(() => undefined);
    throw error;
  }
}

async function build(
  request: RestoreRequest,
  server: PgConnection,
  staging: string,
  archive: OpenedArchive,
  meter: ProgressMeter,
): Promise<RestoreOutcome> {
  const session = { applicationName: applicationName(request.runId), signal: request.signal };
  const connection = { ...server, database: staging };
  const chosen = withoutEntries(archive, choose(archive, request.selection), request.leaveOutEntries ?? new Set());
  const created = await withClient(server, session, async (client) => {
    await request.beforeChange();
    const warnings = request.createRoles ? await createMissingRoles(client, request, archive) : [];
    await createLike(client, staging, archive.manifest.source);
    return warnings;
  });
  const adapted = await withClient(connection, session, (client) => adaptToRoles(client, archive, request.leaveOutRoles));
  const ignored: string[] = [];
  const loading: Loading = {
    source: request,
    archive,
    connection,
    applicationName: session.applicationName,
    meter,
    ...(request.continueOnErrors ? { ignored } : {}),
  };
  await withChoice({ dumpIds: chosen.dumpIds, toc: archive.toc }, (choice) =>
    withHeaderFile(adapted.header, async (file) => {
      if (!request.selection.dataOnly) {
        meter.begin('pre-data');
        await restoreFile(loading, ['--section=pre-data', ...choice, file]);
      }
      if (!request.selection.schemaOnly) await loadSection(request, loading, chosen, { header: adapted.header, file, choice });
      meter.begin('post-data');
      await restoreFile(loading, ['--section=post-data', `--jobs=${request.jobs}`, ...choice, file]);
    }),
  );
  const expected = request.selection.schemaOnly ? [] : chosen.tables;
  const checked = await checkRestored(connection, session, expected, meter);
  return { ...checked, warnings: [...created, ...adapted.warnings, ...chosen.notes, ...ignored] };
}

/** Rows and large objects in several lanes, and what else is data (the values of sequences) by pg_restore; or all of it by pg_restore. */
async function loadSection(
  { selection, continueOnErrors, jobs }: RestoreRequest,
  loading: Loading,
  { dumpIds, tables }: Chosen,
  { header, file, choice }: { header: Buffer; file: string; choice: readonly string[] },
): Promise<void> {
  const { toc } = loading.archive;
  // What is to be gone on after, and what is loaded into tables that are there, is pg_restore's.
  if (continueOnErrors || selection.dataOnly || !canLoadData(toc))
    return restoreStream(loading, header, ['--section=data', ...choice]);
  await loadData(loading, { tables, dumpIds }, jobs);
  const rest = toc.entries.filter(
    (entry) => entry.section === 'data' && !entry.hadDumper && (dumpIds === null || dumpIds.has(entry.dumpId)),
  );
  if (rest.length === 0) return;
  const restIds = new Set(rest.map((entry) => entry.dumpId));
  await withChoice({ dumpIds: restIds, toc }, (only) => restoreFile(loading, ['--section=data', ...only, file]));
}
