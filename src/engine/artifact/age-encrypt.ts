import { Encrypter, type Recipient } from 'age-encryption';
import { randomBytes, type KeyObject } from 'node:crypto';
import { Transform, type TransformCallback } from 'node:stream';
import { PAYLOAD_NONCE_BYTES, payloadKey, PLAIN_CHUNK_BYTES, sealChunk } from './age-payload.js';
import { Chunker } from './chunker.js';
import { assertRecipients } from './keys.js';

/**
 * A stream that encrypts what passes through it into an age file for the recipients.
 * @throws EngineError KEY_INVALID
 */
export async function createAgeEncryptor(recipients: readonly string[]): Promise<Transform> {
  const { header, fileKey } = await makeHeader(assertRecipients(recipients));
  return new AgeEncryptor(header, fileKey);
}

/**
 * The library makes the file key, wraps it for each recipient and writes the header. A recipient of our own, which adds
 * nothing to the header, learns the file key by the library's documented interface. What it sealed after the header (an
 * empty payload) is dropped, and its nonce with it: the real payload has a nonce of its own.
 */
async function makeHeader(recipients: string[]): Promise<{ header: Buffer; fileKey: Uint8Array }> {
  let fileKey: Uint8Array | undefined;
  const listener: Recipient = {
    wrapFileKey(key) {
      fileKey = Uint8Array.from(key);
      return [];
    },
  };
  const encrypter = new Encrypter();
  for (const recipient of recipients) encrypter.addRecipient(recipient);
  encrypter.addRecipient(listener);
  const file = Buffer.from(await encrypter.encrypt(new Uint8Array(0)));
  const macLine = file.indexOf('\n--- ');
  const end = file.indexOf('\n', macLine + 1) + 1;
  if (fileKey === undefined || macLine < 0 || end === 0) throw new Error('The age library gave no header.');
  return { header: file.subarray(0, end), fileKey };
}

class AgeEncryptor extends Transform {
  private readonly key: KeyObject;
  private readonly chunker = new Chunker(PLAIN_CHUNK_BYTES);
  private index = 0;

  constructor(header: Buffer, fileKey: Uint8Array) {
    super({ highWaterMark: 1024 * 1024 });
    const nonce = randomBytes(PAYLOAD_NONCE_BYTES);
    this.key = payloadKey(fileKey, nonce);
    this.push(Buffer.concat([header, nonce]));
  }

  override _transform(input: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.chunker.add(input, (chunk) => this.seal(chunk, false));
    done();
  }

  override _flush(done: TransformCallback): void {
    this.seal(this.chunker.last(), true);
    done();
  }

  private seal(chunk: Buffer, last: boolean): void {
    // Pushed apart: joining them would cost a copy and an allocation of every byte.
    for (const part of sealChunk(this.key, this.index++, last, chunk)) if (part.length > 0) this.push(part);
  }
}
