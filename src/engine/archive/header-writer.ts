import { archiveCorrupt } from './archive-errors.js';
import { PREAMBLE_BYTES } from './archive-header.js';
import { decodeInt, INT_BYTES } from './byte-reader.js';
import type { FieldKind } from './record-reader.js';
import { type EncodeText, encoderFor } from './text-encoder.js';
import { type ArchiveToc, entryFields, type TocEntry } from './toc.js';
import { HEAD_FIELDS, TocReader } from './toc-reader.js';

/** What becomes of an entry; what is left out stays as it is. */
export interface EntryChange {
  owner?: string;
  defn?: string;
  /** What `pg_restore --clean` runs first; empty for nothing. */
  dropStmt?: string;
  /** For entries that have one. */
  copyStmt?: string;
  schema?: string;
  /** Takes the entry out. Others may go on naming it among their dependencies: pg_restore passes over those. */
  drop?: boolean;
}

/** A stretch of the header that other bytes take the place of. */
interface Edit {
  start: number;
  end: number;
  bytes: Buffer;
}

/** Places of texts that may change, and of the data's position, among the values of a stored entry (`EntryValues`). */
const TEXTS = { defn: 7, dropStmt: 8, copyStmt: 9, schema: 10, owner: 14 } as const;
const POSITION = 17;
const OFFSET_SET = 2;

/**
 * Writes a header and table of contents, as `readToc` gives them, anew with some entries changed or dropped. All else stays
 * as it is, byte by byte, but for the noted places of data blocks, which move with the header's length. The data that
 * follows the header in the archive may follow the new one.
 *
 * @param change is asked about each entry, in their order.
 * @throws EngineError ARCHIVE_CORRUPT for bytes that are no whole header, and for text that the archive's encoding lacks;
 *   Error for an entry with data that should be dropped.
 */
export function rewriteHeader(header: Buffer, change: (entry: TocEntry) => EntryChange | undefined): Buffer {
  const toc = parse(header);
  const encode = encoderFor(toc.entries.find(({ desc }) => desc === 'ENCODING')?.defn ?? '');
  const countAt = endOfHead(header, toc) - INT_BYTES;
  const fields = entryFields(toc.version);
  const edits: Edit[] = [];
  const positions: number[] = [];
  let dropped = 0;
  let at = countAt + INT_BYTES;
  for (const entry of toc.entries) {
    const starts = fieldStarts(header, at, fields, toc.offSize);
    const end = starts.at(-1) ?? at;
    const wanted = change(entry);
    if (wanted?.drop) {
      if (entry.hadDumper) throw new Error(`Entry ${entry.dumpId} has data in the archive and can't be dropped`);
      edits.push({ start: at, end, bytes: Buffer.alloc(0) });
      dropped += 1;
    } else {
      for (const [name, field] of Object.entries(TEXTS) as [keyof typeof TEXTS, number][]) {
        const after = wanted?.[name];
        if (after === undefined || after === (entry[name] ?? '')) continue;
        edits.push(replaceText(header, starts[field] ?? at, after, encode));
      }
      positions.push(starts[POSITION] ?? at);
    }
    at = end;
  }
  if (dropped > 0) edits.unshift({ start: countAt, end: countAt + INT_BYTES, bytes: encodeInt(toc.entries.length - dropped) });
  const growth = edits.reduce((sum, { start, end, bytes }) => sum + bytes.length - (end - start), 0);
  return apply(header, [...edits, ...(growth === 0 ? [] : movedPositions(header, positions, toc.offSize, growth))]);
}

function parse(header: Buffer): ArchiveToc {
  const reader = new TocReader();
  const toc = reader.write(header);
  if (!toc) throw archiveCorrupt(`it ends within its table of contents, after byte ${reader.headerBytes}`);
  if (reader.restBytes > 0) throw new Error('More than the header of an archive was given');
  return toc;
}

function endOfHead(header: Buffer, { version, offSize }: ArchiveToc): number {
  const fields: FieldKind[] = [version === '1.14' ? 'int' : 'byte', ...HEAD_FIELDS];
  return fieldStarts(header, PREAMBLE_BYTES, fields, offSize).at(-1) ?? PREAMBLE_BYTES;
}

/** Where each field begins, and last where the record ends. */
function fieldStarts(header: Buffer, start: number, fields: readonly FieldKind[], offSize: number): number[] {
  const starts = [start];
  let at = start;
  for (const field of fields) {
    at = fieldEnd(header, at, field, offSize);
    starts.push(at);
  }
  return starts;
}

function fieldEnd(header: Buffer, at: number, field: FieldKind, offSize: number): number {
  switch (field) {
    case 'byte':
      return at + 1;
    case 'int':
      return at + INT_BYTES;
    case 'text':
    case 'word':
    case 'bytes':
      return textEnd(header, at);
    case 'texts': {
      let next = at;
      while (decodeInt(header, next, next) >= 0) next = textEnd(header, next);
      return next + INT_BYTES;
    }
    case 'offset':
      return at + 1 + offSize;
    case 'absent':
      return at;
    default:
      return field satisfies never;
  }
}

function textEnd(header: Buffer, at: number): number {
  return at + INT_BYTES + Math.max(0, decodeInt(header, at, at));
}

function replaceText(header: Buffer, start: number, text: string, encode: EncodeText): Edit {
  const end = textEnd(header, start);
  const content = encode(text, header.subarray(start + INT_BYTES, end));
  return { start, end, bytes: Buffer.concat([encodeInt(content.length), content]) };
}

function encodeInt(value: number): Buffer {
  const bytes = Buffer.alloc(INT_BYTES);
  bytes.writeUInt32LE(value, 1);
  return bytes;
}

function movedPositions(header: Buffer, positions: readonly number[], offSize: number, growth: number): Edit[] {
  return positions.flatMap((position) => {
    if (header.readUInt8(position) !== OFFSET_SET) return [];
    const start = position + 1;
    const bytes = Buffer.alloc(offSize);
    if (offSize === 8) bytes.writeBigUInt64LE(header.readBigUInt64LE(start) + BigInt(growth));
    else bytes.writeUInt32LE(header.readUInt32LE(start) + growth);
    return [{ start, end: start + offSize, bytes }];
  });
}

function apply(header: Buffer, edits: readonly Edit[]): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (const { start, end, bytes } of edits.toSorted((left, right) => left.start - right.start)) {
    parts.push(header.subarray(at, start), bytes);
    at = end;
  }
  return Buffer.concat([...parts, header.subarray(at)]);
}
