import { type FileHandle, open, rm } from 'node:fs/promises';
import { EngineError } from '../errors.js';
import { archiveCorrupt } from './archive-errors.js';
import type { ArchiveToc } from './toc.js';
import { TocReader } from './toc-reader.js';

/**
 * Reads the table of contents from the beginning of an archive, with the bytes that hold it. Reading stops there: the source
 * is destroyed.
 * @throws EngineError ARCHIVE_CORRUPT; whatever the source throws.
 */
export async function readToc(source: AsyncIterable<Buffer>): Promise<{ toc: ArchiveToc; header: Buffer }> {
  const parts: Buffer[] = [];
  const toc = await takeHeader(source, (part) => {
    parts.push(part);
  });
  return { toc, header: Buffer.concat(parts) };
}

/**
 * Writes the beginning of an archive, header and table of contents without data, to a new file that only its owner may
 * read. `pg_restore --list`, `--section=pre-data` and `--section=post-data` take such a file for the archive. Reading stops
 * there: the source is destroyed. No file stays after an error.
 * @throws EngineError ARCHIVE_CORRUPT, DISK_FULL; whatever the source throws; the file system's errors, e.g. EEXIST.
 */
export async function writeHeaderOnlyArchive(source: AsyncIterable<Buffer>, path: string): Promise<ArchiveToc> {
  let file: FileHandle | undefined;
  try {
    // The file is opened while the source is being read, so that the source is destroyed when that fails, too.
    const toc = await takeHeader(source, async (part) => {
      file ??= await open(path, 'wx', 0o600);
      await file.writeFile(part);
    });
    await file?.close();
    return toc;
  } catch (error) {
    if (file) {
      await file.close().catch(() => undefined);
      await rm(path, { force: true });
    }
    throw isDiskFull(error) ? diskFull(path, error) : error;
  }
}

async function takeHeader(source: AsyncIterable<Buffer>, take: (part: Buffer) => void | Promise<void>): Promise<ArchiveToc> {
  const reader = new TocReader();
  for await (const chunk of source) {
    const toc = reader.write(chunk);
    await take(toc ? chunk.subarray(0, chunk.length - reader.restBytes) : chunk);
    // Leaving the loop destroys the source.
    if (toc) return toc;
  }
  throw archiveCorrupt(`it ends within its table of contents, after byte ${reader.headerBytes}`);
}

function isDiskFull(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  return code === 'ENOSPC' || code === 'EDQUOT';
}

function diskFull(path: string, cause: unknown): EngineError {
  return new EngineError('DISK_FULL', `There is no room to write ${path}.`, 'Free some space there and try again.', { cause });
}
