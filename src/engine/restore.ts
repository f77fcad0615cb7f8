import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Client } from 'pg';
import { ArchiveInspector } from './archive/archive-inspector.js';
import { rolesOf, withoutRoles } from './archive/archive-roles.js';
import { readToc } from './archive/header-only.js';
import type { ArchiveToc } from './archive/toc.js';
import { checkArtifact, readArtifactPlain } from './artifact/artifact-reader.js';
import { loadManifest } from './artifact/load-manifest.js';
import type { Manifest, ManifestArtifact, TableDigest } from './artifact/manifest.js';
import { openTables } from './artifact/sealed-tables.js';
import { applicationName } from './backup.js';
import { EngineError } from './errors.js';
import { chooseClientPrograms, type ClientPrograms, findClientPrograms, parseVersion } from './postgres/client-programs.js';
import { withClient } from './postgres/client.js';
import { describeConnection, type PgConnection } from './postgres/connection.js';
import { databaseArgument, withPgEnvironment } from './postgres/environment.js';
import { programError } from './postgres/program-error.js';
import { startProgram } from './postgres/run-program.js';
import { type Progress, ProgressMeter } from './progress.js';
import { compareCounts, type CountDifference } from './restore-check.js';
import {
  applyDatabaseSettings,
  assertDatabaseName,
  assertEmpty,
  createLike,
  databaseOid,
  dropDatabase,
  renameDatabase,
  type RestoreTarget,
  targetExists,
} from './restore-target.js';
import type { ArtifactStore } from './store/artifact-store.js';
import { stagingName } from './restore-staging.js';
import { backupPrefix, type BackupIds, objectKey } from './store/layout.js';
import { withTemporaryFolder } from './temporary-folder.js';

export interface RestoreRequest {
  runId: string;
  ids: BackupIds;
  target: RestoreTarget;
  store: ArtifactStore;
  /** Keys that a manifest may be signed by. */
  verifyingKeys: readonly string[];
  /** age secrets. */
  identities: readonly string[];
  programs: { binDirs: readonly string[]; requirePatched: boolean };
  /** Parallel jobs for indexes and constraints, where the mode allows it. */
  jobs: number;
  /** 1 for the first. A later one may find its target filled already: by an attempt that died just after its commit. */
  attempt: number;
  signal: AbortSignal;
  onProgress: (progress: Progress) => void;
  /** Called before anything is changed at the target; throws when the run is no longer ours. */
  beforeChange: () => Promise<void>;
  /** Called when the new database is whole, just before it gets its name. */
  onFinished: (outcome: RestoreOutcome & { databaseOid: number }) => Promise<void>;
}

export interface RestoreOutcome {
  countsEqual: boolean;
  differences: CountDifference[];
  /** What could not be brought back as it was, as sentences. */
  warnings: string[];
}

/**
 * Restores the component `database`. Before anything is changed, the signature and every artifact's hash are checked. A restore that
 * fails leaves the target as it was: a new database is built under another name and dropped, an empty one is filled in one transaction.
 * @throws EngineError; the signal's reason when it is aborted
 */
export async function restoreBackup(request: RestoreRequest): Promise<RestoreOutcome> {
  const { signal, target } = request;
  const meter = new ProgressMeter(request.onProgress);
  try {
    const work = await prepare(request, meter);
    return target.mode === 'new-database'
      ? await intoNewDatabase(request, target, work, meter)
      : await intoEmptyDatabase(request, target.connection, work, meter);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw error;
  }
}

interface Work {
  manifest: Manifest;
  artifact: ManifestArtifact;
  key: string;
  toc: ArchiveToc;
  originalHeader: Buffer;
  expected: TableDigest[];
  programs: ClientPrograms;
}

async function prepare(request: RestoreRequest, meter: ProgressMeter): Promise<Work> {
  const { store, ids, signal, identities } = request;
  const prefix = backupPrefix(ids);
  const { manifest } = await loadManifest(store, prefix, request.verifyingKeys, ids, signal);
  const artifact = manifest.artifacts.find((candidate) => candidate.component === 'database');
  if (!artifact)
    throw new EngineError(
      'TARGET_REFUSED',
      `The backup ${ids.backup} has no component database.`,
      'Restore another backup; the files of this one can be downloaded.',
    );
  meter.begin(
    'check',
    manifest.artifacts.reduce((bytes, each) => bytes + each.storedBytes, 0),
  );
  let before = 0;
  for (const each of manifest.artifacts) {
    await checkArtifact({
      store,
      key: objectKey(prefix, each.name),
      name: each.name,
      expected: each,
      signal,
      onBytes: (bytes) => meter.passed(before + bytes),
    });
    before += each.storedBytes;
  }
  const { tables } = await openTables(manifest, identities);
  const key = objectKey(prefix, artifact.name);
  const { toc, header } = await readToc(await readArtifactPlain({ store, key, name: artifact.name, identities, signal }));
  // An archive can be read by the pg_restore of its own version and by newer ones.
  const dumpMajor = parseVersion(`(PostgreSQL) ${toc.dumpVersion}`)?.major ?? Number.parseInt(toc.dumpVersion, 10);
  const programs = chooseClientPrograms(await findClientPrograms({ binDirs: request.programs.binDirs }), dumpMajor, {
    requirePatched: request.programs.requirePatched,
  });
  return { manifest, artifact, key, toc, originalHeader: header, expected: tables, programs };
}

async function intoNewDatabase(
  request: RestoreRequest,
  target: RestoreTarget & { mode: 'new-database' },
  work: Work,
  meter: ProgressMeter,
): Promise<RestoreOutcome> {
  const { server, database } = target;
  const staging = stagingName(request.runId, request.attempt);
  const session = { applicationName: applicationName(request.runId), signal: request.signal };
  assertDatabaseName(database);
  const taken = await withClient(server, session, (client) => databaseOid(client, database));
  if (taken !== null) throw targetExists(database);
  const connection = { ...server, database: staging };
  try {
    await withClient(server, session, async (client) => {
      await request.beforeChange();
      await createLike(client, staging, work.manifest.source);
    });
    // Names of roles have no encoding of their own: they are spelt as in the archive where the database has its encoding.
    const adapted = await withClient(connection, session, (client) => adaptToRoles(client, work));
    await withSchemaArchive(adapted.header, async (file) => {
      const section = (name: string, ...more: string[]) => runRestore(request, work, connection, [`--section=${name}`, ...more]);
      meter.begin('pre-data');
      await section('pre-data', file);
      await streamData(request, work, adapted.header, connection, ['--section=data'], meter);
      meter.begin('post-data');
      await section('post-data', `--jobs=${request.jobs}`, file);
    });
    const checked = await check(connection, session, work, meter);
    const warnings = [
      ...adapted.warnings,
      ...(await withClient(server, session, (client) =>
        applyDatabaseSettings(client, staging, work.manifest.source.databaseSettings),
      )),
    ];
    const outcome = { ...checked, warnings };
    await withClient(server, session, async (client) => {
      await request.onFinished({ ...outcome, databaseOid: (await databaseOid(client, staging)) ?? 0 });
      await renameDatabase(client, staging, database);
    });
    return outcome;
  } catch (error) {
    // The signal may be aborted already: this session has none.
    await withClient(server, { applicationName: session.applicationName }, (client) => dropDatabase(client, staging)).catch(
      () => undefined,
    );
    throw error;
  }
}

async function intoEmptyDatabase(
  request: RestoreRequest,
  connection: PgConnection,
  work: Work,
  meter: ProgressMeter,
): Promise<RestoreOutcome> {
  const session = { applicationName: applicationName(request.runId), signal: request.signal };
  const adapted = await withClient(connection, session, async (client) => {
    const roles = await adaptToRoles(client, work);
    const found = request.attempt > 1 && (await isFilled(client, work)) ? 'filled' : 'empty';
    if (found === 'empty') {
      await assertEmpty(client, connection);
      await assertEnoughLocks(client, work.toc, connection);
    }
    return { ...roles, found };
  });
  if (adapted.found === 'empty') {
    await request.beforeChange();
    await streamData(request, work, adapted.header, connection, ['--single-transaction'], meter);
  }
  return checkCommitted(connection, session.applicationName, work, meter, adapted.warnings);
}

/**
 * Whether the target, which was empty when the restore was asked for, holds every table with the rows of the manifest: then the
 * transaction of an attempt that died was committed.
 */
async function isFilled(client: Client, work: Work): Promise<boolean> {
  if (work.expected.length === 0) return false;
  return (await compareCounts(client, work.expected, () => undefined)).length === 0;
}

/** What is committed can't be taken back any more: no cancel, and no failure to compare, makes it a restore that failed. */
async function checkCommitted(
  connection: PgConnection,
  applicationName: string,
  work: Work,
  meter: ProgressMeter,
  warnings: string[],
): Promise<RestoreOutcome> {
  try {
    return { ...(await check(connection, { applicationName }, work, meter)), warnings };
  } catch (error) {
    const why = error instanceof EngineError ? error.message : 'the server refused a statement.';
    const warning = `The restore is committed, but its rows could not be compared with the manifest: ${why}`;
    return { countsEqual: false, differences: [], warnings: [...warnings, warning] };
  }
}

/** Owners and rights are kept where the roles exist; what falls to others is named. */
async function adaptToRoles(client: Client, work: Work): Promise<{ header: Buffer; warnings: string[] }> {
  const { rows } = await client.query<{ rolname: string }>('SELECT rolname FROM pg_catalog.pg_roles');
  const there = new Set(rows.map((row) => row.rolname));
  const missing = new Set([...rolesOf(work.toc)].filter((role) => !there.has(role)));
  if (missing.size === 0) return { header: work.originalHeader, warnings: [] };
  const { header, changes } = withoutRoles(work.originalHeader, work.toc, missing);
  const warnings = [...missing].sort().map((role) => {
    const of = changes.filter((change) => change.role === role);
    return `The role ${JSON.stringify(role)} does not exist at the target: ${of.length} owners, grants or policies of it were left out or fell to the role that restores. Create it before the restore to keep them.`;
  });
  return { header, warnings };
}

/** Data goes from the store into pg_restore as it is decrypted; its tables are counted and hashed again on the way. */
async function streamData(
  request: RestoreRequest,
  work: Work,
  header: Buffer,
  connection: PgConnection,
  args: string[],
  meter: ProgressMeter,
): Promise<void> {
  meter.begin('data', work.artifact.plainBytes);
  const inspector = new ArchiveInspector();
  const plain = await readArtifactPlain({
    store: request.store,
    key: work.key,
    name: work.artifact.name,
    identities: request.identities,
    expected: work.artifact,
    signal: request.signal,
  });
  const told = async function* (archive: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let bytes = 0;
    for await (const chunk of archive) {
      bytes += chunk.length;
      meter.tables(inspector.tablesDone, inspector.tablesTotal ?? 0);
      meter.passed(bytes);
      yield chunk;
    }
  };
  const swapped = (archive: AsyncIterable<Buffer>) => withHeader(archive, work.originalHeader.length, header);
  const sound = (archive: AsyncIterable<Buffer>) => endsWhen(archive, () => assertTables(inspector, work));
  await runRestore(request, work, connection, args, (stdin) =>
    pipeline([plain, inspector, told, swapped, sound, stdin] as never, { signal: request.signal }),
  );
}

/**
 * Keeps the last chunk back until everything before it, hashes and all, was found sound: pg_restore can't come to the end of an
 * archive, and commit, while it is still open whether that is the one of the manifest.
 */
async function* endsWhen(archive: AsyncIterable<Buffer>, assertSound: () => void): AsyncGenerator<Buffer> {
  let last: Buffer | undefined;
  for await (const chunk of archive) {
    if (chunk.length === 0) continue;
    if (last) yield last;
    last = chunk;
  }
  assertSound();
  if (last) yield last;
}

/** @throws EngineError ARTIFACT_CORRUPT when a table of the archive that was just read is not the manifest's */
function assertTables(inspector: ArchiveInspector, { expected }: Work): void {
  const read = inspector.summary().tables;
  const differing = read.find((table, index) => table.sha256 !== expected[index]?.sha256 || table.name !== expected[index]?.name);
  if (!differing && read.length === expected.length) return;
  throw new EngineError(
    'ARTIFACT_CORRUPT',
    `The archive's table ${differing?.name ?? ''} is not the one of the manifest.`,
    'Use another backup, and find out who changed this one.',
  );
}

/** The archive with another header in front of its data. */
async function* withHeader(archive: AsyncIterable<Buffer>, oldBytes: number, header: Buffer): AsyncGenerator<Buffer> {
  yield header;
  let left = oldBytes;
  for await (const chunk of archive) {
    if (left >= chunk.length) left -= chunk.length;
    else {
      yield left > 0 ? chunk.subarray(left) : chunk;
      left = 0;
    }
  }
}

async function runRestore(
  request: RestoreRequest,
  work: Work,
  connection: PgConnection,
  args: string[],
  feed?: (stdin: NodeJS.WritableStream) => Promise<void>,
): Promise<void> {
  await withPgEnvironment(connection, { applicationName: applicationName(request.runId) }, async (env) => {
    const program = startProgram(
      work.programs.pgRestore,
      ['--exit-on-error', '--no-tablespaces', '--no-password', '-d', databaseArgument(connection.database), ...args],
      {
        env,
        signal: request.signal,
        stdin: feed ? 'pipe' : 'ignore',
      },
    );
    program.stdout.resume();
    // A pg_restore that stops breaks the pipe to it: what it says is the cause, unless our own side failed first.
    const fed =
      feed && program.stdin
        ? feed(program.stdin).then(
            () => undefined,
            (error: unknown) => error,
          )
        : undefined;
    const failed = await program.done.then(
      () => undefined,
      (error: unknown) => error,
    );
    const feedError = await fed;
    if (feedError instanceof EngineError) throw feedError;
    if (failed) throw programError('pg_restore', failed, { connection });
    if (feedError && !isBrokenPipe(feedError)) throw feedError;
  });
}

function isBrokenPipe(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EPIPE' || code === 'ERR_STREAM_PREMATURE_CLOSE' || code === 'ECONNRESET';
}

async function check(
  connection: PgConnection,
  session: { applicationName: string; signal?: AbortSignal },
  work: Work,
  meter: ProgressMeter,
): Promise<Omit<RestoreOutcome, 'warnings'>> {
  meter.begin('analyze');
  return withClient(connection, session, async (client) => {
    await client.query('ANALYZE');
    meter.begin('compare');
    const differences = await compareCounts(client, work.expected, (done) => meter.tables(done, work.expected.length));
    return { countsEqual: differences.length === 0, differences };
  });
}

/** In one transaction each relation keeps its lock to the end. @throws EngineError LOCKS_EXHAUSTED */
async function assertEnoughLocks(client: Client, toc: ArchiveToc, connection: PgConnection): Promise<void> {
  const { rows } = await client.query<{ capacity: string; each: string }>(
    `SELECT current_setting('max_locks_per_transaction')::bigint * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint) AS capacity, current_setting('max_locks_per_transaction') AS each`,
  );
  const capacity = Number(rows[0]?.capacity ?? 0);
  // A table comes with its TOAST table and that one's index.
  const weights: Record<string, number> = { TABLE: 3, INDEX: 1, CONSTRAINT: 1, SEQUENCE: 1, VIEW: 1, 'MATERIALIZED VIEW': 3 };
  const needed = toc.entries.reduce((sum, entry) => sum + (weights[entry.desc] ?? 0), 0);
  if (needed <= capacity) return;
  const wanted = Math.ceil((Number(rows[0]?.each ?? 64) * needed * 1.1) / capacity);
  throw new EngineError(
    'LOCKS_EXHAUSTED',
    `A restore into ${describeConnection(connection)} in one transaction takes about ${needed} locks, and its server has room for ${capacity}.`,
    `Raise max_locks_per_transaction to ${wanted} and restart that server, or restore by mode new-database.`,
  );
}

/** A file with the schema alone, in a folder that only we can enter; gone afterwards. */
async function withSchemaArchive<T>(header: Buffer, use: (file: string) => Promise<T>): Promise<T> {
  return withTemporaryFolder(async (folder) => {
    const file = join(folder, 'schema.toc');
    await writeFile(file, header, { mode: 0o600 });
    return use(file);
  });
}
