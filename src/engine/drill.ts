import type { Client } from 'pg';
import { rolesOf } from './archive/archive-roles.js';
import { type Assertion, type AssertionResult, runAssertions } from './drill-assertions.js';
import { type DrillDifference, differencesOf } from './drill-equal.js';
import { EngineError } from './errors.js';
import { withClient } from './postgres/client.js';
import { quoteName } from './postgres/relations.js';
import { ThrowawayCluster } from './postgres/throwaway-cluster.js';
import type { Progress } from './progress.js';
import { type ArchiveSource, type OpenedArchive, openArchive } from './restore-archive.js';
import { restoreBackup } from './restore.js';
import { createLike } from './restore-target.js';

const DATABASE = 'drill';
/** Enough for a few thousand tables in one transaction. */
const LOCKS = '1024';

/** Something that keeps a backup from being tried here, and says nothing about the backup. */
function impossible(message: string, hint: string, cause?: unknown): EngineError {
  return new EngineError('DRILL_IMPOSSIBLE', message, hint, { cause });
}

export interface DrillRequest extends ArchiveSource {
  runId: string;
  /** Folders with server programs that are looked at first. */
  serverBinDirs: readonly string[];
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
  isolation: { ownUser: boolean; noNetwork: boolean };
  /** What could not be brought back as it was, as sentences. */
  warnings: string[];
  /** Null when it was not compared; empty when all is equal. */
  differences: DrillDifference[] | null;
  /** What came of the assertions; null when none was tried. */
  assertions: AssertionResult[] | null;
}

/**
 * Restores a backup into a PostgreSQL that exists for this alone, and compares what came of it. A dump runs its author's code when it is
 * restored: the server has a user of its own that can read none of our files, and no network.
 * @throws EngineError DRILL_IMPOSSIBLE when nothing can be said of the backup, RESTORE_FAILED when it can't be restored; the signal's reason when aborted
 */
export async function drill(request: DrillRequest): Promise<DrillOutcome> {
  const archive = await openArchive(request);
  const cluster = await startCluster(request, archive);
  try {
    assertIsolated(cluster);
    const server = cluster.connection('postgres');
    await withClient(server, { applicationName: 'backstay:drill', signal: request.signal }, async (client) => {
      await assertSuitable(client, archive);
      await createRoles(client, archive);
    });
    const startedAt = performance.now();
    const outcome = await restoreInto(request, server);
    const restoreMs = Math.round(performance.now() - startedAt);
    if (!outcome.countsEqual) throw countsDiffer(outcome.differences);
    const restored = cluster.connection(DATABASE);
    const differences = request.compare ? await differencesOf(request, archive, restored) : null;
    const isAsserted = request.assertions.length > 0 && differences?.length === 0;
    return {
      serverVersion: cluster.version,
      restoreMs,
      tables: archive.tables.length,
      rows: archive.tables.reduce((rows, table) => rows + table.rows, 0),
      isolation: cluster.isolation,
      warnings: outcome.warnings,
      differences,
      assertions: isAsserted ? await runAssertions(restored, request.assertions, { asIs: false, signal: request.signal }) : null,
    };
  } finally {
    await cluster.stop();
  }
}

async function startCluster({ serverBinDirs, signal }: DrillRequest, archive: OpenedArchive): Promise<ThrowawayCluster> {
  const minMajor = Number.parseInt(archive.manifest.source.serverVersion, 10);
  try {
    return await ThrowawayCluster.start({
      serverBinDirs,
      minMajor,
      maxMajor: archive.programs.major,
      listenTcp: false,
      untrusted: true,
      settings: { max_locks_per_transaction: LOCKS },
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (error instanceof EngineError) throw impossible(error.message, error.hint, error);
    throw error;
  }
}

/** As the superuser of a server that runs under our own user, a dump could read our keys. */
function assertIsolated({ isolation }: ThrowawayCluster): void {
  if (isolation.ownUser) return;
  throw impossible(
    'This server does not run as root: a throwaway PostgreSQL would run as its own user, and a dump that is restored could read what the server can.',
    'Run a worker as root, in a container of its own, for drills.',
  );
}

async function assertSuitable(client: Client, { manifest }: OpenedArchive): Promise<void> {
  const { rows } = await client.query<{ name: string }>('SELECT name FROM pg_catalog.pg_available_extensions');
  const there = new Set(rows.map(({ name }) => name));
  const missing = manifest.source.extensions.filter(({ name }) => !there.has(name)).map(({ name }) => name);
  if (missing.length > 0)
    throw impossible(
      `The throwaway PostgreSQL lacks the extension${missing.length > 1 ? 's' : ''} ${missing.join(', ')}.`,
      'Install what is missing for the server programs of this machine.',
    );
  try {
    await createLike(client, DATABASE, manifest.source);
    await client.query(`DROP DATABASE ${quoteName(DATABASE)}`);
  } catch (error) {
    if (error instanceof EngineError) throw impossible(error.message, error.hint, error);
    throw error;
  }
}

/** Every role that the archive names, without any right: owners and grants can then be put back as they were. */
async function createRoles(client: Client, archive: OpenedArchive): Promise<void> {
  const named = new Set([...rolesOf(archive.toc), ...archive.manifest.source.databaseSettings.flatMap(({ role }) => role ?? [])]);
  const { rows } = await client.query<{ rolname: string }>('SELECT rolname FROM pg_catalog.pg_roles');
  const there = new Set(rows.map(({ rolname }) => rolname));
  for (const role of named) {
    if (there.has(role)) continue;
    if (role.startsWith('pg_'))
      throw impossible(
        `The backup names the predefined role ${role}, which the throwaway PostgreSQL does not have.`,
        'Install newer server programs on this machine.',
      );
    await client.query(`CREATE ROLE ${quoteName(role)}`);
  }
}

function restoreInto(request: DrillRequest, server: ReturnType<ThrowawayCluster['connection']>) {
  return restoreBackup({
    ...request,
    target: { mode: 'new-database', server, database: DATABASE },
    selection: {},
    createRoles: false,
    jobs: 2,
    attempt: 1,
    beforeChange: async () => undefined,
    onFinished: async () => undefined,
    onCommitting: async () => undefined,
  }).catch((error: unknown) => {
    if (error instanceof EngineError && ENVIRONMENT.test(error.message))
      throw impossible(`The throwaway PostgreSQL could not take the backup: ${error.message}`, error.hint, error);
    throw error;
  });
}

/** What pg_restore says when this machine lacks something that the source's server has. */
const ENVIRONMENT =
  /No space left on device|could not (?:open|access) (?:extension control )?file|could not load library|could not open (?:dictionary|stop-word|thesaurus|affix) file|extension ".*" is not available|collation ".*" for encoding|could not create locale|out of shared memory|no such directory .*tablespace/i;

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
