import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, expect, it } from '@jest/globals';
import { sampleArchive } from '../../../test/support/archive-writer.js';
import { ArchiveInspector } from './archive-inspector.js';

const { bytes } = sampleArchive('1.16');

function inPieces(whole: Buffer, size: number): Buffer[] {
  return Array.from({ length: Math.ceil(whole.length / size) }, (_, index) => whole.subarray(index * size, (index + 1) * size));
}

function collector(received: Buffer[]): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      received.push(chunk);
      done();
    },
  });
}

function inspect(archive: Buffer): Promise<void> {
  return pipeline(Readable.from([archive]), new ArchiveInspector(), collector([]));
}

describe('ArchiveInspector', () => {
  it('lets the very same buffers through and has the summary after the end', async () => {
    const pieces = inPieces(bytes, 100);
    const received: Buffer[] = [];
    const inspector = new ArchiveInspector();
    await pipeline(Readable.from(pieces), inspector, collector(received));
    expect(received).toHaveLength(pieces.length);
    expect(received.every((buffer, index) => buffer === pieces[index])).toBe(true);
    expect(inspector.summary()).toMatchObject({ bytes: bytes.length, tables: [{ name: 'users', rows: 4 }, { name: 'empty' }] });
  });

  it('counts as it goes', async () => {
    const seen: unknown[] = [];
    const inspector = new ArchiveInspector({ onTable: () => seen.push([inspector.tablesDone, inspector.tablesTotal]) });
    expect([inspector.bytes, inspector.tablesDone, inspector.tablesTotal]).toEqual([0, 0, null]);
    await pipeline(Readable.from(inPieces(bytes, 7)), inspector, collector([]));
    expect(seen).toEqual([
      [1, 2],
      [2, 2],
    ]);
    expect(inspector.bytes).toBe(bytes.length);
  });

  it('fails the pipeline of a damaged and of a cut archive', async () => {
    const damaged = Buffer.concat([bytes, Buffer.from('x')]);
    await expect(inspect(damaged)).rejects.toMatchObject({ code: 'ARCHIVE_CORRUPT' });
    await expect(inspect(bytes.subarray(0, -1))).rejects.toMatchObject({ code: 'ARCHIVE_CORRUPT' });
    await expect(inspect(Buffer.alloc(0))).rejects.toMatchObject({ code: 'ARCHIVE_CORRUPT' });
  });

  it('fails the pipeline when a listener throws', async () => {
    const inspector = new ArchiveInspector({
      onToc: () => {
        throw new Error('no more');
      },
    });
    await expect(pipeline(Readable.from([bytes]), inspector, collector([]))).rejects.toThrow('no more');
  });
});
