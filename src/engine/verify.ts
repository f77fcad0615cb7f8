import { finished } from 'node:stream/promises';
import { ArchiveInspector } from './archive/archive-inspector.js';
import { checkArtifact, readArtifactPlain } from './artifact/artifact-reader.js';
import { recipientOf } from './artifact/keys.js';
import { loadManifest, type ManifestTrust } from './artifact/load-manifest.js';
import type { Manifest, ManifestArtifact } from './artifact/manifest.js';
import { openTables } from './artifact/sealed-tables.js';
import { type Assertion, assertionFailure } from './drill-assertions.js';
import { drill, type DrillOutcome } from './drill.js';
import type { DrillLimits } from './drill-limits.js';
import { hintFor, skippedSentence } from './drill-skipped.js';
import { EngineError } from './errors.js';
import type { PgConnection } from './postgres/connection.js';
import { type Progress, ProgressMeter, spanOf } from './progress.js';
import { summarizeStorage } from './storage/check-storage.js';
import type { ArtifactStore } from './store/artifact-store.js';
import { backupPrefix, type BackupIds, objectKey } from './store/layout.js';
import { storedBytes } from './store/segments.js';

/** One thing that was looked at, and what was found. */
export interface Check {
  level: number;
  name: string;
  ok: boolean;
  detail: string;
}

export interface VerifyRequest extends ManifestTrust {
  ids: BackupIds;
  /** Highest level to try; 0 to 5. */
  level: number;
  /** What must hold in the restored database at level 5. */
  assertions: readonly Assertion[];
  runId: string;
  programs: { binDirs: readonly string[]; requirePatched: boolean };
  /** A server on which drills make their databases, instead of private ones. */
  scratch?: PgConnection;
  /** Restore as a role without rights, wherever it is. */
  plainRole?: boolean;
  /** What the private server of a drill may take of this machine; no limits unless given. */
  drillLimits?: DrillLimits;
  /** Called with the drill, to let it wait until others have ended; at once unless given. */
  drillInTurn?: <T>(drill: () => Promise<T>) => Promise<T>;
  store: ArtifactStore;
  /** age secrets; level 2 needs one that fits. */
  identities: readonly string[];
  signal: AbortSignal;
  onProgress: (progress: Progress) => void;
}

export interface Verification {
  /** Highest level that holds; null when not even the manifest does. */
  provenLevel: number | null;
  checks: Check[];
  /** The first check that failed; what follows it was not tried. */
  failure: EngineError | null;
  /** Why the next level could not be tried, which says nothing about the backup. */
  impossible: EngineError | null;
  /** What the restore drill has measured; null when there was none. */
  drill: DrillOutcome | null;
}

/** Failures that say something about the backup; others (a destination that does not answer, a missing key) say nothing of it. */
const VERDICTS = new Set([
  'OBJECT_MISSING',
  'ARTIFACT_CORRUPT',
  'MANIFEST_CORRUPT',
  'SIGNATURE_INVALID',
  'ARCHIVE_CORRUPT',
  'RESTORE_FAILED',
  'ASSERTION_FAILED',
]);

/**
 * Reads a backup anew from its destination and proves level after level, stopping at the first that fails.
 * 0: the manifest is signed by us and every artifact is there in its size. 1: every stored byte is what was written.
 * 2: decrypted, decompressed and parsed to the last byte, every table's rows, bytes and hash equal the manifest. 3: really restored into a
 * PostgreSQL that was made for it. 4: what was restored holds the same rows, sequences, large objects and schema. 5: the user's own
 * assertions hold in it.
 * @throws EngineError when nothing can be said, as the destination does not answer or no key fits; the signal's reason when aborted
 */
export async function verifyBackup(request: VerifyRequest): Promise<Verification> {
  const checks: Check[] = [];
  const span = spansOf(request);
  let provenLevel: number | null = null;
  let drilled: DrillOutcome | null = null;
  let impossible: EngineError | null = null;
  const prove = async (level: number, name: string, work: () => Promise<string>): Promise<void> => {
    try {
      checks.push({ level, name, ok: true, detail: await work() });
    } catch (error) {
      if (request.signal.aborted) throw request.signal.reason;
      if (!(error instanceof EngineError) || !VERDICTS.has(error.code)) throw error;
      checks.push({ level, name, ok: false, detail: error.message });
      throw error;
    }
  };
  try {
    const manifest = await proveStored(request, prove);
    provenLevel = 0;
    if (request.level >= 1) {
      await proveIntact(request, manifest, new ProgressMeter(span(1)), prove);
      provenLevel = 1;
    }
    if (request.level >= 2) {
      await proveReadable(request, manifest, new ProgressMeter(span(2)), prove);
      provenLevel = 2;
    }
    if (request.level >= 3) {
      try {
        let outcome!: DrillOutcome;
        await prove(3, 'restore drill', async () => {
          outcome = await proveRestorable({ ...request, onProgress: span(3) }, manifest);
          return drillDetail(outcome);
        });
        drilled = outcome;
        impossible = notRestored(outcome);
        if (!impossible) provenLevel = 3;
      } catch (error) {
        if (!(error instanceof EngineError) || error.code !== 'DRILL_IMPOSSIBLE') throw error;
        impossible = error;
      }
    }
    if (request.level >= 4 && drilled) {
      await proveEqual(drilled, prove);
      impossible ??= notCompared(drilled);
      if (!impossible) provenLevel = 4;
    }
    if (request.level >= 5 && drilled && !impossible) {
      const unusable = proveAsserted(drilled, checks);
      if (unusable) impossible = unusable;
      else provenLevel = 5;
    }
    return { provenLevel, checks, failure: null, impossible, drill: drilled };
  } catch (error) {
    if (error instanceof EngineError && checks.at(-1)?.ok === false)
      return { provenLevel, checks, failure: error, impossible, drill: drilled };
    throw error;
  }
}

/** Where each level begins and ends in the progress of the whole, by what the highest one is. */
function spansOf({ level, onProgress }: VerifyRequest): (level: 1 | 2 | 3) => (progress: Progress) => void {
  const [one, two] = level >= 3 ? ([5, 20] as const) : level === 2 ? ([25, 100] as const) : ([100, 100] as const);
  const ends = { 1: one, 2: two, 3: 100 };
  const begins = { 1: 0, 2: one, 3: two };
  return (of) => spanOf(onProgress, begins[of], ends[of]);
}

type Prove = (level: number, name: string, work: () => Promise<string>) => Promise<void>;

async function proveStored(request: VerifyRequest, prove: Prove): Promise<Manifest> {
  const { store, ids, signal } = request;
  const prefix = backupPrefix(ids);
  let manifest!: Manifest;
  await prove(0, 'manifest signature', async () => {
    const loaded = await loadManifest(store, prefix, request, ids, signal);
    manifest = loaded.manifest;
    const trusted = loaded.signedBy === null ? 'trusted without its signature' : `signed by ${loaded.signedBy}`;
    return `${trusted}, SHA-256 ${loaded.sha256}`;
  });
  for (const artifact of manifest.artifacts) {
    await prove(0, `${artifact.name} is stored`, async () => {
      const stored = await storedBytes(store, objectKey(prefix, artifact.name), artifact.storedBytes, { signal });
      if (stored === null)
        throw new EngineError('OBJECT_MISSING', `${artifact.name} is not at the destination.`, 'Use another backup.');
      if (stored !== artifact.storedBytes)
        throw new EngineError(
          'ARTIFACT_CORRUPT',
          `${artifact.name} has ${stored} bytes instead of ${artifact.storedBytes}.`,
          'Use another backup.',
        );
      return `${stored} bytes`;
    });
  }
  return manifest;
}

async function proveIntact(
  { store, ids, identities, signal }: VerifyRequest,
  manifest: Manifest,
  meter: ProgressMeter,
  prove: Prove,
): Promise<void> {
  meter.begin(
    'level 1',
    manifest.artifacts.reduce((bytes, artifact) => bytes + artifact.storedBytes, 0),
  );
  // Without a key the hash alone is proven; it covers every byte that age would authenticate.
  const holdsKey = await fits(identities, manifest.recipients);
  let before = 0;
  for (const artifact of manifest.artifacts) {
    await prove(1, `${artifact.name} SHA-256`, async () => {
      const key = objectKey(backupPrefix(ids), artifact.name);
      await checkArtifact({
        store,
        key,
        name: artifact.name,
        expected: artifact,
        ...(holdsKey ? { identities } : {}),
        signal,
        onBytes: (bytes) => meter.passed(before + bytes),
      });
      return `${artifact.storedBytes} bytes, SHA-256 ${artifact.storedSha256}${holdsKey ? ', age authentication holds' : '; age authentication needs a key that the server does not hold'}`;
    });
    before += artifact.storedBytes;
  }
}

async function proveReadable(request: VerifyRequest, manifest: Manifest, meter: ProgressMeter, prove: Prove): Promise<void> {
  meter.begin(
    'level 2',
    manifest.artifacts.reduce((bytes, artifact) => bytes + artifact.plainBytes, 0),
  );
  let before = 0;
  for (const artifact of manifest.artifacts) {
    const isDump = artifact.name.startsWith('database.dump');
    const isStorage = artifact.component === 'storage';
    await prove(
      2,
      isDump ? `${artifact.name} tables` : isStorage ? `${artifact.name} objects` : `${artifact.name} content`,
      async () => {
        const onBytes = (bytes: number) => meter.passed(before + bytes);
        if (isStorage) return readStorage(request, manifest, artifact, onBytes);
        return isDump ? readDump(request, manifest, artifact, onBytes) : readPlain(request, artifact, onBytes);
      },
    );
    before += artifact.plainBytes;
  }
}

async function proveRestorable(request: VerifyRequest, manifest: Manifest): Promise<DrillOutcome> {
  if (!manifest.components.includes('database'))
    throw new EngineError('DRILL_IMPOSSIBLE', 'The backup holds no database to restore.', 'Ask for level 2.');
  const { drillInTurn = (work) => work() } = request;
  new ProgressMeter(request.onProgress).begin('drill queued');
  return drillInTurn(() =>
    drill({
      ...request,
      serverBinDirs: request.programs.binDirs,
      limits: request.drillLimits ?? { diskBytes: 0, memoryBytes: 0 },
      compare: request.level >= 4,
      assertions: request.level >= 5 ? request.assertions : [],
    }),
  );
}

function drillDetail({ serverVersion, restoreMs, tables, rows, isolation, skipped, warnings }: DrillOutcome): string {
  const walls = [
    isolation.ownUser ? 'a user of its own' : '',
    isolation.noNetwork ? 'no network' : '',
    isolation.plainRole ? 'a role without rights' : '',
  ]
    .filter(Boolean)
    .join(', ');
  const isWhole = skipped.extensions.length + skipped.forbidden.length === 0;
  const notes = [...(isWhole ? [] : [skippedSentence(skipped)]), ...warnings].map((note) => ` ${note}`).join('');
  return `${tables} tables with ${rows} rows restored in ${restoreMs} ms into PostgreSQL ${serverVersion} (${walls}).${notes}`;
}

const EQUAL_CHECKS = { tables: 'table', sequences: 'sequence', 'large objects': 'large objects', schema: 'schema' } as const;
const NAMED_DIFFERENCES = 10;

async function proveEqual({ differences }: DrillOutcome, prove: Prove): Promise<void> {
  for (const [name, kind] of Object.entries(EQUAL_CHECKS)) {
    await prove(4, `${name} equal`, async () => {
      const found = (differences ?? []).filter((difference) => difference.kind === kind);
      if (found.length === 0) return 'The restored database has the same.';
      const named = found.slice(0, NAMED_DIFFERENCES).map((difference) => `${difference.name}: ${difference.detail}`);
      const more = found.length - named.length;
      throw new EngineError(
        'RESTORE_FAILED',
        `The backup was restored, but ${found.length} of its ${name} differ. ${named.join(' ')}${more > 0 ? ` And ${more} more.` : ''}`,
        'Use another backup, and look into what wrote this one.',
      );
    });
  }
}

/** What of level 3 could not be done: the throwaway server lacks an extension that other objects need, or the restore had no rights for some. */
function notRestored({ skipped }: DrillOutcome): EngineError | null {
  if (skipped.forbidden.length + skipped.dependents.length === 0) return null;
  return new EngineError(
    'DRILL_IMPOSSIBLE',
    `All that the throwaway PostgreSQL could take was restored. ${skippedSentence(skipped)}`,
    hintFor(skipped),
  );
}

/** What of level 4 could not be looked at, since the throwaway server lacks an extension, or the restore had no rights for it. */
function notCompared({ leftOut, skipped }: DrillOutcome): EngineError | null {
  if (skipped.extensions.length > 0)
    return new EngineError('DRILL_IMPOSSIBLE', `All that was compared is equal. ${skippedSentence(skipped)}`, hintFor(skipped));
  if (leftOut.length === 0) return null;
  const named = leftOut.slice(0, NAMED_DIFFERENCES).join(', ');
  return new EngineError(
    'DRILL_IMPOSSIBLE',
    `All that was compared is equal, but the drill restored without a superuser's rights, and so without owners and rights of ${named}.`,
    'Run a worker as root, in a container of its own, for drills that prove those too.',
  );
}

/**
 * Every assertion, whatever came of the others.
 * @returns why the level could not be tried, when that says nothing of the backup
 * @throws EngineError ASSERTION_FAILED
 */
function proveAsserted({ assertions }: DrillOutcome, checks: Check[]): EngineError | null {
  const results = assertions ?? [];
  const failed = results.filter(({ ok }) => !ok);
  for (const { name, ok, detail } of [...results.filter((result) => result.ok), ...failed])
    checks.push({ level: 5, name: `assertion ${name}`, ok, detail });
  const failure = assertionFailure(results);
  if (failure) throw failure;
  if (results.length === 0)
    return new EngineError(
      'DRILL_IMPOSSIBLE',
      'The source declares no assertions.',
      'Add assertions to the source, or ask for level 4.',
    );
  const [first] = failed;
  if (!first) return null;
  return new EngineError(
    'DRILL_IMPOSSIBLE',
    `The assertion "${first.name}" could not be tried: ${first.detail}`,
    'Correct the assertion of the source; it must be one SELECT that ends in time.',
  );
}

async function readPlain(request: VerifyRequest, artifact: ManifestArtifact, onBytes: (bytes: number) => void): Promise<string> {
  const plain = await open(request, artifact);
  let bytes = 0;
  for await (const chunk of plain as AsyncIterable<Buffer>) onBytes((bytes += chunk.length));
  return `${bytes} bytes, SHA-256 ${artifact.plainSha256}`;
}

async function readDump(
  request: VerifyRequest,
  manifest: Manifest,
  artifact: ManifestArtifact,
  onBytes: (bytes: number) => void,
): Promise<string> {
  const { tables: expected, largeObjectsSha256 } = await openTables(manifest, request.identities);
  const inspector = new ArchiveInspector();
  const plain = await open(request, artifact);
  plain.once('error', (error) => inspector.destroy(error));
  plain.pipe(inspector);
  inspector.on('data', () => onBytes(inspector.bytes));
  await finished(inspector);
  const { tables, largeObjects } = inspector.summary();
  const differing = expected.find((table, index) => {
    const read = tables[index];
    return (
      !read ||
      read.schema !== table.schema ||
      read.name !== table.name ||
      read.rows !== table.rows ||
      read.bytes !== table.bytes ||
      read.sha256 !== table.sha256
    );
  });
  if (differing) throw differs(`the table ${differing.schema}.${differing.name} is not the one of the manifest`);
  if (tables.length !== expected.length) throw differs(`it holds ${tables.length} tables instead of ${expected.length}`);
  if ((largeObjects?.sha256 ?? null) !== largeObjectsSha256) throw differs('its large objects are not those of the manifest');
  return `${tables.length} tables, ${tables.reduce((rows, table) => rows + table.rows, 0)} rows, ${largeObjects?.count ?? 0} large objects equal the manifest`;
}

async function readStorage(
  request: VerifyRequest,
  manifest: Manifest,
  artifact: ManifestArtifact,
  onBytes: (bytes: number) => void,
): Promise<string> {
  const { storageSha256 } = await openTables(manifest, request.identities);
  const found = await summarizeStorage(await open(request, artifact), onBytes);
  if (found.objects !== manifest.storage?.objects || found.bytes !== manifest.storage.bytes || found.sha256 !== storageSha256)
    throw differs('its buckets and objects are not those of the manifest');
  return `${found.objects} objects of ${found.buckets} buckets, ${found.bytes} bytes, equal the manifest`;
}

async function fits(identities: readonly string[], recipients: readonly string[]): Promise<boolean> {
  const held = await Promise.all(identities.map(recipientOf));
  return held.some((recipient) => recipients.includes(recipient));
}

function differs(how: string): EngineError {
  return new EngineError('ARTIFACT_CORRUPT', `The dump was read to its end, but ${how}.`, 'Use another backup.');
}

function open({ store, ids, identities, signal }: VerifyRequest, artifact: ManifestArtifact) {
  return readArtifactPlain({
    store,
    key: objectKey(backupPrefix(ids), artifact.name),
    name: artifact.name,
    identities,
    expected: artifact,
    signal,
  });
}
