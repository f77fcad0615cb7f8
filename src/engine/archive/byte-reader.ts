import { archiveCorrupt } from './archive-errors.js';

/** An integer of the archive: a sign byte and four bytes, little end first. */
export const INT_BYTES = 5;

const FIRST_CAPACITY = 128 * 1024;

/**
 * Reads the archive's primitive values from bytes that arrive in pieces of any size. Every reading method gives
 * `undefined`, and takes nothing, while the value has not wholly arrived. Memory follows the bytes that did arrive, never
 * a length that the archive claims; a claim beyond `limit` bytes in all is an error at once.
 */
export class ByteReader {
  #buffer = Buffer.allocUnsafe(FIRST_CAPACITY);
  #start = 0;
  #end = 0;
  /** Bytes taken so far: the place in the archive of the next value. */
  consumed = 0;

  constructor(readonly limit: number) {}

  /** Bytes that arrived and were not taken. */
  get available(): number {
    return this.#end - this.#start;
  }

  push(chunk: Buffer): void {
    this.#makeRoom(chunk.length);
    chunk.copy(this.#buffer, this.#end);
    this.#end += chunk.length;
  }

  /** The next `length` bytes, valid until the next `push`. */
  bytes(length: number): Buffer | undefined {
    if (!this.#has(0, length)) return undefined;
    const found = this.#buffer.subarray(this.#start, this.#start + length);
    this.#take(length);
    return found;
  }

  byte(): number | undefined {
    if (!this.#has(0, 1)) return undefined;
    const value = this.#buffer.readUInt8(this.#start);
    this.#take(1);
    return value;
  }

  int(): number | undefined {
    const value = this.#peekInt();
    if (value !== undefined) this.#take(INT_BYTES);
    return value;
  }

  /** A length and as many bytes, valid until the next `push`; null for the length -1. */
  string(): Buffer | null | undefined {
    const length = this.#peekInt();
    if (length === undefined) return undefined;
    if (length < -1) throw archiveCorrupt(`a text at byte ${this.consumed} has the length ${length}`);
    if (length > 0 && !this.#has(INT_BYTES, length)) return undefined;
    this.#take(INT_BYTES);
    return length === -1 ? null : this.bytes(length);
  }

  #peekInt(): number | undefined {
    if (!this.#has(0, INT_BYTES)) return undefined;
    return decodeInt(this.#buffer, this.#start, this.consumed);
  }

  #has(skip: number, length: number): boolean {
    if (this.consumed + skip + length > this.limit) {
      throw archiveCorrupt(`its table of contents claims more than ${this.limit} bytes, at byte ${this.consumed}`);
    }
    return this.available >= skip + length;
  }

  #take(length: number): void {
    this.#start += length;
    this.consumed += length;
  }

  #makeRoom(length: number): void {
    if (this.#buffer.length - this.#end >= length) return;
    const kept = this.available;
    const target =
      kept + length <= this.#buffer.length / 2
        ? this.#buffer
        : Buffer.allocUnsafe(Math.max(this.#buffer.length, (kept + length) * 2));
    this.#buffer.copy(target, 0, this.#start, this.#end);
    this.#buffer = target;
    this.#start = 0;
    this.#end = kept;
  }
}

/**
 * The integer at `at` in `bytes`, from -4294967295 to 4294967295 (object ids use the whole range of 32 bits).
 * `position` is its place in the archive, for the error of a sign byte that no program writes.
 */
export function decodeInt(bytes: Buffer, at: number, position: number): number {
  const sign = bytes.readUInt8(at);
  const magnitude = bytes.readUInt32LE(at + 1);
  if (sign > 1 || (sign === 1 && magnitude === 0)) throw archiveCorrupt(`the integer at byte ${position} has no valid sign`);
  return sign === 1 ? -magnitude : magnitude;
}
