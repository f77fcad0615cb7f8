import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { EngineError } from '../errors.js';
import { abortReason } from '../store/abort.js';
import type { ArtifactStore } from '../store/artifact-store.js';
import { systemCode } from '../store/local-errors.js';
import { createAgeEncryptor } from './age-encrypt.js';
import type { BatchPool } from './batch-pool.js';
import { createCompressor } from './compression.js';
import { Gather } from './gather.js';
import { Meter } from './meter.js';

/** Sizes and hashes of an artifact, before compression and encryption, and as it lies in the store. */
export interface ArtifactDigest {
  plainBytes: number;
  /** Hex. */
  plainSha256: string;
  storedBytes: number;
  /** Hex. */
  storedSha256: string;
}

export interface WriteArtifactOptions {
  store: Pick<ArtifactStore, 'write' | 'remove'>;
  key: string;
  /** Plain bytes. Its end is taken for the end of the content: a child that failed must destroy it with an error. */
  source: Readable | AsyncIterable<Buffer>;
  /** Streams that the plain bytes pass through on their way, as the archive's reader. */
  through?: Transform[];
  /** Where the buffers of `source` come from; they are given back once they are compressed. */
  pool?: BatchPool;
  compress: boolean;
  recipients: readonly string[];
  signal?: AbortSignal;
  /** Is told how many plain bytes have passed, once per chunk. */
  onBytes?: (plainBytes: number) => void;
}

/**
 * Compresses, encrypts, hashes and stores one artifact in bounded memory. Resolves when it is durable in the store. When any
 * stage fails, all are ended, nothing stays in the store, and the first cause is thrown; an abort throws the signal's reason.
 * @throws EngineError KEY_INVALID, and what the store throws
 */
export async function writeArtifact(options: WriteArtifactOptions): Promise<ArtifactDigest> {
  const { store, key, through = [], signal } = options;
  const source = options.source instanceof Readable ? options.source : Readable.from(options.source);
  const plain = new Meter(options.onBytes);
  const stored = new Meter();
  let stages: Transform[];
  try {
    const compressor = options.compress ? createCompressor() : undefined;
    // Uncompressed bytes are not given back: the encryptor does not say how far it has come.
    if (compressor && options.pool) options.pool.consumed = () => compressor.bytesWritten;
    stages = [
      new Gather(),
      ...through,
      plain,
      ...(compressor ? [compressor] : []),
      await createAgeEncryptor(options.recipients),
      stored,
    ];
  } catch (error) {
    for (const stream of [source, ...through]) stream.destroy();
    throw error;
  }
  const [flow, written] = await Promise.allSettled([
    pipeline([source, ...stages], { signal }),
    store.write(key, stored, { signal }),
  ]);
  if (flow.status === 'fulfilled' && written.status === 'fulfilled') {
    return confirmed(key, written.value.bytes, {
      plainBytes: plain.bytes,
      plainSha256: plain.sha256,
      storedBytes: stored.bytes,
      storedSha256: stored.sha256,
    });
  }
  // The store resolved although an earlier stage failed: what it took for whole is not.
  if (written.status === 'fulfilled') await store.remove(key);
  if (signal?.aborted) throw abortReason(signal);
  throw firstCause(flow, written);
}

function confirmed(key: string, writtenBytes: number, digest: ArtifactDigest): ArtifactDigest {
  if (writtenBytes === digest.storedBytes) return digest;
  throw new EngineError(
    'STORE_FAILED',
    `The store took ${writtenBytes} of the ${digest.storedBytes} bytes of ${key}.`,
    'Run the backup again; if it repeats, check the destination.',
  );
}

/** A store that fails closes the pipeline, which then reports only that it was closed: the store's own error is the cause. */
function firstCause(flow: PromiseSettledResult<unknown>, written: PromiseSettledResult<unknown>): unknown {
  const flowError: unknown = flow.status === 'rejected' ? flow.reason : undefined;
  const storeError: unknown = written.status === 'rejected' ? written.reason : undefined;
  const onlyClosed = ['ERR_STREAM_PREMATURE_CLOSE', 'ABORT_ERR'].includes(systemCode(flowError) ?? '');
  return flowError === undefined || (onlyClosed && storeError !== undefined) ? storeError : flowError;
}
