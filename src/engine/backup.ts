import { createHash } from 'node:crypto';
import { type Readable, Transform } from 'node:stream';
import { ArchiveInspector } from './archive/archive-inspector.js';
import type { ArchiveSummary } from './archive/archive-reader.js';
import { artifactName } from './artifact/artifact-name.js';
import { writeArtifact, type WriteArtifactOptions } from './artifact/artifact-writer.js';
import { BatchPool } from './artifact/batch-pool.js';
import { loadManifest } from './artifact/load-manifest.js';
import { encodeManifest } from './artifact/manifest-codec.js';
import {
  MANIFEST_FORMAT_VERSION,
  type Manifest,
  type ManifestArtifact,
  type Omission,
  type TableDigest,
} from './artifact/manifest.js';
import { sealTables } from './artifact/sealed-tables.js';
import { signManifest } from './artifact/signature.js';
import { packConfig, resolveConfigPaths } from './config-files.js';
import { EngineError } from './errors.js';
import { type ClientPrograms, chooseClientPrograms, findClientPrograms } from './postgres/client-programs.js';
import { withClient } from './postgres/client.js';
import { describeConnection, type PgConnection } from './postgres/connection.js';
import { withPgEnvironment } from './postgres/environment.js';
import { collectDatabaseConfig, dumpGlobals, mayReadPasswords } from './postgres/globals.js';
import { inspectSource, lockShortage, type SourceInspection } from './postgres/inspect-source.js';
import { listStoredRelations, omissionsOf } from './postgres/omissions.js';
import { type PgProgram, programError } from './postgres/program-error.js';
import { estimateTables, type Exclusions, quoteName, relationKey } from './postgres/relations.js';
import { openProgramOutput } from './postgres/program-output.js';
import { type RunningProgram, startProgram } from './postgres/run-program.js';
import { checkPinnedSettings, PINNED_SETTINGS } from './postgres/settings.js';
import { withStatementLimit } from './postgres/statement-limit.js';
import { type Progress, ProgressMeter } from './progress.js';
import { tellWhenHeld } from './snapshot-watch.js';
import type { Spool } from './spool/spool.js';
import { SpoolStore } from './spool/spool-store.js';
import { packStorage, type StorageSource } from './storage/pack-storage.js';
import type { StorageSummary } from './storage/storage-objects.js';
import type { ArtifactStore } from './store/artifact-store.js';
import { renameSegments, storedBytes } from './store/segments.js';
import type { StagingStore } from './store/tee-store.js';
import { attemptPrefix, backupPrefix, type BackupIds, MANIFEST_NAME, objectKey, SIGNATURE_NAME } from './store/layout.js';

/** What to back up, where to, and under whose keys. */
export interface BackupRequest {
  ids: BackupIds;
  /** Names this attempt's folder; never used twice for one backup. */
  attempt: string;
  source: {
    name: string;
    connection: PgConnection;
    excludeSchemas: readonly string[];
    /** Exact names. */
    excludeTables: readonly { schema: string; name: string }[];
    lockTimeoutMs: number;
    statementTimeoutMs: number;
    maxRunMs: number;
    configPaths: readonly string[];
    /** The Storage of the project, for the component `storage`. */
    storage?: StorageSource;
  };
  type: 'full' | 'database' | 'config';
  components: readonly ('database' | 'storage' | 'config')[];
  compress: boolean;
  /** Whether the roles come with their passwords, as the server keeps them (hashed); goes into the component config. */
  includePasswords?: boolean;
  /** Folders that configPaths may name. */
  configRoots: readonly string[];
  programs: { binDirs: readonly string[]; requirePatched: boolean };
  store: StagingStore;
  /** Takes the dump at the speed of a disk, so that a slow store does not hold the source's snapshot; none writes to the store at once. */
  spool?: Spool;
  /** How long the dump may hold its snapshot before `onWarning` is told; 0 for as long as it takes. */
  snapshotWarningMs: number;
  recipients: readonly string[];
  signingKeyPem: string;
  /** SHA-256 of the source's manifest before this one. */
  previousManifestSha256: string | null;
  backstayVersion: string;
  signal: AbortSignal;
  onProgress: (progress: Progress) => void;
  /** Is told, in a sentence, of what does not keep the backup from being made, yet should be known. */
  onWarning: (warning: string) => void;
}

/** A backup whose artifacts are stored under the attempt's folder, and whose manifest is ready to be written. */
export interface StagedBackup {
  ids: BackupIds;
  attemptPrefix: string;
  manifest: Manifest;
  manifestBytes: Buffer;
  manifestSha256: string;
  signature: Buffer;
  tables: TableDigest[];
}

/** Free space below this share of the database's size is too little, whatever the compression. */
const LEAST_FREE_SHARE = 0.02;
const LEAST_FREE_BYTES = 16 * 1024 * 1024;
/** How much of a backup is done, in percent, when all of it is in the spool. */
const SPOOLED_PERCENT = 20;

/**
 * Dumps, hashes, compresses, encrypts and stores every component under the attempt's folder. Commits nothing: see `commitBackup`.
 * @throws EngineError; RUN_TIMEOUT past maxRunMs; the signal's reason when it is aborted
 */
export async function stageBackup(request: BackupRequest): Promise<StagedBackup> {
  const { source } = request;
  const deadline = AbortSignal.timeout(source.maxRunMs);
  const signal = AbortSignal.any([request.signal, deadline]);
  try {
    return await stageThroughSpool({ ...request, signal });
  } catch (error) {
    if (request.signal.aborted) throw request.signal.reason;
    if (!deadline.aborted) throw error;
    throw new EngineError(
      'RUN_TIMEOUT',
      `The backup of ${describeConnection(source.connection)} took longer than its limit of ${Math.round(source.maxRunMs / 1000)} s.`,
      "Raise the source's maxRunMs, or find out what slows the dump down.",
      { cause: error },
    );
  }
}

async function stageThroughSpool(request: BackupRequest): Promise<StagedBackup> {
  const { spool, store, signal } = request;
  if (!spool) return stage(request);
  const spooled = new SpoolStore(store, spool, signal, () =>
    request.onWarning(
      `The disk of the spool folder has no room left, so that the backup of ${describeConnection(request.source.connection)} went on at the pace of its destinations.`,
    ),
  );
  try {
    return await stage({ ...request, store: spooled }, spooled);
  } finally {
    await spooled.close();
  }
}

/** @param spooled the store, where it is a spool */
async function stage(request: BackupRequest, spooled?: SpoolStore): Promise<StagedBackup> {
  const startedAt = new Date();
  const { source, ids, signal } = request;
  const meter = new ProgressMeter(request.onProgress);
  meter.begin('preflight');
  const configPaths = request.components.includes('config')
    ? await resolveConfigPaths(source.configPaths, request.configRoots)
    : [];
  const inspection = await inspectSource(source.connection, {
    signal,
    applicationName: applicationName(ids.backup),
    exclusions: exclusionsOf(source),
  });
  const programs = chooseClientPrograms(await findClientPrograms({ binDirs: request.programs.binDirs }), inspection.serverMajor, {
    requirePatched: request.programs.requirePatched,
  });
  await preflight(request, inspection);
  if (request.includePasswords) await assertMayReadPasswords(request);
  // With a spool, the way to the destinations comes after it, and is the longer one.
  const dumpedAt = spooled ? SPOOLED_PERCENT : 100;
  const writing: Writing = { request, prefix: attemptPrefix(ids, request.attempt), programs, meter, dumpedAt };
  const artifacts: ManifestArtifact[] = [];
  const dump = request.components.includes('database') ? await dumpDatabase(writing, artifacts, inspection.encoding) : undefined;
  const storage = request.components.includes('storage') ? await dumpStorage(writing, artifacts) : undefined;
  if (request.components.includes('config')) await dumpConfig(writing, configPaths, artifacts);
  if (spooled) {
    meter.begin('upload', spooled.bytes);
    await spooled.settle((bytes) => meter.passed(bytes));
  }
  meter.begin('manifest');
  const tables = dump?.tables ?? [];
  const manifest: Manifest = {
    formatVersion: MANIFEST_FORMAT_VERSION,
    ids,
    createdAt: startedAt.toISOString(),
    previousManifestSha256: request.previousManifestSha256,
    type: request.type,
    source: {
      name: source.name,
      kind: source.storage ? 'supabase' : 'postgres',
      database: source.connection.database,
      serverVersion: inspection.serverVersion,
      encoding: inspection.encoding,
      collate: inspection.collate,
      ctype: inspection.ctype,
      localeProvider: inspection.localeProvider,
      locale: inspection.icuLocale,
      extensions: inspection.extensions,
      tablespaces: inspection.tablespaces,
      databaseSettings: inspection.databaseSettings,
    },
    tools: { pgDump: dump ? programs.version : null, backstay: request.backstayVersion, node: process.version },
    pinnedSettings: Object.entries(PINNED_SETTINGS).map(([name, value]) => ({ name, value })),
    exclusions: {
      schemas: [...source.excludeSchemas],
      tables: source.excludeTables.map(({ schema, name }) => `${quoteName(schema)}.${quoteName(name)}`),
    },
    omissions: [...(dump?.omissions ?? []), ...(storage?.omissions ?? [])],
    dump: dump ? { startedAt: dump.startedAt.toISOString(), finishedAt: dump.finishedAt.toISOString() } : null,
    components: [...request.components],
    artifacts,
    totals: { tableCount: tables.length, rowCount: tables.reduce((rows, table) => rows + table.rows, 0) },
    largeObjects: { count: dump?.largeObjects?.count ?? 0, bytes: dump?.largeObjects?.bytes ?? 0 },
    storage: storage ? countsOf(storage.summary) : null,
    recipients: [...request.recipients],
    tables: await sealTables(
      {
        tables,
        largeObjectsSha256: dump?.largeObjects?.sha256 ?? null,
        storageSha256: storage?.summary.sha256 ?? null,
      },
      request.recipients,
    ),
  };
  const manifestBytes = encodeManifest(manifest);
  return {
    ids,
    attemptPrefix: writing.prefix,
    manifest,
    manifestBytes,
    manifestSha256: createHash('sha256').update(manifestBytes).digest('hex'),
    signature: signManifest(manifestBytes, request.signingKeyPem),
    tables,
  };
}

/**
 * Puts a staged backup into place: artifacts, signature, and last the manifest, which is read back. The caller holds the run, so that no
 * other worker is in the same folder.
 * @throws EngineError when anything is not as it was written
 */
export async function commitBackup(
  staged: StagedBackup,
  store: ArtifactStore,
  verifyingKeys: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await placeArtifacts(staged, store, signal);
  await commitManifest(staged, store, verifyingKeys, signal);
}

/** The first half of `commitBackup`, which takes long where a store has no rename: the artifacts go to where they belong. */
export async function placeArtifacts(staged: StagedBackup, store: ArtifactStore, signal: AbortSignal): Promise<void> {
  const prefix = backupPrefix(staged.ids);
  for (const artifact of staged.manifest.artifacts) {
    const [from, to] = [objectKey(staged.attemptPrefix, artifact.name), objectKey(prefix, artifact.name)];
    await renameSegments(store, from, to, artifact.storedBytes, { signal });
    const stored = await storedBytes(store, to, artifact.storedBytes, { signal });
    if (stored !== artifact.storedBytes) {
      throw new EngineError(
        'STORE_FAILED',
        `The destination holds ${stored ?? 'no'} bytes of ${artifact.name} instead of ${artifact.storedBytes}.`,
        'Check the destination, then run the backup again.',
      );
    }
  }
}

/** The second half of `commitBackup`: from here on it is a backup. */
export async function commitManifest(
  staged: StagedBackup,
  store: ArtifactStore,
  verifyingKeys: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const prefix = backupPrefix(staged.ids);
  await store.write(objectKey(prefix, SIGNATURE_NAME), once(staged.signature), { signal, overwrite: true });
  await store.write(objectKey(prefix, MANIFEST_NAME), once(staged.manifestBytes), { signal, overwrite: true });
  const read = await loadManifest(store, prefix, verifyingKeys, staged.ids, signal);
  if (read.sha256 !== staged.manifestSha256) {
    throw new EngineError(
      'STORE_FAILED',
      'The manifest that the destination gives back is not the one that was written.',
      'Check the destination, then run the backup again.',
    );
  }
  await store.removeTree(staged.attemptPrefix, { signal });
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

/** How the sessions of a run are named, so that they can be found when their server has died. */
export function applicationName(runId: string): string {
  return `backstay:${runId}`;
}

/** Ends the sessions of a run whose server has died, or of an attempt that is over. @throws EngineError when the server can't be entered */
export async function endSessionsOf(connection: PgConnection, runId: string): Promise<void> {
  await withClient(connection, { applicationName: 'backstay:recovery', statementTimeoutMs: 10_000 }, (client) =>
    client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
        WHERE application_name = $1 AND usename = current_user AND pid <> pg_backend_pid()`,
      [applicationName(runId)],
    ),
  );
}

/** pg_dumpall would stop at it, when the database is dumped already. @throws EngineError PRIVILEGE_MISSING */
async function assertMayReadPasswords({ source, ids, signal }: BackupRequest): Promise<void> {
  if (await withClient(source.connection, { applicationName: applicationName(ids.backup), signal }, mayReadPasswords)) return;
  throw new EngineError(
    'PRIVILEGE_MISSING',
    `User "${source.connection.user}" at ${describeConnection(source.connection)} may not read the passwords of roles.`,
    'Back up without includePasswords, or as a superuser: managed services as a rule let nobody read them.',
  );
}

async function preflight(request: BackupRequest, inspection: SourceInspection): Promise<void> {
  const where = describeConnection(request.source.connection);
  if (inspection.poolerSuspected)
    throw new EngineError(
      'POOLER_UNSUITABLE',
      inspection.poolerSuspected,
      'Connect to the database directly, or through a session pooler on port 5432.',
    );
  const free = await request.store.freeBytes({ signal: request.signal });
  const needed = Math.max(LEAST_FREE_BYTES, inspection.sizeBytes * LEAST_FREE_SHARE);
  if (free !== null && free < needed) {
    throw new EngineError(
      'DISK_FULL',
      `The destination has ${free} bytes free; a backup of ${where} (${inspection.sizeBytes} bytes on its server) needs ${Math.ceil(needed)} at the very least.`,
      'Free space at the destination, or delete old backups.',
    );
  }
  if (!request.components.includes('database')) return;
  const shortage = lockShortage(inspection);
  if (shortage)
    throw new EngineError('LOCKS_EXHAUSTED', shortage, 'Raise max_locks_per_transaction on the source and restart it.');
}

interface Writing {
  request: BackupRequest;
  prefix: string;
  programs: ClientPrograms;
  meter: ProgressMeter;
  /** What share of the whole, in percent, is done when the last byte is written. */
  dumpedAt: number;
}

interface DumpedDatabase {
  tables: TableDigest[];
  largeObjects: ArchiveSummary['largeObjects'];
  omissions: Omission[];
  startedAt: Date;
  finishedAt: Date;
}

async function dumpDatabase(writing: Writing, artifacts: ManifestArtifact[], encoding: string): Promise<DumpedDatabase> {
  const { request, programs, meter } = writing;
  const { source, signal } = request;
  const session = { applicationName: applicationName(request.ids.backup), signal };
  const { before, expectedBytes } = await withClient(source.connection, session, async (client) => {
    await checkPinnedSettings(client);
    const estimates = await estimateTables(client);
    return {
      before: await listStoredRelations(client),
      expectedBytes: estimates.reduce((bytes, table) => bytes + table.bytes, 0),
    };
  });
  meter.begin('dump', expectedBytes, writing.dumpedAt);
  const inspector = new ArchiveInspector();
  const startedAt = new Date();
  const dump = () =>
    withPgEnvironment(source.connection, { applicationName: session.applicationName }, async (env) => {
      const pool = new BatchPool();
      const program = startProgram(programs.pgDump, dumpArguments(source, encoding), {
        env,
        signal,
        output: await openProgramOutput(pool),
      });
      tellWhenHeld(program.done, request.snapshotWarningMs, () => request.onWarning(heldTooLong(request)));
      const onBytes = (bytes: number) => {
        meter.tables(inspector.tablesDone, inspector.tablesTotal ?? 0);
        meter.passed(bytes);
      };
      await addOutput(writing, artifacts, 'database', 'database.dump', program, 'pg_dump', {
        through: [inspector],
        pool,
        onBytes,
      });
    });
  await withStatementLimit(source.connection, { ...session, limitMs: source.statementTimeoutMs }, dump);
  const finishedAt = new Date();
  const { tables, largeObjects } = inspector.summary();
  const after = await withClient(source.connection, session, (client) => listStoredRelations(client));
  const omitted = omissionsOf(after, tables, { exclusions: exclusionsOf(source), before });
  const kinds = new Map(after.map((relation) => [relationKey(relation), relation.kind]));
  const omissions = omitted.map(({ schema, name, reason }) => ({
    schema,
    name,
    kind: kinds.get(relationKey({ schema, name })) ?? 'table',
    reason,
  }));
  return {
    tables: tables.map(({ schema, name, rows, bytes, sha256 }) => ({ schema, name, rows, bytes, sha256 })),
    largeObjects,
    omissions,
    startedAt,
    finishedAt,
  };
}

function heldTooLong({ source, spool, snapshotWarningMs }: BackupRequest): string {
  const minutes = Math.round(snapshotWarningMs / 6000) / 10;
  const mend = spool
    ? 'Give the spool more room (SPOOL_MAX_BYTES), or look for what slows the dump down.'
    : 'Where the destination is what takes so long, give the source a spool.';
  return `The dump of ${describeConnection(source.connection)} has held its snapshot for more than ${minutes} min: meanwhile vacuum there removes no row that was deleted since. ${mend}`;
}

function exclusionsOf(source: BackupRequest['source']): Exclusions {
  return { schemas: source.excludeSchemas, tables: source.excludeTables };
}

async function dumpConfig(writing: Writing, configPaths: readonly string[], artifacts: ManifestArtifact[]): Promise<void> {
  const { request, programs, meter } = writing;
  const { source, signal } = request;
  const session = { applicationName: applicationName(request.ids.backup), signal };
  meter.begin('config', 0, writing.dumpedAt);
  await withPgEnvironment(source.connection, { applicationName: session.applicationName }, async (env) => {
    const program = dumpGlobals(programs, source.connection.database, {
      env,
      signal,
      passwords: request.includePasswords ?? false,
    });
    await addOutput(writing, artifacts, 'config', 'globals.sql', program, 'pg_dumpall');
  });
  const settings = await withClient(source.connection, session, (client) => collectDatabaseConfig(client));
  const generated = [{ name: 'database-config.json', content: `${JSON.stringify(settings, null, 2)}\n` }];
  await addArtifact(writing, artifacts, 'config', 'config.tar', packConfig(generated, configPaths, signal));
}

async function dumpStorage(
  writing: Writing,
  artifacts: ManifestArtifact[],
): Promise<{ summary: StorageSummary; omissions: Omission[] }> {
  const { source, signal } = writing.request;
  if (!source.storage) throw new Error('The source has no storage');
  const { meter } = writing;
  meter.begin('storage', 0, writing.dumpedAt);
  const packed = packStorage(source.storage, signal);
  await addArtifact(writing, artifacts, 'storage', 'storage.tar', packed.stream, { onBytes: (bytes) => meter.passed(bytes) });
  return packed.result();
}

function countsOf({ buckets, objects, bytes }: StorageSummary): NonNullable<Manifest['storage']> {
  return { buckets, objects, bytes };
}

/** How the bytes of one artifact are treated on their way. */
type Handling = Pick<WriteArtifactOptions, 'through' | 'pool' | 'onBytes'>;

/** Stores what a program prints; whole only when the program has ended well, since the end of a pipe alone proves nothing. */
async function addOutput(
  writing: Writing,
  artifacts: ManifestArtifact[],
  component: ManifestArtifact['component'],
  content: string,
  program: RunningProgram,
  name: PgProgram,
  how: Handling = {},
): Promise<void> {
  const { source } = writing.request;
  const ended = program.done.then(
    () => null,
    (failed: unknown) => programError(name, failed, source),
  );
  const gate = new Transform({
    transform: (chunk, _encoding, done) => done(null, chunk),
    flush: (done) => void ended.then(done),
  });
  try {
    await addArtifact(writing, artifacts, component, content, program.stdout, {
      ...how,
      through: [gate, ...(how.through ?? [])],
    });
  } catch (error) {
    const failure = await ended;
    // A program that can't be started, or dies, breaks its pipe first; what it died of is the cause.
    if (failure !== null && !(error instanceof EngineError)) throw failure;
    throw error instanceof EngineError && error.code === 'ARCHIVE_CORRUPT' ? badOutput(name, error) : error;
  }
}

function badOutput(name: PgProgram, found: EngineError): EngineError {
  return new EngineError(
    'DUMP_FAILED',
    `${name} gave an archive that is not whole, and nothing of it was kept. ${found.message}`,
    `Run the backup again; if it repeats, update ${name}, or look for what cuts its output (memory, limits, a wrapper in PG_BIN_DIRS).`,
    { cause: found },
  );
}

async function addArtifact(
  writing: Writing,
  artifacts: ManifestArtifact[],
  component: ManifestArtifact['component'],
  content: string,
  source: Readable,
  how: Handling = {},
): Promise<void> {
  const { store, compress, recipients, signal } = writing.request;
  const name = artifactName(content, compress);
  const digest = await writeArtifact({
    store,
    key: objectKey(writing.prefix, name),
    source,
    compress,
    recipients,
    signal,
    ...how,
  });
  artifacts.push({ component, name, ...digest });
}

/** Names are quoted, so that no character of a pattern stands for others. */
function dumpArguments(source: BackupRequest['source'], encoding: string): string[] {
  return [
    '--format=custom',
    '--compress=0',
    '--no-password',
    // ALTER DATABASE SET client_encoding would have the text converted, which fails or loses what has no equivalent.
    `--encoding=${encoding}`,
    `--lock-wait-timeout=${source.lockTimeoutMs}`,
    ...source.excludeSchemas.map((schema) => `--exclude-schema=${quoteName(schema)}`),
    ...source.excludeTables.map(({ schema, name }) => `--exclude-table=${quoteName(schema)}.${quoteName(name)}`),
  ];
}
