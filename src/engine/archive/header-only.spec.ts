import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { sampleArchive } from '../../../test/support/archive-writer.js';
import { readToc, writeHeaderOnlyArchive } from './header-only.js';

const { bytes, header } = sampleArchive('1.16');

/** An archive that never ends, in pieces of 64 bytes, and the number of pieces that were taken of it. */
function endless(): { source: Readable; taken: () => number } {
  let at = 0;
  const source = new Readable({
    highWaterMark: 64,
    read() {
      this.push(at < bytes.length ? bytes.subarray(at, at + 64) : Buffer.alloc(64));
      at += 64;
    },
  });
  return { source, taken: () => at / 64 };
}

describe('taking the header of an archive', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'backstay-header-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('reads the table of contents and no more of the source than it must', async () => {
    const { source, taken } = endless();
    const read = await readToc(source);
    expect(read.header.equals(header)).toBe(true);
    expect(read.toc.entries).toHaveLength(11);
    expect(source.destroyed).toBe(true);
    expect(taken()).toBeLessThan(header.length / 64 + 4);
  });

  it('writes a file of the header alone that only its owner may read', async () => {
    const path = join(folder, 'header.dump');
    const { source } = endless();
    const toc = await writeHeaderOnlyArchive(source, path);
    expect(toc.databaseName).toBe('shop');
    expect((await readFile(path)).equals(header)).toBe(true);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(source.destroyed).toBe(true);
  });

  it('leaves no file of an archive that ends early, is damaged, or whose source fails', async () => {
    const path = join(folder, 'header.dump');
    const cut = Readable.from([header.subarray(0, -1)]);
    await expect(writeHeaderOnlyArchive(cut, path)).rejects.toMatchObject({ code: 'ARCHIVE_CORRUPT' });
    const noise = Readable.from([Buffer.from('no archive at all')]);
    await expect(writeHeaderOnlyArchive(noise, path)).rejects.toMatchObject({ code: 'ARCHIVE_CORRUPT' });
    const failing = new Readable({
      read() {
        this.destroy(new Error('connection lost'));
      },
    });
    await expect(writeHeaderOnlyArchive(failing, path)).rejects.toThrow('connection lost');
    expect(await readdir(folder)).toEqual([]);
  });

  it('never writes over a file', async () => {
    const path = join(folder, 'header.dump');
    await writeFile(path, 'precious');
    const source = Readable.from([bytes]);
    await expect(writeHeaderOnlyArchive(source, path)).rejects.toMatchObject({ code: 'EEXIST' });
    expect(await readFile(path, 'utf8')).toBe('precious');
    expect(source.destroyed).toBe(true);
  });
});
