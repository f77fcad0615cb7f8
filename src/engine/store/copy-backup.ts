import { createHash } from 'node:crypto';
import { type Readable, Transform } from 'node:stream';
import { loadManifest, type ManifestTrust } from '../artifact/load-manifest.js';
import { EngineError } from '../errors.js';
import type { ArtifactStore } from './artifact-store.js';
import { backupPrefix, type BackupIds, MANIFEST_NAME, objectKey, SIGNATURE_NAME } from './layout.js';
import { readAll } from './read-all.js';
import { readSegments, storedBytes, writeSegments } from './segments.js';

const MANIFEST_MAX_BYTES = 256 * 1024 * 1024;

/** A backup at one destination that is to lie at another too. */
export interface CopyRequest extends ManifestTrust {
  ids: BackupIds;
  from: ArtifactStore;
  to: ArtifactStore;
  signal: AbortSignal;
}

/**
 * Copies a backup as it is stored, without a key that opens it. Every artifact's hash is checked on the way against the signed
 * manifest, which is written last and read back. What is there already and has its size is written anew: it may be damaged.
 * @throws EngineError ARTIFACT_CORRUPT when the copy that is read is damaged, and what the stores throw
 */
export async function copyBackup(request: CopyRequest): Promise<void> {
  const { ids, from, to, signal } = request;
  const prefix = backupPrefix(ids);
  const { manifest, sha256 } = await loadManifest(from, prefix, request, ids, signal);
  await to.remove(objectKey(prefix, MANIFEST_NAME), { signal });
  await to.removeTree(prefix, { signal });
  for (const artifact of manifest.artifacts) {
    const key = objectKey(prefix, artifact.name);
    const body = checked(await readSegments(from, key, artifact.storedBytes, { signal }), artifact);
    const { bytes } = await writeSegments(to, key, body, { signal, overwrite: true });
    const stored = await storedBytes(to, key, artifact.storedBytes, { signal });
    if (bytes !== artifact.storedBytes || stored !== bytes)
      throw new EngineError(
        'STORE_FAILED',
        `The destination holds ${stored ?? 'no'} bytes of ${artifact.name} instead of ${artifact.storedBytes}.`,
        'Check the destination; the copy is tried again.',
      );
  }
  for (const name of [SIGNATURE_NAME, MANIFEST_NAME]) {
    const content = await readAll(from, objectKey(prefix, name), MANIFEST_MAX_BYTES, signal);
    await to.write(objectKey(prefix, name), [content], { signal, overwrite: true });
  }
  const read = await loadManifest(to, prefix, request, ids, signal);
  if (read.sha256 === sha256) return;
  throw new EngineError(
    'STORE_FAILED',
    'The manifest that the destination gives back is not the one that was copied.',
    'Check the destination; the copy is tried again.',
  );
}

/** Fails at the end when the bytes were not those that the manifest names, so that nothing is stored of them. */
function checked(source: Readable, artifact: { name: string; storedSha256: string }): Readable {
  const hash = createHash('sha256');
  const check = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      done(null, chunk);
    },
    flush(done) {
      if (hash.digest('hex') === artifact.storedSha256) return done();
      done(
        new EngineError(
          'ARTIFACT_CORRUPT',
          `The copy of ${artifact.name} that was read is not what was stored: its SHA-256 differs.`,
          'Verify the backup; where another copy is good, it is taken instead.',
        ),
      );
    },
  });
  source.once('error', (error) => check.destroy(error));
  check.once('close', () => source.destroy());
  return source.pipe(check);
}
