import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { syncFolder, writeFully } from '../../engine/store/local-files.js';
import type { Watermark } from './check.js';

/** What a snapshot says of itself, in its first line. */
export interface SnapshotHeader {
  format: 1;
  /** When it was taken (ISO 8601). */
  at: string;
  /** The version of the server that took it. */
  backstay: string;
  /** The catalog's migrations at that time. */
  migrations: string[];
  /** Last values of the sequences, by name. */
  sequences: Record<string, number>;
  newest: Watermark;
}

/** A table's next rows, each the JSON of one row; a table may come in several parts. */
export interface SnapshotPart {
  table: string;
  columns: string[];
  rows: string[];
}

/*
 * zstd of lines. The first character of each tells what it is: H header, T table and its columns, R row, E the end, with the count
 * of rows and the SHA-256 of all bytes before it. Without a right end it is no snapshot.
 */

/** Writes a snapshot under a temporary name and gives it its own when it is durable. @returns its size in bytes */
export async function writeSnapshot(file: string, header: SnapshotHeader, parts: AsyncIterable<SnapshotPart>): Promise<number> {
  const draft = `${file}.new`;
  const handle = await open(draft, 'w', 0o600);
  try {
    const compress = createZstdCompress({
      params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 },
    });
    await pipeline(Readable.from(encode(header, parts)), compress, async (bytes: AsyncIterable<Buffer>) => {
      for await (const chunk of bytes) await writeFully(handle, [chunk], () => undefined);
    });
    await handle.sync();
    const { size } = await handle.stat();
    await handle.close();
    await rename(draft, file);
    await syncFolder(dirname(file));
    return size;
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(draft, { force: true });
    throw error;
  }
}

async function* encode(header: SnapshotHeader, parts: AsyncIterable<SnapshotPart>): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  let rows = 0;
  const line = (text: string) => {
    const bytes = Buffer.from(text);
    hash.update(bytes);
    return bytes;
  };
  yield line(`H${JSON.stringify(header)}\n`);
  for await (const part of parts) {
    rows += part.rows.length;
    const table = { table: part.table, columns: part.columns };
    yield line(`T${JSON.stringify(table)}\n${part.rows.map((row) => `R${row}\n`).join('')}`);
  }
  yield Buffer.from(`E${JSON.stringify({ rows, sha256: hash.digest('hex') })}\n`);
}

/** Reads all of a snapshot. @throws when it is cut, changed or of another format */
export async function verifySnapshot(file: string): Promise<SnapshotHeader> {
  let header: SnapshotHeader | undefined;
  for await (const item of read(file, false)) if ('format' in item) header = item;
  if (!header) throw new Error('it has no header');
  return header;
}

/** The rows of a snapshot that was verified. @throws when it is cut or changed */
export async function* readSnapshot(file: string): AsyncGenerator<SnapshotPart> {
  for await (const item of read(file, true)) if ('table' in item) yield item;
}

const ROWS_PER_PART = 2000;

/** @param withRows without them, the rows are only counted and hashed */
async function* read(file: string, withRows: boolean): AsyncGenerator<SnapshotHeader | SnapshotPart> {
  const hash = createHash('sha256');
  let rows = 0;
  let part: SnapshotPart | undefined;
  let ended = false;
  for await (const line of lines(file)) {
    if (ended) throw new Error('it goes on after its end');
    const mark = String.fromCharCode(line[0] ?? 0);
    if (mark === 'R' && part && !withRows) {
      hash.update(line);
      rows += 1;
      continue;
    }
    const text = line.toString('utf8', 1, line.length - 1);
    if (mark === 'E') {
      const end = JSON.parse(text) as { rows: number; sha256: string };
      if (end.rows !== rows || end.sha256 !== hash.digest('hex')) throw new Error('its checksum is wrong');
      if (part) yield part;
      ended = true;
      continue;
    }
    hash.update(line);
    if (mark === 'R' && part) {
      rows += 1;
      part.rows.push(text);
      if (part.rows.length < ROWS_PER_PART) continue;
      yield part;
      part = { ...part, rows: [] };
    } else if (mark === 'T') {
      if (part) yield part;
      part = { ...(JSON.parse(text) as Omit<SnapshotPart, 'rows'>), rows: [] };
    } else if (mark === 'H') {
      const header = JSON.parse(text) as SnapshotHeader;
      if (header.format !== 1) throw new Error(`its format is ${String(header.format)}`);
      yield header;
    } else throw new Error('it holds a line of no known kind');
  }
  if (!ended) throw new Error('its end is missing');
}

/** Each with its line break. */
async function* lines(file: string): AsyncGenerator<Buffer> {
  const source = createReadStream(file, { highWaterMark: 1024 * 1024 });
  const plain = createZstdDecompress();
  // pipeline destroys the other side with the error of one: the loop below meets it.
  const done = pipeline(source, plain).catch(() => undefined);
  let rest: Buffer[] = [];
  for await (const chunk of plain as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      const piece = chunk.subarray(start, end + 1);
      yield rest.length === 0 ? piece : Buffer.concat([...rest, piece]);
      rest = [];
      start = end + 1;
    }
    if (start < chunk.length) rest.push(chunk.subarray(start));
  }
  await done;
  if (rest.length > 0) throw new Error('its last line is cut');
}
