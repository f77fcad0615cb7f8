import { EngineError } from '../errors.js';
import type { ArtifactStore } from './artifact-store.js';

/**
 * Reads a small object whole.
 * @param maxBytes the most that is read into memory
 * @throws EngineError OBJECT_MISSING; STORE_FAILED when the object is larger than `maxBytes`
 */
export async function readAll(store: ArtifactStore, key: string, maxBytes: number, signal?: AbortSignal): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of (await store.read(key, { signal })) as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > maxBytes) {
      throw new EngineError(
        'STORE_FAILED',
        `The object ${key} is larger than the ${maxBytes} bytes expected of it at most.`,
        'It was not written by this product, or it is damaged; look at it by hand.',
      );
    }
    parts.push(part);
  }
  return Buffer.concat(parts, bytes);
}
