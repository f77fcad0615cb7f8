import { Decrypter, type Identity } from 'age-encryption';
import type { KeyObject } from 'node:crypto';
import { Transform, type TransformCallback } from 'node:stream';
import { callbackify } from 'node:util';
import { openChunk, PAYLOAD_NONCE_BYTES, payloadKey, SEALED_CHUNK_BYTES } from './age-payload.js';
import { Chunker } from './chunker.js';
import { recipientOf } from './keys.js';

/** More than a hundred post-quantum recipients, or two thousand common ones. A longer header is not one. */
const MAX_HEADER_BYTES = 256 * 1024;

/** Why an age file could not be opened: `key`, no identity fits; `damaged`, the bytes are not those that were written. */
export class AgeFailure extends Error {
  override readonly name = 'AgeFailure';

  constructor(
    readonly reason: 'key' | 'damaged',
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/**
 * A stream that decrypts an age file. Bytes leave it only after their chunk was authenticated; a wrong bit, a cut, and
 * anything appended end it with an AgeFailure.
 * @throws EngineError KEY_INVALID
 */
export async function createAgeDecryptor(identities: readonly string[]): Promise<AgeDecryptor> {
  await assertIdentities(identities);
  return new AgeDecryptor(identities);
}

/** Checks that identities can be read. @throws EngineError KEY_INVALID, without their text */
async function assertIdentities(identities: readonly string[]): Promise<void> {
  for (const identity of identities) await recipientOf(identity);
}

/**
 * Where the header of an age file ends, counted from its start; -1 while the end has not come yet.
 * @param from where to begin, so that no byte is looked at twice
 */
function headerEnd(bytes: Buffer, from = 0): number {
  // Argument lines start with "-> " and bodies are base64: only the header's last line starts with three hyphens.
  const macLine = bytes.indexOf('\n--- ', from);
  return macLine < 0 ? -1 : bytes.indexOf('\n', macLine + 1) + 1 || -1;
}

/** Finds the file key in a whole header and checks the header's MAC. @throws AgeFailure */
async function openHeader(header: Buffer, identities: readonly string[]): Promise<Uint8Array> {
  let unmatched = false;
  // Asked last, so only when no other identity has found its stanza.
  const lastAsked: Identity = {
    unwrapFileKey() {
      unmatched = true;
      return null;
    },
  };
  const decrypter = new Decrypter();
  for (const identity of identities) decrypter.addIdentity(identity);
  decrypter.addIdentity(lastAsked);
  try {
    return await decrypter.decryptHeader(header);
  } catch (cause) {
    if (unmatched) throw new AgeFailure('key', 'none of the keys opens it');
    throw new AgeFailure('damaged', 'its age header is damaged', { cause });
  }
}

export class AgeDecryptor extends Transform {
  /** Plain bytes that were handed on so far. */
  plainBytes = 0;
  private preamble: Buffer | undefined = Buffer.alloc(0);
  private key: KeyObject | undefined;
  private readonly chunker = new Chunker(SEALED_CHUNK_BYTES);
  private index = 0;

  /** Use `createAgeDecryptor`, which checks the identities. */
  constructor(private readonly identities: readonly string[]) {
    super({ highWaterMark: 1024 * 1024 });
  }

  override _transform(input: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (this.preamble === undefined) return this.openChunks(input, done);
    const before = this.preamble;
    callbackify(() => this.readPreamble(before, input))((error, payload) => {
      if (error) done(error);
      else if (payload === undefined) done();
      else this.openChunks(payload, done);
    });
  }

  override _flush(done: TransformCallback): void {
    if (this.key === undefined) return done(new AgeFailure('damaged', 'it ends within its age header'));
    const last = this.chunker.last();
    const plain = this.open(last, true);
    // A last chunk without bytes is right only for an empty file: elsewhere it would let one content have two forms.
    if (plain instanceof AgeFailure) done(plain);
    else if (plain.length === 0 && this.index > 0) done(new AgeFailure('damaged', 'its last chunk is empty'));
    else done(null, this.counted(plain));
  }

  /** Takes header and nonce; gives the payload's first bytes once both are there. */
  private async readPreamble(before: Buffer, input: Buffer): Promise<Buffer | undefined> {
    const bytes = Buffer.concat([before, input]);
    this.preamble = bytes;
    const end = headerEnd(bytes, Math.max(0, before.length - 100));
    if (end > MAX_HEADER_BYTES || (end < 0 && bytes.length > MAX_HEADER_BYTES))
      throw new AgeFailure('damaged', 'it is not an age file');
    if (end < 0 || bytes.length < end + PAYLOAD_NONCE_BYTES) return undefined;
    const fileKey = await openHeader(bytes.subarray(0, end), this.identities);
    this.key = payloadKey(fileKey, bytes.subarray(end, end + PAYLOAD_NONCE_BYTES));
    this.preamble = undefined;
    return bytes.subarray(end + PAYLOAD_NONCE_BYTES);
  }

  private openChunks(input: Buffer, done: TransformCallback): void {
    const opened: Buffer[] = [];
    let failure: AgeFailure | undefined;
    this.chunker.add(input, (chunk) => {
      if (failure !== undefined) return;
      const plain = this.open(chunk, false);
      if (plain instanceof AgeFailure) failure = plain;
      else opened.push(plain);
    });
    if (failure !== undefined) done(failure);
    else if (opened.length === 0) done();
    else done(null, this.counted(Buffer.concat(opened)));
  }

  private open(sealed: Buffer, last: boolean): Buffer | AgeFailure {
    try {
      const plain = openChunk(this.key!, this.index, last, sealed);
      if (!last) this.index += 1;
      return plain;
    } catch (cause) {
      return new AgeFailure('damaged', `its authentication fails in the ${this.index + 1}. chunk of 64 KiB`, { cause });
    }
  }

  private counted(plain: Buffer): Buffer {
    this.plainBytes += plain.length;
    return plain;
  }
}
