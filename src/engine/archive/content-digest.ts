import { createHash, type Hash } from 'node:crypto';
import { countNewlines } from './newlines.js';
import { Stage, type StagePool } from './stage.js';

/** What `COPY … TO STDOUT` gives is followed, in an archive, by this mark. */
const END_MARK = Buffer.from('\\.\n\n\n', 'latin1');

const STAGE_BYTES = Stage.capacity;
/** Pieces up to this size are cheaper to copy by words than by a call into native code (measured: 300 to 1000 bytes). */
const WORD_COPY_BYTES = 300;
const WORD_BYTES = 8;

export interface RowDigest {
  rows: number;
  bytes: number;
  /** Hexadecimal SHA-256. */
  sha256: string;
}

export interface ContentDigest {
  bytes: number;
  /** 32 bytes. */
  sha256: Buffer;
}

/** Who takes content while it is hashed. */
export interface ContentTaker {
  stages: StagePool;
  /** The first `length` bytes of a stage, to be given back to the pool afterwards. */
  take: (stage: Stage, length: number) => void;
}

/**
 * Hashes and counts one content after another. pg_dump writes each row as a piece of its own, about a hundred bytes: the
 * pieces are laid together in one reused buffer, because hashing and counting them one by one would cost many times more.
 */
export class ContentDigester {
  #stage: Stage;
  #fill = 0;
  #hash: Hash = createHash('sha256');
  #ofRows = false;
  /** The last bytes of rows may be the mark, which does not count. */
  #heldBack = 0;
  #rows = 0;
  #bytes = 0;

  /** @param taker takes what was hashed, in large pieces; of rows, without the mark */
  constructor(private readonly taker?: ContentTaker) {
    this.#stage = taker?.stages.take() ?? new Stage();
  }

  beginRows(): void {
    this.#begin(true);
  }

  beginContent(): void {
    this.#begin(false);
  }

  /** Adds `length` bytes of `chunk` from `from` on. `view` must view the same bytes as `chunk`. */
  append(chunk: Buffer, view: DataView, from: number, length: number): void {
    const fill = this.#fill;
    if (length > STAGE_BYTES - fill) {
      this.#appendAcross(chunk, from, length);
      return;
    }
    if (length <= WORD_COPY_BYTES && from + length + WORD_BYTES <= chunk.length) {
      copyWords(this.#stage.view, fill, view, from, length);
    } else {
      chunk.copy(this.#stage.buffer, fill, from, from + length);
    }
    this.#fill = fill + length;
  }

  /** Ends rows; null when they do not end with the mark. */
  endRows(): RowDigest | null {
    const end = this.#fill - END_MARK.length;
    if (end < 0 || !this.#stage.buffer.subarray(end, this.#fill).equals(END_MARK)) return null;
    this.#settle();
    return { rows: this.#rows, bytes: this.#bytes, sha256: this.#hash.digest('hex') };
  }

  endContent(): ContentDigest {
    this.#settle();
    return { bytes: this.#bytes, sha256: this.#hash.digest() };
  }

  #begin(ofRows: boolean): void {
    this.#ofRows = ofRows;
    this.#heldBack = ofRows ? END_MARK.length : 0;
    this.#fill = 0;
    this.#rows = 0;
    this.#bytes = 0;
    this.#hash = createHash('sha256');
  }

  #appendAcross(chunk: Buffer, from: number, length: number): void {
    const end = from + length;
    let at = from;
    while (at < end) {
      if (this.#fill === STAGE_BYTES) this.#settle();
      const copied = chunk.copy(this.#stage.buffer, this.#fill, at, Math.min(end, at + STAGE_BYTES - this.#fill));
      this.#fill += copied;
      at += copied;
    }
  }

  /** Hashes and counts what is staged, less what is held back, which moves to the front. */
  #settle(): void {
    const settled = this.#fill - this.#heldBack;
    const stage = this.#stage;
    this.#hash.update(stage.buffer.subarray(0, settled));
    if (this.#ofRows) this.#rows += countNewlines(stage.buffer, stage.words, settled);
    this.#bytes += settled;
    if (this.taker && settled > 0) {
      this.#stage = this.taker.stages.take();
      stage.buffer.copy(this.#stage.buffer, 0, settled, this.#fill);
      this.taker.take(stage, settled);
    } else {
      stage.buffer.copyWithin(0, settled, this.#fill);
    }
    this.#fill = this.#heldBack;
  }
}

/** Copies whole words, so up to seven bytes more than `length`. */
function copyWords(target: DataView, at: number, source: DataView, from: number, length: number): void {
  for (let offset = 0; offset < length; offset += WORD_BYTES) {
    target.setBigInt64(at + offset, source.getBigInt64(from + offset, true), true);
  }
}
