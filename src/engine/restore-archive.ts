import type { Readable } from 'node:stream';
import { readToc } from './archive/header-only.js';
import type { ArchiveToc } from './archive/toc.js';
import { checkArtifact, readArtifactPlain } from './artifact/artifact-reader.js';
import { loadManifest, type ManifestTrust } from './artifact/load-manifest.js';
import type { Manifest, ManifestArtifact, TableDigest } from './artifact/manifest.js';
import { openTables } from './artifact/sealed-tables.js';
import { EngineError } from './errors.js';
import { chooseClientPrograms, type ClientPrograms, findClientPrograms, parseVersion } from './postgres/client-programs.js';
import type { ProgressMeter } from './progress.js';
import type { ArtifactStore } from './store/artifact-store.js';
import { backupPrefix, type BackupIds, objectKey } from './store/layout.js';

/** Where an archive lies, and what it is opened with. */
export interface ArchiveSource extends ManifestTrust {
  ids: BackupIds;
  store: ArtifactStore;
  /** age secrets. */
  identities: readonly string[];
  programs: { binDirs: readonly string[]; requirePatched: boolean };
  signal: AbortSignal;
}

/** A backup's archive, ready to be restored: its manifest is genuine, its table of contents is read. */
export interface OpenedArchive {
  manifest: Manifest;
  artifact: ManifestArtifact;
  /** The artifact's key in the store. */
  key: string;
  toc: ArchiveToc;
  /** The bytes of header and table of contents. */
  header: Buffer;
  /** Every table of the archive, as the manifest has it, in the archive's order. */
  tables: TableDigest[];
  /** One hash over all large objects of the archive; null when it has none. */
  largeObjectsSha256: string | null;
  /** Client programs that can read it. */
  programs: ClientPrograms;
}

/** Checks the signature, and opens the archive as far as its table of contents. @throws EngineError */
export async function openArchive(source: ArchiveSource): Promise<OpenedArchive> {
  const { store, ids, signal, identities } = source;
  const prefix = backupPrefix(ids);
  const { manifest } = await loadManifest(store, prefix, source, ids, signal);
  const artifact = manifest.artifacts.find((candidate) => candidate.component === 'database');
  if (!artifact) {
    throw new EngineError(
      'TARGET_REFUSED',
      `The backup ${ids.backup} has no component database.`,
      'Restore another backup; the files of this one can be downloaded.',
    );
  }
  const { tables, largeObjectsSha256 } = await openTables(manifest, identities);
  const key = objectKey(prefix, artifact.name);
  const { toc, header } = await readToc(await readArchive(source, { key, artifact }));
  // An archive can be read by the pg_restore of its own version and by newer ones.
  const dumpMajor = parseVersion(`(PostgreSQL) ${toc.dumpVersion}`)?.major ?? Number.parseInt(toc.dumpVersion, 10);
  const all = await findClientPrograms({ binDirs: source.programs.binDirs });
  const programs = chooseClientPrograms(all, dumpMajor, { requirePatched: source.programs.requirePatched });
  return { manifest, artifact, key, toc, header, tables, largeObjectsSha256, programs };
}

/** Reads every artifact's stored bytes and compares their hashes, before anything is changed anywhere. @throws EngineError */
export async function checkArtifacts(source: ArchiveSource, manifest: Manifest, meter: ProgressMeter): Promise<void> {
  const { store, ids, signal } = source;
  const total = manifest.artifacts.reduce((bytes, each) => bytes + each.storedBytes, 0);
  meter.begin('check', total);
  let before = 0;
  for (const artifact of manifest.artifacts) {
    await checkArtifact({
      store,
      key: objectKey(backupPrefix(ids), artifact.name),
      name: artifact.name,
      expected: artifact,
      signal,
      onBytes: (bytes) => meter.passed(before + bytes),
    });
    before += artifact.storedBytes;
  }
}

/** The archive's plain bytes; the hash of the stored ones, which holds for them too, is compared once more at their end. */
export function readArchive(
  { store, identities, signal }: ArchiveSource,
  { key, artifact }: Pick<OpenedArchive, 'key' | 'artifact'>,
): Promise<Readable> {
  return readArtifactPlain({ store, key, name: artifact.name, identities, expected: artifact, storedHashOnly: true, signal });
}

/** The archive that was read is not the one of the manifest. */
export function differsFromManifest(table: string): EngineError {
  return new EngineError(
    'ARTIFACT_CORRUPT',
    `The archive's table ${table} is not the one of the manifest.`,
    'Use another backup, and find out who changed this one.',
  );
}
