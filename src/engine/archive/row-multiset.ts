import { createHash } from 'node:crypto';

const LANES = 8;
const NEWLINE = 0x0a;
/** Ends the rows of a table in an archive; no row can be this. */
const END_OF_ROWS = Buffer.from('\\.', 'latin1');

/** What a table holds, in whatever order. */
export interface RowMultiset {
  rows: number;
  /** Hexadecimal; the same for the same rows, each as often. */
  sum: string;
}

/**
 * Adds up the SHA-256 of each row of COPY text, lane by lane, so that the order of the rows does not matter. It tells accidents; whoever
 * could choose rows freely might find two sets with one sum, but what is compared here is signed.
 */
export class RowMultisetDigest {
  readonly #lanes = new Uint32Array(LANES);
  #rows = 0;
  #rest: Buffer[] = [];
  #isOver = false;

  write(chunk: Buffer): void {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0 && !this.#isOver; at = chunk.indexOf(NEWLINE, from)) {
      this.#addRow(chunk.subarray(from, at));
      from = at + 1;
    }
    if (!this.#isOver && from < chunk.length) this.#rest.push(Buffer.from(chunk.subarray(from)));
  }

  digest(): RowMultiset {
    const sum = Buffer.from(this.#lanes.buffer.slice(0)).toString('hex');
    return { rows: this.#rows, sum };
  }

  #addRow(end: Buffer): void {
    const row = this.#rest.length === 0 ? end : Buffer.concat([...this.#rest, end]);
    this.#rest = [];
    if (row.equals(END_OF_ROWS)) {
      this.#isOver = true;
      return;
    }
    const hash = createHash('sha256').update(row).digest();
    for (let lane = 0; lane < LANES; lane++) this.#lanes[lane] = (this.#lanes[lane] ?? 0) + hash.readUInt32BE(lane * 4);
    this.#rows++;
  }
}
