import { endSessionsOf } from './backup.js';
import { withClient } from './postgres/client.js';
import type { PgConnection } from './postgres/connection.js';
import { quoteName } from './postgres/relations.js';
import { wasCommitted } from './restore-one-transaction.js';
import { databaseOid, dropDatabase, type RestoreTarget, serverOf } from './restore-target.js';

const STAGING_NAME = /^backstay_(restore_.+)_\d+$/;

/**
 * The name under which an attempt builds a new database. Nobody else's by the run's random part, and no other attempt's: one that was
 * taken for dead and comes back must not touch what its successor builds.
 */
export function stagingName(runId: string, attempt: number): string {
  return `backstay_${runId}_${attempt}`;
}

/** Ends what an attempt that died still does at the target, and drops what it has left there. */
export async function cleanUpRestore(runId: string, target: RestoreTarget): Promise<void> {
  await endSessionsOf(serverOf(target), runId);
  if ('server' in target) await dropStagingOf(target.server, async (owner) => owner === runId);
  if (target.mode === 'side-schema') {
    // Empty, or its transaction was committed: then it is whole, and PostgreSQL refuses.
    const drop = `DROP SCHEMA IF EXISTS ${quoteName(target.schema)}`;
    await withClient(target.connection, { applicationName: 'backstay:recovery' }, (client) => client.query(drop)).catch(
      () => undefined,
    );
  }
}

/** Drops the databases that restores have left behind whose runs are over, as `isOver` says by their ids. */
export async function dropStagingOf(server: PgConnection, isOver: (runId: string) => Promise<boolean>): Promise<void> {
  await withClient(server, { applicationName: 'backstay:recovery' }, async (client) => {
    const { rows } = await client.query<{ datname: string }>(
      `SELECT datname::text FROM pg_catalog.pg_database WHERE datname LIKE 'backstay\\_restore\\_%'`,
    );
    for (const { datname } of rows) {
      const owner = STAGING_NAME.exec(datname)?.[1];
      if (owner !== undefined && (await isOver(owner))) await dropDatabase(client, datname);
    }
  });
}

/** Whether an attempt that died had finished: its database, known by its OID, has the name that was asked for. */
async function hasItsName(server: PgConnection, database: string, finishedOid: number | null): Promise<boolean> {
  if (finishedOid === null) return false;
  const oid = await withClient(server, { applicationName: 'backstay:recovery' }, (client) => databaseOid(client, database));
  return oid === finishedOid;
}

/** Whether an attempt that died had done its work. @throws EngineError when that can't be told now */
export async function isRestored(
  target: RestoreTarget,
  noted: { finishedOid: number | null; transactionId: string | null },
): Promise<boolean> {
  switch (target.mode) {
    case 'new-database':
      return hasItsName(target.server, target.database, noted.finishedOid);
    case 'swap':
      return hasItsName(target.server, target.server.database, noted.finishedOid);
    case 'url':
    case 'in-place':
    case 'side-schema':
      return noted.transactionId !== null && (await wasCommitted(target.connection, noted.transactionId));
  }
}
