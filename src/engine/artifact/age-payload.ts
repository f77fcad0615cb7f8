import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';

// The payload of an age file (C2SP age, "Payload"): a nonce of 16 bytes, then STREAM: chunks of 64 KiB, each sealed with
// ChaCha20-Poly1305 under a key derived from file key and nonce. docs/decisions/0005-age-payload.md says why this part is native.

export const PAYLOAD_NONCE_BYTES = 16;
export const PLAIN_CHUNK_BYTES = 64 * 1024;
const TAG_BYTES = 16;
export const SEALED_CHUNK_BYTES = PLAIN_CHUNK_BYTES + TAG_BYTES;

/** The key that one file's chunks are sealed with. */
export function payloadKey(fileKey: Uint8Array, payloadNonce: Uint8Array): KeyObject {
  return createSecretKey(Buffer.from(hkdfSync('sha256', fileKey, payloadNonce, 'payload', 32)));
}

/** A chunk's nonce: its number as 11 bytes, big end first, then 1 for the last chunk and 0 for the others. */
function chunkNonce(index: number, last: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(index, 5, 6);
  nonce[11] = last ? 1 : 0;
  return nonce;
}

/** Seals one chunk of at most 64 KiB; gives the ciphertext and, apart, its tag. */
export function sealChunk(key: KeyObject, index: number, last: boolean, plain: Buffer): [Buffer, Buffer] {
  const cipher = createCipheriv('chacha20-poly1305', key, chunkNonce(index, last), { authTagLength: TAG_BYTES });
  const sealed = cipher.update(plain);
  cipher.final();
  return [sealed, cipher.getAuthTag()];
}

/** Opens one sealed chunk. @throws Error when it is not exactly what was sealed at this place */
export function openChunk(key: KeyObject, index: number, last: boolean, sealed: Buffer): Buffer {
  if (sealed.length < TAG_BYTES) throw new Error('the chunk is shorter than its tag');
  const decipher = createDecipheriv('chacha20-poly1305', key, chunkNonce(index, last), { authTagLength: TAG_BYTES });
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const plain = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
  decipher.final();
  return plain;
}
