import { applicationName } from './backup.js';
import { withClient } from './postgres/client.js';
import { ProgressMeter } from './progress.js';
import { checkArtifacts, type OpenedArchive, openArchive } from './restore-archive.js';
import { withDatabaseBeside } from './restore-beside.js';
import { compareCommitted, type Placement, restoreInOneTransaction } from './restore-one-transaction.js';
import type { RestoreOutcome, RestoreRequest } from './restore-request.js';
import { carryOver, exchange, leftBehind, maintenanceOf, previousName } from './restore-swap.js';
import {
  applyDatabaseSettings,
  assertDatabaseName,
  assertEmpty,
  databaseOid,
  renameDatabase,
  type RestoreTarget,
  targetExists,
} from './restore-target.js';

/**
 * Restores the component `database`. Before anything is changed, the signature and every artifact's hash are checked. A restore that
 * fails leaves the target as it was: a new database is built under another name and dropped, any other is filled in one transaction.
 * @throws EngineError; the signal's reason when it is aborted
 */
export async function restoreBackup(request: RestoreRequest): Promise<RestoreOutcome> {
  const { signal } = request;
  const meter = new ProgressMeter(request.onProgress);
  try {
    const archive = await openArchive(request);
    if (!request.isChecked) await checkArtifacts(request, archive.manifest, meter);
    return await into(request, request.target, archive, meter);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw error;
  }
}

/**
 * What a restore in one transaction found, when the attempt that committed it died before it could look.
 * @returns undefined where there is nothing to look for, as the mode notes its outcome earlier
 * @throws EngineError when the backup can't be read any more
 */
export async function compareAfterCommit(request: RestoreRequest): Promise<RestoreOutcome | undefined> {
  const { target } = request;
  if ('server' in target) return undefined;
  return compareCommitted(request, target.connection, placementOf(target), new ProgressMeter(request.onProgress));
}

function placementOf(target: Exclude<RestoreTarget, { server: unknown }>): Placement {
  if (target.mode === 'url') return 'empty';
  return target.mode === 'in-place' ? 'replace' : { sideSchema: target.schema };
}

function into(
  request: RestoreRequest,
  target: RestoreTarget,
  archive: OpenedArchive,
  meter: ProgressMeter,
): Promise<RestoreOutcome> {
  switch (target.mode) {
    case 'new-database':
      return intoNewDatabase(request, target, archive, meter);
    case 'swap':
      return intoPlaceOf(request, target, archive, meter);
    case 'url':
      return intoEmptyDatabase(request, target, archive, meter);
    case 'in-place':
    case 'side-schema':
      return restoreInOneTransaction(request, target.connection, archive, meter, placementOf(target));
  }
}

async function intoNewDatabase(
  request: RestoreRequest,
  { server, database }: RestoreTarget & { mode: 'new-database' },
  archive: OpenedArchive,
  meter: ProgressMeter,
): Promise<RestoreOutcome> {
  const session = { applicationName: applicationName(request.runId), signal: request.signal };
  assertDatabaseName(database);
  if ((await withClient(server, session, (client) => databaseOid(client, database))) !== null) throw targetExists(database);
  return withDatabaseBeside(request, server, archive, meter, ({ staging, oid, outcome }) =>
    withClient(server, session, async (client) => {
      const settings = await applyDatabaseSettings(client, staging, archive.manifest.source.databaseSettings);
      const finished = { ...outcome, warnings: [...outcome.warnings, ...settings] };
      await request.onFinished({ ...finished, databaseOid: oid });
      await renameDatabase(client, staging, database);
      return finished;
    }),
  );
}

async function intoPlaceOf(
  request: RestoreRequest,
  { server }: RestoreTarget & { mode: 'swap' },
  archive: OpenedArchive,
  meter: ProgressMeter,
): Promise<RestoreOutcome> {
  const { database } = server;
  const session = { applicationName: applicationName(request.runId), signal: request.signal };
  const maintenance = await maintenanceOf(server, session);
  return withDatabaseBeside(request, maintenance, archive, meter, async ({ staging, oid, outcome }) => {
    meter.begin('swap');
    const previous = previousName(database, request.runId, 'before');
    const finished = await withClient(maintenance, session, async (client) => {
      const notes = [...(await carryOver(client, database, staging)), ...(await leftBehind(client, database))];
      const replaced = (await databaseOid(client, database)) ?? 0;
      const result = { ...outcome, warnings: [...outcome.warnings, ...notes] };
      await request.onFinished({ ...result, databaseOid: oid, previous: { name: previous, oid: replaced } });
      return result;
    });
    await exchange(maintenance, { applicationName: session.applicationName }, { current: database, next: staging, previous });
    return finished;
  });
}

async function intoEmptyDatabase(
  request: RestoreRequest,
  target: RestoreTarget & { mode: 'url' },
  archive: OpenedArchive,
  meter: ProgressMeter,
): Promise<RestoreOutcome> {
  const { connection } = target;
  const session = { applicationName: applicationName(request.runId), signal: request.signal };
  if (!request.selection.dataOnly) await withClient(connection, session, (client) => assertEmpty(client, connection));
  return restoreInOneTransaction(request, connection, archive, meter, placementOf(target));
}
