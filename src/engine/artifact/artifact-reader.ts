import { Readable, Writable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { abortReason } from '../store/abort.js';
import type { ArtifactStore } from '../store/artifact-store.js';
import { readSegments } from '../store/segments.js';
import { AgeFailure, createAgeDecryptor } from './age-decrypt.js';
import { artifactCorrupt, explainFailure, noKeyFits } from './artifact-errors.js';
import { isCompressed } from './artifact-name.js';
import type { ArtifactDigest } from './artifact-writer.js';
import { createDecompressor } from './compression.js';
import { Meter } from './meter.js';

export interface ReadArtifactOptions {
  store: ArtifactStore;
  key: string;
  /** The artifact's name, which tells whether it is compressed, and is shown in errors. */
  name: string;
  /** age secrets (`AGE-SECRET-KEY-1…`); the first that fits is used. */
  identities: readonly string[];
  /** What the manifest says. Without it only age and zstd themselves are checked. */
  expected?: ArtifactDigest;
  /** Leave out the SHA-256 of the plain bytes: the stored ones' holds for them, too. */
  storedHashOnly?: boolean;
  signal?: AbortSignal;
}

/**
 * Opens an artifact as a stream of plain bytes. The stream ends well only if every stored bit is what was written: a wrong
 * bit, a cut, appended bytes, and any difference from `expected` end it with ARTIFACT_CORRUPT; a key that does not fit ends
 * it with KEY_UNAVAILABLE. Bytes handed on before that were authenticated by age, but whoever acts on them must be able to
 * take it back. An abort ends the stream with the signal's reason.
 * @throws EngineError OBJECT_MISSING, KEY_INVALID, STORE_FAILED
 */
export async function readArtifactPlain(options: ReadArtifactOptions): Promise<Readable> {
  const { store, key, name, expected, signal } = options;
  const decryptor = await createAgeDecryptor(options.identities);
  const decompressor = isCompressed(name) ? createDecompressor() : undefined;
  const [stored, plain] = [new Meter(), new Meter(undefined, !options.storedHashOnly)];
  const stages: Transform[] = [stored, decryptor, ...(decompressor ? [decompressor] : []), plain];
  const source = await readSegments(store, key, expected?.storedBytes ?? Infinity, { signal });
  const flow = pipeline([source, ...stages], { signal });
  // Failures are reported where the bytes are: by the stream that the caller reads.
  flow.catch(() => {});

  const content = async function* (): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of plain as AsyncIterable<Buffer>) {
        if (expected !== undefined && plain.bytes > expected.plainBytes)
          throw artifactCorrupt(name, `it holds more than its ${expected.plainBytes} bytes`);
        yield chunk;
      }
      await flow;
      if (decompressor !== undefined && decompressor.bytesWritten !== decryptor.plainBytes)
        throw artifactCorrupt(name, 'bytes follow the end of its compressed data');
      if (expected !== undefined) assertEqual(name, digestOf(plain, stored, options.storedHashOnly), expected);
    } catch (error) {
      if (signal?.aborted) throw abortReason(signal);
      throw await explained(error, options);
    }
  };
  const out = Readable.from(content(), { objectMode: false, highWaterMark: 1024 * 1024 });
  out.once('close', () => plain.destroy());
  return out;
}

export interface CheckArtifactOptions {
  store: ArtifactStore;
  key: string;
  name: string;
  expected: Pick<ArtifactDigest, 'storedBytes' | 'storedSha256'>;
  /** With age secrets each chunk's authentication is checked too; without, only the hash. */
  identities?: readonly string[];
  signal?: AbortSignal;
  /** Is told how many stored bytes were read, once per chunk. */
  onBytes?: (storedBytes: number) => void;
}

/**
 * Reads an artifact's stored bytes again and compares them with the manifest; nothing is decompressed.
 * @throws EngineError ARTIFACT_CORRUPT, KEY_UNAVAILABLE, KEY_INVALID, OBJECT_MISSING, STORE_FAILED
 */
export async function checkArtifact(options: CheckArtifactOptions): Promise<void> {
  const { store, key, name, expected, identities, signal } = options;
  const stored = new Meter(options.onBytes);
  const stages = identities === undefined ? [stored] : [stored, await createAgeDecryptor(identities)];
  try {
    const source = await readSegments(store, key, expected.storedBytes, { signal });
    await pipeline([source, ...stages, drain(() => stored.bytes <= expected.storedBytes, name)], { signal });
    assertEqual(name, { storedBytes: stored.bytes, storedSha256: stored.sha256 }, expected);
  } catch (error) {
    if (signal?.aborted) throw abortReason(signal);
    throw await explained(error, options);
  }
}

type Explained = Pick<ReadArtifactOptions, 'store' | 'key' | 'name' | 'signal'> & { expected?: CheckArtifactOptions['expected'] };

/** A damaged stanza looks like a key that doesn't fit; only the hash of the stored bytes tells the two apart. */
async function explained(error: unknown, { store, key, name, expected, signal }: Explained): Promise<unknown> {
  if (!(error instanceof AgeFailure) || error.reason !== 'key') return explainFailure(error, name);
  if (expected !== undefined) {
    try {
      await checkArtifact({ store, key, name, expected, signal });
    } catch (damage) {
      return damage;
    }
  }
  return noKeyFits(name);
}

function drain(within: () => boolean, name: string): Writable {
  return new Writable({
    highWaterMark: 1024 * 1024,
    write: (_chunk, _encoding, done) => done(within() ? null : artifactCorrupt(name, 'it is longer than it was')),
  });
}

function digestOf(plain: Meter, stored: Meter, storedHashOnly = false): Partial<ArtifactDigest> {
  const hash = storedHashOnly ? {} : { plainSha256: plain.sha256 };
  return { plainBytes: plain.bytes, ...hash, storedBytes: stored.bytes, storedSha256: stored.sha256 };
}

function assertEqual(name: string, found: Partial<ArtifactDigest>, expected: Partial<ArtifactDigest>): void {
  for (const field of ['storedBytes', 'storedSha256', 'plainBytes', 'plainSha256'] as const) {
    if (field in found && found[field] !== expected[field]) {
      throw artifactCorrupt(name, `${field} is ${found[field]}, and the manifest says ${expected[field]}`);
    }
  }
}
