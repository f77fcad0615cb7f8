import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { readSnapshot, type SnapshotHeader, type SnapshotPart, verifySnapshot, writeSnapshot } from './snapshot-file.js';
import { nextName, Snapshots } from './snapshots.js';

const HEADER: SnapshotHeader = {
  format: 1,
  at: '2026-01-02T03:04:05.678Z',
  backstay: '0.1.0',
  migrations: ['0001-foundation'],
  sequences: { audit_entries_id_seq: 7 },
  newest: { auditId: 7, attemptEndedAt: '' },
};

async function* parts(): AsyncGenerator<SnapshotPart> {
  yield { table: 'sources', columns: ['id', 'name'], rows: ['{"id":"a","name":"ä\\n\u2028"}', '{"id":"b","name":null}'] };
  yield { table: 'backups', columns: ['id'], rows: [] };
  yield { table: 'audit_entries', columns: ['id'], rows: Array.from({ length: 4500 }, (_, id) => `{"id":${id}}`) };
}

async function rowsOf(file: string): Promise<Record<string, string[]>> {
  const rows: Record<string, string[]> = {};
  for await (const part of readSnapshot(file)) (rows[part.table] ??= []).push(...part.rows);
  return rows;
}

describe('a snapshot of the embedded catalog', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'backstay-snapshots-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('gives back its header and every row', async () => {
    const file = join(folder, 'a.snapshot');
    await writeSnapshot(file, HEADER, parts());
    expect(await verifySnapshot(file)).toEqual(HEADER);
    const rows = await rowsOf(file);
    expect(rows['sources']).toEqual(['{"id":"a","name":"ä\\n\u2028"}', '{"id":"b","name":null}']);
    expect(rows['backups']).toEqual([]);
    expect(rows['audit_entries']).toHaveLength(4500);
  });

  it('is refused wherever it is cut and whichever byte is changed', async () => {
    const file = join(folder, 'a.snapshot');
    await writeSnapshot(file, HEADER, parts());
    const whole = await readFile(file);
    for (let at = 0; at < whole.length; at += 97) {
      await writeFile(file, whole.subarray(0, at));
      await expect(verifySnapshot(file)).rejects.toThrow();
      const changed = Buffer.from(whole);
      changed[at] = changed[at]! ^ 1;
      await writeFile(file, changed);
      await expect(verifySnapshot(file)).rejects.toThrow();
    }
  });

  it('leaves nothing behind when it can not be written', async () => {
    async function* failing(): AsyncGenerator<SnapshotPart> {
      yield { table: 'sources', columns: ['id'], rows: ['{}'] };
      throw new Error('the catalog is damaged');
    }
    await expect(writeSnapshot(join(folder, 'a.snapshot'), HEADER, failing())).rejects.toThrow('the catalog is damaged');
    expect(await readdir(folder)).toEqual([]);
  });

  it('is passed over when it is damaged, for the newest that is whole', async () => {
    const snapshots = new Snapshots(join(folder, 'snapshots'));
    expect(await snapshots.newestGood()).toEqual({ good: undefined, refused: [] });
    await mkdir(join(folder, 'snapshots'));
    const [older, newer] = ['2026-01-02T03-04-05.678Z.snapshot', '2026-01-02T03-04-06.678Z.snapshot'];
    await writeSnapshot(snapshots.pathOf(older), HEADER, parts());
    await writeFile(snapshots.pathOf(newer), 'no snapshot');
    await writeFile(snapshots.pathOf('2026-01-02T03-04-07.678Z.snapshot.new'), 'half written');
    expect(await snapshots.newestGood()).toEqual({
      good: { name: older, header: HEADER },
      refused: [expect.stringContaining(newer)],
    });
  });

  it('has a name that is later than the newest, even when the clock was set back', () => {
    const now = new Date('2026-01-02T03:04:05.678Z');
    expect(nextName(now, undefined)).toBe('2026-01-02T03-04-05.678Z.snapshot');
    expect(nextName(now, '2026-01-02T03-04-05.600Z.snapshot')).toBe('2026-01-02T03-04-05.678Z.snapshot');
    expect(nextName(now, '2027-01-02T03-04-05.600Z.snapshot')).toBe('2027-01-02T03-04-05.601Z.snapshot');
  });
});
