import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { readStorageArchive } from './storage-archive.js';
import { StorageDigest, type StorageSummary } from './storage-objects.js';

/**
 * Reads an archive of a project's Storage to its end and says what it holds.
 * @throws EngineError ARTIFACT_CORRUPT, and what the stream throws
 */
export async function summarizeStorage(plain: Readable, onBytes: (bytes: number) => void): Promise<StorageSummary> {
  const digest = new StorageDigest();
  let bytes = 0;
  for await (const entry of readStorageArchive(plain)) {
    if ('buckets' in entry) {
      for (const bucket of entry.buckets) digest.addBucket(bucket);
      continue;
    }
    const hash = createHash('sha256');
    for await (const chunk of entry.body as AsyncIterable<Buffer>) {
      hash.update(chunk);
      onBytes((bytes += chunk.length));
    }
    digest.addObject(entry.object, hash.digest('hex'));
  }
  return digest.summary();
}
