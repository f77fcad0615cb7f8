import { archiveCorrupt } from './archive-errors.js';
import type { ContentDigest } from './content-digest.js';
import { copyColumns } from './copy-statement.js';
import { DataReader, type StagedContent } from './data-reader.js';
import { LargeObjectsDigest, type LargeObjectsSummary } from './large-objects.js';
import { type ArchiveToc, LARGE_OBJECT_DATA, TABLE_DATA, type TocEntry } from './toc.js';
import { TocReader } from './toc-reader.js';

/** What an archive holds of one table. */
export interface ArchiveTable {
  schema: string;
  name: string;
  rows: number;
  /** Bytes of the rows as `COPY … TO STDOUT` gives them, without pg_dump's end mark. */
  bytes: number;
  /** Hexadecimal SHA-256 of those bytes, in the order of the archive. */
  sha256: string;
  dumpId: number;
  /** In the order of the rows' values; null when `copyStmt` has an unknown form. */
  columns: string[] | null;
  copyStmt: string;
}

export interface ArchiveSummary {
  toc: ArchiveToc;
  /** Length of the header with the table of contents. */
  headerBytes: number;
  /** In the order of the archive. */
  tables: ArchiveTable[];
  /** Null when the archive has no data of large objects. */
  largeObjects: LargeObjectsSummary | null;
  /** Length of the archive. */
  bytes: number;
}

export interface ArchiveReaderOptions {
  /** Called once, when the table of contents is read. */
  onToc?(toc: ArchiveToc): void;
  /** Called after each table, with its place in `ArchiveSummary.tables`. */
  onTable?(table: ArchiveTable, index: number): void;
  /** Bytes of a table's rows as they come, with the mark that ends them; they may be written over afterwards. */
  onRows?(entry: TocEntry, bytes: Buffer): void;
  /** Takes the rows, without the mark, and large objects, in large pieces. */
  staged?: StagedContent;
  onLargeObject?(oid: number, digest: ContentDigest): void;
  /** Whether an entry's data is wanted; the summary says nothing of what is not. Without it, everything is. */
  wants?(entry: TocEntry): boolean;
  /** The greatest header with table of contents that is read, in bytes; 512 MiB when left out. */
  maxHeaderBytes?: number;
}

/**
 * Reads an archive of pg_dump's custom format, uncompressed, from its bytes in pieces of any size: counts and hashes the
 * rows of each table and the large objects. Memory holds the table of contents and a few buffers.
 * `write` and `end` throw EngineError ARCHIVE_CORRUPT; after that the reader is of no more use.
 */
export class ArchiveReader {
  readonly #tocReader: TocReader;
  #data: DataReader | null = null;
  #summary: ArchiveSummary | null = null;
  readonly #tables: ArchiveTable[] = [];
  readonly #largeObjects = new LargeObjectsDigest();
  /** Bytes read so far. */
  bytes = 0;
  /** Tables whose data is in the archive; null until the table of contents is read. */
  tablesTotal: number | null = null;

  constructor(private readonly options: ArchiveReaderOptions = {}) {
    this.#tocReader = new TocReader(options.maxHeaderBytes);
  }

  get tablesDone(): number {
    return this.#tables.length;
  }

  write(chunk: Buffer): void {
    this.bytes += chunk.length;
    if (this.#data) {
      this.#data.write(chunk);
      return;
    }
    const toc = this.#tocReader.write(chunk);
    if (toc) this.#beginData(toc, chunk.subarray(chunk.length - this.#tocReader.restBytes));
  }

  end(): void {
    if (!this.#data) throw archiveCorrupt(`it ends within its table of contents, at byte ${this.bytes}`);
    this.#data.end();
    const toc = this.#data.toc;
    const hasLargeObjects = toc.entries.some((entry) => entry.hadDumper && entry.desc === LARGE_OBJECT_DATA);
    this.#summary = {
      toc,
      headerBytes: this.#tocReader.headerBytes,
      tables: this.#tables,
      largeObjects: hasLargeObjects ? this.#largeObjects.summary() : null,
      bytes: this.bytes,
    };
  }

  /** What the archive holds; only after `end`. */
  summary(): ArchiveSummary {
    if (!this.#summary) throw new Error('An archive has a summary only when it was read to its end');
    return this.#summary;
  }

  #beginData(toc: ArchiveToc, rest: Buffer): void {
    this.tablesTotal = toc.entries.filter((entry) => entry.hadDumper && entry.desc === TABLE_DATA).length;
    this.#data = new DataReader(toc, this.#tocReader.headerBytes, {
      onTable: ({ schema, tag, dumpId, copyStmt }, digest) => {
        const statement = copyStmt ?? '';
        const table = {
          schema: schema ?? '',
          name: tag,
          ...digest,
          dumpId,
          columns: copyColumns(statement),
          copyStmt: statement,
        };
        this.#tables.push(table);
        this.options.onTable?.(table, this.#tables.length - 1);
      },
      onLargeObject: (oid, digest) => {
        this.#largeObjects.add(oid, digest);
        this.options.onLargeObject?.(oid, digest);
      },
      ...(this.options.wants ? { wants: (entry: TocEntry) => this.options.wants?.(entry) ?? true } : {}),
      ...(this.options.staged ? { staged: this.options.staged } : {}),
      ...(this.options.onRows ? { onRows: (entry: TocEntry, bytes: Buffer) => this.options.onRows?.(entry, bytes) } : {}),
    });
    this.options.onToc?.(toc);
    this.#data.write(rest);
  }
}
