import { type Assertion, type AssertionResult, runAssertions } from './drill-assertions.js';
import { startCluster } from './drill-cluster.js';
import { type DrillDifference, differencesOf } from './drill-equal.js';
import { type DrillLimits, withinDisk } from './drill-limits.js';
import { type DrillIsolation, type DrillPlace, impossible } from './drill-place.js';
import { openScratch } from './drill-scratch.js';
import { hintFor, type SkippedParts, skippedParts, skippedSentence, unavailableExtensions } from './drill-skipped.js';
import { EngineError } from './errors.js';
import { withClient } from './postgres/client.js';
import { quoteName } from './postgres/relations.js';
import type { PgConnection } from './postgres/connection.js';
import { type Progress, ProgressMeter, spanOf } from './progress.js';
import { type ArchiveSource, type OpenedArchive, openArchive } from './restore-archive.js';
import { restoreBackup } from './restore.js';
import { withoutRowsOf } from './restore-selection.js';
import { createLike } from './restore-target.js';

export interface DrillRequest extends ArchiveSource {
  runId: string;
  /** Folders with server programs that are looked at first. */
  serverBinDirs: readonly string[];
  /** A server on which to make a database, instead of one that is started for this. */
  scratch?: PgConnection;
  /** Restore as a role without rights also where the throwaway server has a user of its own. */
  plainRole?: boolean;
  /** What its own server may take of this machine. */
  limits: DrillLimits;
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
  /** What could not be restored there for want of an extension or of rights: what is compared is all but that. */
  skipped: Omit<SkippedParts, 'entries'>;
  /** What could not be brought back as it was, as sentences. */
  warnings: string[];
  /** Null when it was not compared; empty when all is equal. */
  differences: DrillDifference[] | null;
  /** What came of the assertions; null when none was tried. */
  assertions: AssertionResult[] | null;
}

/** Shares of the whole, in percent, by experience. */
const PREPARED = 5;
const RESTORED = 60;
const COMPARED = 95;

/**
 * Restores a backup into a database that exists for this alone, and compares what came of it. A dump runs its author's code when it is
 * restored: the server has a user of its own that can read none of our files, and no network, or the restore has no rights. The stored
 * bytes must have been checked.
 * @throws EngineError DRILL_IMPOSSIBLE when nothing can be said of the backup, RESTORE_FAILED when it can't be restored; the signal's reason when aborted
 */
export async function drill(request: DrillRequest): Promise<DrillOutcome> {
  new ProgressMeter(request.onProgress).begin('drill');
  const archive = await openArchive(request);
  const place = request.scratch
    ? await openScratch(request.scratch, request.runId, archive, request.signal)
    : await startCluster({ ...request, plainRole: request.plainRole === true }, archive);
  try {
    return await withinDisk(place.folder, request.limits, request.signal, (signal) =>
      drillIn(place, { ...request, signal }, archive),
    );
  } catch (error) {
    if (error instanceof EngineError && ENVIRONMENT_CODES.has(error.code) && !request.signal.aborted) throw couldNotTake(error);
    throw error;
  } finally {
    await place.leave();
  }
}

async function drillIn(place: DrillPlace, request: DrillRequest, archive: OpenedArchive): Promise<DrillOutcome> {
  const skipped = await tryOut(place, request, archive);
  const startedAt = performance.now();
  const restoring = { ...request, onProgress: spanOf(request.onProgress, PREPARED, request.compare ? RESTORED : COMPARED) };
  const outcome = await restoreInto(restoring, place, skipped);
  const restoreMs = Math.round(performance.now() - startedAt);
  if (!outcome.countsEqual) throw countsDiffer(outcome.differences);
  const restored = { ...place.server, database: place.database };
  const differences = request.compare ? await compare(request, archive, restored, place, skipped) : null;
  const isWhole = differences?.length === 0 && skipped.entries.size === 0;
  const assertions = request.assertions.length > 0 && isWhole ? await assertIn(request, restored, place) : null;
  const tables = withoutRowsOf(archive.toc, archive.tables, skipped.entries);
  return {
    serverVersion: place.version,
    restoreMs,
    tables: tables.length,
    rows: tables.reduce((rows, table) => rows + table.rows, 0),
    isolation: place.isolation,
    leftOut: [...place.leaveOut].sort(),
    skipped: { extensions: skipped.extensions, forbidden: skipped.forbidden, dependents: skipped.dependents },
    warnings: outcome.warnings,
    differences,
    assertions,
  };
}

function compare(
  request: DrillRequest,
  archive: OpenedArchive,
  restored: PgConnection,
  { leaveOut: roles }: DrillPlace,
  { entries }: SkippedParts,
): Promise<DrillDifference[]> {
  const meter = new ProgressMeter(spanOf(request.onProgress, RESTORED, COMPARED));
  meter.begin('drill compare', archive.artifact.plainBytes);
  return differencesOf(request, archive, restored, { roles, entries }, (bytes) => meter.passed(bytes));
}

function assertIn(request: DrillRequest, restored: PgConnection, place: DrillPlace): Promise<AssertionResult[]> {
  new ProgressMeter(spanOf(request.onProgress, COMPARED, COMPARED)).begin('assertions');
  const { superuser, database, isolation } = place;
  return runAssertions(superuser ? superuser(database) : restored, request.assertions, {
    asIs: superuser === null,
    ownUser: isolation.ownUser,
    signal: request.signal,
  });
}

/**
 * Makes an empty database like the one that is to come, and drops it: whether the locale is to be had here, and which extensions.
 * @throws EngineError DRILL_IMPOSSIBLE
 */
async function tryOut({ server, database, isolation }: DrillPlace, { signal }: DrillRequest, { manifest, toc }: OpenedArchive) {
  const session = { applicationName: 'backstay:drill', signal };
  return withClient(server, session, async (client) => {
    try {
      await createLike(client, database, manifest.source);
    } catch (error) {
      if (error instanceof EngineError) throw impossible(error.message, error.hint, error);
      throw error;
    }
    const extensions = await unavailableExtensions({ ...server, database }, toc, session);
    await client.query(`DROP DATABASE ${quoteName(database)}`);
    return skippedParts(toc, extensions, !isolation.plainRole);
  });
}

function restoreInto(request: DrillRequest, { server, database, leaveOut, isolation }: DrillPlace, skipped: SkippedParts) {
  return restoreBackup({
    ...request,
    target: { mode: 'new-database', server, database },
    leaveOutRoles: leaveOut,
    leaveOutEntries: skipped.entries,
    isChecked: true,
    selection: {},
    createRoles: false,
    jobs: 2,
    attempt: 1,
    beforeChange: async () => undefined,
    onFinished: async () => undefined,
    onCommitting: async () => undefined,
  }).catch((error: unknown) => {
    if (!(error instanceof EngineError) || request.signal.aborted) throw error;
    const isOurs = ENVIRONMENT.test(error.message) || (isolation.plainRole && NO_RIGHT.test(error.message));
    if (isOurs) throw couldNotTake(error);
    // Something may need what was left out in a way that pg_dump has not noted.
    if (error.code !== 'RESTORE_FAILED' || skipped.entries.size === 0) throw error;
    throw impossible(
      `${skippedSentence(skipped)} Without that, the backup could not be restored: ${error.message}`,
      hintFor(skipped),
      error,
    );
  });
}

function couldNotTake(error: EngineError): EngineError {
  const isMemory = /out of memory/.test(error.message);
  return impossible(
    `The throwaway PostgreSQL could not take the backup: ${error.message}`,
    isMemory ? 'Raise DRILL_MEMORY_LIMIT_BYTES: a process of its server had used up what that allows.' : error.hint,
    error,
  );
}

/** Failures that say something of the throwaway server, and nothing of the backup. */
const ENVIRONMENT_CODES = new Set(['DISK_FULL', 'LOCKS_EXHAUSTED', 'SOURCE_UNREACHABLE', 'RUN_TIMEOUT']);

/** What pg_restore says when this machine lacks something that the source's server has. */
const ENVIRONMENT =
  /No space left on device|could not (?:open|access) (?:extension control )?file|could not load library|could not open (?:dictionary|stop-word|thesaurus|affix) file|extension ".*" is not available|collation ".*" for encoding|could not create locale|out of (?:shared )?memory|no such directory .*tablespace/i;

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
