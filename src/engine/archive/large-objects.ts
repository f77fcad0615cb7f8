import { createHash } from 'node:crypto';
import { archiveCorrupt, archiveUnsupported } from './archive-errors.js';
import type { ContentDigest } from './content-digest.js';

export interface LargeObjectsSummary {
  count: number;
  /** Bytes of their contents. */
  bytes: number;
  /** Hexadecimal SHA-256, see `LargeObjectsDigest`. */
  sha256: string;
}

/** Object id, length, SHA-256 of the content. */
const RECORD_BYTES = 4 + 8 + 32;
/** Keeps a hostile archive from filling memory; so many need 740 MB. */
const MAX_LARGE_OBJECTS = 2 ** 24;

/**
 * One hash over all large objects, which does not depend on the order in which they come: pg_dump 17 sorts them by owner
 * and rights, so that a restored database may give them in another order.
 *
 * It is SHA-256 over one record per object, in ascending order of object ids: the object id (4 bytes), the content's length
 * (8 bytes), both big end first, and the SHA-256 of the content (32 bytes).
 */
export class LargeObjectsDigest {
  #records = Buffer.allocUnsafe(64 * RECORD_BYTES);
  #count = 0;
  #bytes = 0;

  add(oid: number, content: ContentDigest): void {
    if (this.#count === MAX_LARGE_OBJECTS) throw archiveUnsupported(`it has more than ${MAX_LARGE_OBJECTS} large objects`);
    const at = this.#count * RECORD_BYTES;
    if (at === this.#records.length) this.#records = Buffer.concat([this.#records], at * 2);
    this.#records.writeUInt32BE(oid, at);
    this.#records.writeBigUInt64BE(BigInt(content.bytes), at + 4);
    content.sha256.copy(this.#records, at + 12);
    this.#count += 1;
    this.#bytes += content.bytes;
  }

  /** @throws EngineError ARCHIVE_CORRUPT when an object id came twice. */
  summary(): LargeObjectsSummary {
    const order = Uint32Array.from({ length: this.#count }, (_, index) => index);
    order.sort((left, right) => this.#oid(left) - this.#oid(right));
    const hash = createHash('sha256');
    let previous = 0;
    for (const index of order) {
      const oid = this.#oid(index);
      if (oid === previous) throw archiveCorrupt(`it holds the large object ${oid} twice`);
      previous = oid;
      hash.update(this.#records.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES));
    }
    return { count: this.#count, bytes: this.#bytes, sha256: hash.digest('hex') };
  }

  #oid(index: number): number {
    return this.#records.readUInt32BE(index * RECORD_BYTES);
  }
}
