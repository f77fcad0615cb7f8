import { checkArtifact, readArtifactPlain } from '../artifact/artifact-reader.js';
import { loadManifest } from '../artifact/load-manifest.js';
import type { Manifest, ManifestArtifact } from '../artifact/manifest.js';
import { openTables } from '../artifact/sealed-tables.js';
import { EngineError } from '../errors.js';
import { type Progress, ProgressMeter } from '../progress.js';
import type { ArchiveSource } from '../restore-archive.js';
import type { RestoreOutcome } from '../restore-request.js';
import { backupPrefix, objectKey } from '../store/layout.js';
import { restoreStorage, type RestoreStorageOptions } from './restore-storage.js';

type Source = Omit<ArchiveSource, 'programs'>;

export interface RestoreStorageRequest extends Source, Pick<RestoreStorageOptions, 'target' | 'existing'> {
  onProgress: (progress: Progress) => void;
  /** Called before anything is changed at the target; throws when the run is no longer ours. */
  beforeChange: () => Promise<void>;
}

/** The manifest of a backup with the component `storage`, and its artifact. @throws EngineError */
export async function openStorageBackup(source: Source): Promise<{
  manifest: Manifest;
  artifact: ManifestArtifact;
}> {
  const { store, ids, signal } = source;
  const { manifest } = await loadManifest(store, backupPrefix(ids), source, ids, signal);
  const artifact = manifest.artifacts.find(({ component }) => component === 'storage');
  if (artifact) return { manifest, artifact };
  throw new EngineError('SELECTION_MISSING', 'The backup has no component storage.', 'Choose a backup that has it.');
}

/**
 * Restores the component `storage` of a backup. Before anything is changed, the signature and the artifact's hash are checked.
 * @throws EngineError; the signal's reason when it is aborted
 */
export async function restoreStorageBackup(request: RestoreStorageRequest): Promise<RestoreOutcome> {
  const { store, ids, identities, signal } = request;
  const meter = new ProgressMeter(request.onProgress);
  const { manifest, artifact } = await openStorageBackup(request);
  const key = objectKey(backupPrefix(ids), artifact.name);
  const reading = { store, key, name: artifact.name, identities, expected: artifact, signal };
  meter.begin('check', artifact.storedBytes);
  await checkArtifact({ ...reading, onBytes: (bytes) => meter.passed(bytes) });
  const { storageSha256 } = await openTables(manifest, identities);
  await request.beforeChange();
  meter.begin('storage', manifest.storage?.bytes ?? 0);
  const { summary, warnings } = await restoreStorage({
    plain: await readArtifactPlain(reading),
    target: request.target,
    existing: request.existing,
    signal,
    onBytes: (bytes) => meter.passed(bytes),
  });
  return { countsEqual: summary.sha256 === storageSha256, differences: [], warnings };
}
