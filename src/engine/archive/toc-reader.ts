import { archiveCorrupt } from './archive-errors.js';
import {
  type BrokenDownTime,
  formatCreationTime,
  parsePreamble,
  type Preamble,
  PREAMBLE_BYTES,
  refuseCompression,
} from './archive-header.js';
import { ByteReader } from './byte-reader.js';
import { RecordReader } from './record-reader.js';
import { type DecodeText, decodeUtf8, decoderFor } from './text-decoder.js';
import { type ArchiveToc, entryFields, type EntryValues, type TocEntry, toTocEntry } from './toc.js';

/** The greatest header and table of contents that is read, in bytes. 10,000 tables with indexes need about 50 MB. */
const MAX_HEADER_BYTES = 512 * 1024 * 1024;

/** The values of the header after the compression, in their order. */
export const HEAD_FIELDS = ['int', 'int', 'int', 'int', 'int', 'int', 'int', 'bytes', 'text', 'text', 'int'] as const;
type HeadValues = [
  compression: number,
  ...BrokenDownTime,
  isDaylightSaving: number,
  databaseName: Buffer | null,
  serverVersion: string | null,
  dumpVersion: string | null,
  entryCount: number,
];

interface Head extends Preamble {
  createdAt: string;
  databaseName: Buffer;
  serverVersion: string;
  dumpVersion: string;
  entryCount: number;
}

/** Reads an archive's header and table of contents from bytes that arrive in pieces. */
export class TocReader {
  readonly #reader: ByteReader;
  #preamble: Preamble | null = null;
  #head: Head | null = null;
  #record: RecordReader | null = null;
  #decode: DecodeText = decodeUtf8;
  readonly #entries: TocEntry[] = [];
  readonly #dumpIds = new Set<number>();

  constructor(maxHeaderBytes = MAX_HEADER_BYTES) {
    this.#reader = new ByteReader(maxHeaderBytes);
  }

  /** Bytes of the archive that were understood so far; when `write` has given the table of contents, its whole length. */
  get headerBytes(): number {
    return this.#reader.consumed;
  }

  /**
   * Takes the next bytes and gives the table of contents once it is whole. What follows it in the same chunk is the last
   * `restBytes` bytes of that chunk; nothing may be written after that.
   * @throws EngineError ARCHIVE_CORRUPT
   */
  write(chunk: Buffer): ArchiveToc | null {
    this.#reader.push(chunk);
    return this.#readPreamble() && this.#readHead() && this.#readEntries() ? this.#toc() : null;
  }

  get restBytes(): number {
    return this.#reader.available;
  }

  #readPreamble(): boolean {
    if (this.#preamble) return true;
    const bytes = this.#reader.bytes(PREAMBLE_BYTES);
    if (bytes === undefined) return false;
    this.#preamble = parsePreamble(bytes);
    const compression = this.#preamble.version === '1.14' ? 'int' : 'byte';
    this.#record = new RecordReader([compression, ...HEAD_FIELDS], this.#preamble.offSize);
    return true;
  }

  #readHead(): boolean {
    if (this.#head) return true;
    const preamble = present(this.#preamble);
    const values = present(this.#record).read(this.#reader, this.#decode);
    if (values === undefined) return false;
    const [compression, seconds, minutes, hours, day, month, year, , databaseName, ...rest] = values as HeadValues;
    const [serverVersion, dumpVersion, entryCount] = rest;
    refuseCompression(preamble.version, compression);
    if (entryCount < 0) throw archiveCorrupt(`its table of contents claims ${entryCount} entries`);
    this.#head = {
      ...preamble,
      createdAt: formatCreationTime([seconds, minutes, hours, day, month, year]),
      databaseName: databaseName ?? Buffer.alloc(0),
      serverVersion: serverVersion ?? '',
      dumpVersion: dumpVersion ?? '',
      entryCount,
    };
    this.#record = new RecordReader(entryFields(preamble.version), preamble.offSize);
    return true;
  }

  #readEntries(): boolean {
    const { entryCount } = present(this.#head);
    const record = present(this.#record);
    while (this.#entries.length < entryCount) {
      const values = record.read(this.#reader, this.#decode);
      if (values === undefined) return false;
      this.#add(toTocEntry(values as EntryValues));
    }
    return true;
  }

  #add(entry: TocEntry): void {
    if (this.#dumpIds.has(entry.dumpId)) throw archiveCorrupt(`its table of contents has entry ${entry.dumpId} twice`);
    this.#dumpIds.add(entry.dumpId);
    this.#entries.push(entry);
    // pg_dump writes this entry first: all names after it are in this encoding.
    if (entry.desc === 'ENCODING') this.#decode = decoderFor(entry.defn);
  }

  #toc(): ArchiveToc {
    const { entryCount: _, databaseName, ...head } = present(this.#head);
    return { ...head, databaseName: this.#decode(databaseName), entries: this.#entries };
  }
}

function present<T>(value: T | null): T {
  if (value === null) throw new Error('The archive was read out of order');
  return value;
}
