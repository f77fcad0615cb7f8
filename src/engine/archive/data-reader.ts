import { archiveCorrupt } from './archive-errors.js';
import { decodeInt, INT_BYTES } from './byte-reader.js';
import { type ContentDigest, ContentDigester, type RowDigest } from './content-digest.js';
import type { Stage, StagePool } from './stage.js';
import { type ArchiveToc, LARGE_OBJECT_DATA, TABLE_DATA, type TocEntry } from './toc.js';

const BLOCK_OF_ROWS = 1;
const BLOCK_OF_LARGE_OBJECTS = 3;

type Expected = 'block' | 'dump id' | 'object id' | 'length' | 'content';

/** Who takes rows and large objects while they are read. */
export interface StagedContent {
  stages: StagePool;
  /** The first `length` bytes of a stage, to be given back to the pool afterwards. @param oid of the large object, where it is of one */
  take(entry: TocEntry, stage: Stage, length: number, oid: number): void;
}

export interface DataReaderEvents {
  /** Bytes of a table's rows as they come, with the mark that ends them; they may be written over afterwards. */
  onRows?(entry: TocEntry, bytes: Buffer): void;
  /** Takes the rows, without the mark, and large objects, in large pieces. */
  staged?: StagedContent;
  /** Whether anybody wants an entry's data; what nobody wants is neither hashed nor told of. Without it, everything is wanted. */
  wants?(entry: TocEntry): boolean;
  onTable(entry: TocEntry, digest: RowDigest): void;
  onLargeObject(oid: number, digest: ContentDigest): void;
}

/**
 * Reads the blocks of data that follow an archive's table of contents, in pieces of any size. A block is a type byte, a
 * dump id and content; for large objects, an object id before each content and a zero after the last. Content is a series of
 * pieces, each a length and its bytes, that a zero length ends. The archive ends with its last block, without a mark.
 */
export class DataReader {
  readonly #entries: Map<number, TocEntry>;
  readonly #missing: Set<TocEntry>;
  readonly #digester: ContentDigester;
  #expected: Expected = 'block';
  #blockType = 0;
  #blockAt = 0;
  #entry: TocEntry | null = null;
  #wanted = true;
  #oid = 0;
  /** Bytes of the current piece that have not come. */
  #remaining = 0;
  /** An integer that comes in two chunks is put together here. */
  readonly #int = Buffer.alloc(INT_BYTES);
  #intFill = 0;
  /** Place in the archive of the current chunk. */
  #position: number;

  /** `position` is the place in the archive where the data begins. */
  constructor(
    readonly toc: ArchiveToc,
    position: number,
    private readonly events: DataReaderEvents,
  ) {
    this.#entries = new Map(toc.entries.map((entry) => [entry.dumpId, entry]));
    this.#missing = new Set(toc.entries.filter((entry) => entry.hadDumper));
    this.#position = position;
    const { staged } = events;
    this.#digester = new ContentDigester(
      staged && {
        stages: staged.stages,
        take: (stage, length) => staged.take(this.#entry as TocEntry, stage, length, this.#oid),
      },
    );
  }

  /** @throws EngineError ARCHIVE_CORRUPT */
  write(chunk: Buffer): void {
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
    let at = 0;
    while (at < chunk.length) {
      if (this.#expected === 'content') at = this.#readContent(chunk, view, at);
      else if (this.#expected === 'block') at = this.#readBlockType(chunk, at);
      else at = this.#readInt(chunk, at);
    }
    this.#position += chunk.length;
  }

  /** @throws EngineError ARCHIVE_CORRUPT when the archive ends too early. */
  end(): void {
    if (this.#expected !== 'block') throw archiveCorrupt(`it ends within ${this.#block()}, at byte ${this.#position}`);
    for (const entry of this.#missing) throw archiveCorrupt(`it ends before ${nameOf(entry)}`);
  }

  #readBlockType(chunk: Buffer, at: number): number {
    this.#blockType = chunk.readUInt8(at);
    this.#blockAt = this.#position + at;
    if (this.#blockType !== BLOCK_OF_ROWS && this.#blockType !== BLOCK_OF_LARGE_OBJECTS) {
      throw archiveCorrupt(`a block of the unknown type ${this.#blockType} begins at byte ${this.#blockAt}`);
    }
    this.#expected = 'dump id';
    return at + 1;
  }

  #readInt(chunk: Buffer, at: number): number {
    const copied = chunk.copy(this.#int, this.#intFill, at, at + INT_BYTES - this.#intFill);
    this.#intFill += copied;
    if (this.#intFill === INT_BYTES) {
      this.#intFill = 0;
      this.#takeInt(decodeInt(this.#int, 0, this.#position + at + copied - INT_BYTES));
    }
    return at + copied;
  }

  #takeInt(value: number): void {
    if (this.#expected === 'dump id') this.#beginBlock(value);
    else if (this.#expected === 'object id') this.#beginLargeObject(value);
    else this.#beginPiece(value);
  }

  #beginBlock(dumpId: number): void {
    const entry = this.#entries.get(dumpId);
    if (!entry?.hadDumper) {
      throw archiveCorrupt(`the block at byte ${this.#blockAt} belongs to the unknown entry ${dumpId}`);
    }
    if (!this.#missing.delete(entry)) throw archiveCorrupt(`it holds ${nameOf(entry)} twice`);
    if (entry.desc !== (this.#blockType === BLOCK_OF_ROWS ? TABLE_DATA : LARGE_OBJECT_DATA)) {
      throw archiveCorrupt(`the block at byte ${this.#blockAt} has not the type of ${nameOf(entry)}`);
    }
    if (entry.dataOffset !== null && entry.dataOffset !== this.#blockAt) {
      throw archiveCorrupt(`${nameOf(entry)} begin at byte ${this.#blockAt} instead of ${entry.dataOffset}`);
    }
    this.#entry = entry;
    this.#wanted = this.events.wants?.(entry) ?? true;
    if (this.#blockType === BLOCK_OF_ROWS) {
      this.#digester.beginRows();
      this.#expected = 'length';
    } else {
      this.#expected = 'object id';
    }
  }

  #beginLargeObject(value: number): void {
    if (value === 0) {
      this.#expected = 'block';
      return;
    }
    // Object ids are unsigned, but pg_dump writes them as signed integers.
    this.#oid = value < 0 ? value + 2 ** 32 : value;
    this.#digester.beginContent();
    this.#expected = 'length';
  }

  #beginPiece(length: number): void {
    if (length === 0) {
      this.#endContent();
      return;
    }
    if (length < 0 || length > 0x7fffffff) throw this.#badLength(length);
    this.#remaining = length;
    this.#expected = 'content';
  }

  /** The hot path: goes from piece to piece as long as they lie in this chunk. */
  #readContent(chunk: Buffer, view: DataView, from: number): number {
    const end = chunk.length;
    const digester = this.#digester;
    const { onRows } = this.events;
    const wanted = this.#wanted;
    let at = from;
    let remaining = this.#remaining;
    for (;;) {
      const taken = remaining < end - at ? remaining : end - at;
      if (wanted) digester.append(chunk, view, at, taken);
      if (onRows && wanted && this.#blockType === BLOCK_OF_ROWS && this.#entry)
        onRows(this.#entry, chunk.subarray(at, at + taken));
      at += taken;
      remaining -= taken;
      if (remaining > 0) break;
      if (end - at < INT_BYTES) {
        this.#expected = 'length';
        break;
      }
      const sign = view.getUint8(at);
      const length = view.getInt32(at + 1, true);
      if (sign !== 0 || length < 0) throw this.#badLength(decodeInt(chunk, at, this.#position + at));
      at += INT_BYTES;
      if (length === 0) {
        this.#endContent();
        break;
      }
      remaining = length;
    }
    this.#remaining = remaining;
    return at;
  }

  #endContent(): void {
    if (this.#blockType === BLOCK_OF_LARGE_OBJECTS) {
      this.#expected = 'object id';
      if (this.#wanted) this.events.onLargeObject(this.#oid, this.#digester.endContent());
      return;
    }
    if (!this.#wanted) {
      this.#expected = 'block';
      return;
    }
    const digest = this.#digester.endRows();
    if (digest === null || !this.#entry) throw archiveCorrupt(`${this.#block()} lack the mark that ends them`);
    this.#expected = 'block';
    this.events.onTable(this.#entry, digest);
  }

  #badLength(length: number): Error {
    return archiveCorrupt(`${this.#block()} hold a piece of ${length} bytes`);
  }

  #block(): string {
    return this.#entry && this.#expected !== 'dump id' ? nameOf(this.#entry) : `the block at byte ${this.#blockAt}`;
  }
}

function nameOf(entry: TocEntry): string {
  if (entry.desc === LARGE_OBJECT_DATA) return `the large objects of entry ${entry.dumpId}`;
  return `the rows of table "${entry.schema ?? ''}"."${entry.tag}"`;
}
