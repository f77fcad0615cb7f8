import type { Client } from 'pg';
import { type Assertion, type AssertionResult, runAssertions } from './drill-assertions.js';
import { startCluster } from './drill-cluster.js';
import { type DrillDifference, differencesOf } from './drill-equal.js';
import { type DrillIsolation, type DrillPlace, impossible } from './drill-place.js';
import { openScratch } from './drill-scratch.js';
import { EngineError } from './errors.js';
import { withClient } from './postgres/client.js';
import { quoteName } from './postgres/relations.js';
import type { PgConnection } from './postgres/connection.js';
import type { Progress } from './progress.js';
import { type ArchiveSource, type OpenedArchive, openArchive } from './restore-archive.js';
import { restoreBackup } from './restore.js';
import { createLike } from './restore-target.js';

export interface DrillRequest extends ArchiveSource {
  runId: string;
  /** Folders with server programs that are looked at first. */
  serverBinDirs: readonly string[];
  /** A server on which to make a database, instead of one that is started for this. */
  scratch?: PgConnection;
  /** Restore as a role without rights also where the throwaway server has a user of its own. */
  plainRole?: boolean;
  /** Whether what was restored is to be compared too. */
  compare: boolean;
  /** What must hold in it, when it is equal; empty for nothing. */
  assertions: readonly Assertion[];
  onProgress: (progress: Progress) => void;
}

export interface DrillOutcome {
  /** Of the throwaway server. */
  serverVersion: string;
  /** Measured: from an empty server to a whole database. */
  restoreMs: number;
  tables: number;
  rows: number;
  /** What of the server's surroundings the restore could reach. */
  isolation: DrillIsolation;
  /** Roles whose objects and rights could not be restored there: what is compared is all but those. */
  leftOut: string[];
  /** What could not be brought back as it was, as sentences. */
  warnings: string[];
  /** Null when it was not compared; empty when all is equal. */
  differences: DrillDifference[] | null;
  /** What came of the assertions; null when none was tried. */
  assertions: AssertionResult[] | null;
}

/**
 * Restores a backup into a database that exists for this alone, and compares what came of it. A dump runs its author's code when it is
 * restored: the server has a user of its own that can read none of our files, and no network, or the restore has no rights.
 * @throws EngineError DRILL_IMPOSSIBLE when nothing can be said of the backup, RESTORE_FAILED when it can't be restored; the signal's reason when aborted
 */
export async function drill(request: DrillRequest): Promise<DrillOutcome> {
  const archive = await openArchive(request);
  const place = request.scratch
    ? await openScratch(request.scratch, request.runId, archive, request.signal)
    : await startCluster({ ...request, plainRole: request.plainRole === true }, archive);
  try {
    const session = { applicationName: 'backstay:drill', signal: request.signal };
    await withClient(place.server, session, (client) => assertSuitable(client, place, archive));
    const startedAt = performance.now();
    const outcome = await restoreInto(request, place);
    const restoreMs = Math.round(performance.now() - startedAt);
    if (!outcome.countsEqual) throw countsDiffer(outcome.differences);
    const restored = { ...place.server, database: place.database };
    const differences = request.compare ? await differencesOf(request, archive, restored, place.leaveOut) : null;
    const isAsserted = request.assertions.length > 0 && differences?.length === 0;
    const asserting = place.superuser ? { restored: place.superuser(place.database), asIs: false } : { restored, asIs: true };
    return {
      serverVersion: place.version,
      restoreMs,
      tables: archive.tables.length,
      rows: archive.tables.reduce((rows, table) => rows + table.rows, 0),
      isolation: place.isolation,
      leftOut: [...place.leaveOut].sort(),
      warnings: outcome.warnings,
      differences,
      assertions: isAsserted
        ? await runAssertions(asserting.restored, request.assertions, {
            asIs: asserting.asIs,
            ownUser: place.isolation.ownUser,
            signal: request.signal,
          })
        : null,
    };
  } finally {
    await place.leave();
  }
}

async function assertSuitable(client: Client, { database }: DrillPlace, { manifest }: OpenedArchive): Promise<void> {
  const { rows } = await client.query<{ name: string }>('SELECT name FROM pg_catalog.pg_available_extensions');
  const there = new Set(rows.map(({ name }) => name));
  const missing = manifest.source.extensions.filter(({ name }) => !there.has(name)).map(({ name }) => name);
  if (missing.length > 0)
    throw impossible(
      `The throwaway PostgreSQL lacks the extension${missing.length > 1 ? 's' : ''} ${missing.join(', ')}.`,
      'Install what is missing for the server programs of this machine.',
    );
  try {
    await createLike(client, database, manifest.source);
    await client.query(`DROP DATABASE ${quoteName(database)}`);
  } catch (error) {
    if (error instanceof EngineError) throw impossible(error.message, error.hint, error);
    throw error;
  }
}

function restoreInto(request: DrillRequest, { server, database, leaveOut, isolation }: DrillPlace) {
  return restoreBackup({
    ...request,
    target: { mode: 'new-database', server, database },
    leaveOutRoles: leaveOut,
    selection: {},
    createRoles: false,
    jobs: 2,
    attempt: 1,
    beforeChange: async () => undefined,
    onFinished: async () => undefined,
    onCommitting: async () => undefined,
  }).catch((error: unknown) => {
    const isOurs =
      error instanceof EngineError && (ENVIRONMENT.test(error.message) || (isolation.plainRole && NO_RIGHT.test(error.message)));
    if (isOurs) throw impossible(`The throwaway PostgreSQL could not take the backup: ${error.message}`, error.hint, error);
    throw error;
  });
}

/** What pg_restore says when this machine lacks something that the source's server has. */
const ENVIRONMENT =
  /No space left on device|could not (?:open|access) (?:extension control )?file|could not load library|could not open (?:dictionary|stop-word|thesaurus|affix) file|extension ".*" is not available|collation ".*" for encoding|could not create locale|out of shared memory|no such directory .*tablespace/i;

/** What it says when a role without rights meets what needs them. */
const NO_RIGHT =
  /permission denied|must be superuser|only superuser|must be (?:a )?(?:owner|member)|must be able to SET ROLE|not allowed to|Only roles with/i;

function countsDiffer(
  differences: readonly { schema: string; table: string; expectedRows: number; actualRows: number | null }[],
): EngineError {
  const [first] = differences;
  const what = first
    ? `${first.schema}.${first.table} has ${first.actualRows ?? 'no'} rows instead of ${first.expectedRows}`
    : '';
  return new EngineError(
    'RESTORE_FAILED',
    `The backup was restored, but ${differences.length} tables have other row counts: ${what}.`,
    'Use another backup, and look into what wrote this one.',
  );
}
