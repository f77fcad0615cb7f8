import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openDataDir } from './data-dir.js';

let home: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'backstay-data-dir-'));
  await writeFile(join(home, 'file'), '');
});
afterAll(() => rm(home, { recursive: true, force: true }));

describe('The data folder', () => {
  it('is made with its parents, for its owner alone', async () => {
    const folder = join(home, 'a', 'b');
    await openDataDir(folder);
    await openDataDir(folder);
    expect((await stat(folder)).mode & 0o777).toBe(0o700);
  });

  it.each([
    ['below /proc, where nothing can be made', () => '/proc/backstay', /no such folder \(ENOENT\)/],
    ['that is a file', () => join(home, 'file'), /it is no folder/],
    ['below a file', () => join(home, 'file', 'data'), /no such folder \(ENOTDIR\)/],
  ])('is refused with a sentence %s', async (_, folder, reason) => {
    await expect(openDataDir(folder())).rejects.toMatchObject({ name: 'StartError', message: expect.stringMatching(reason) });
  });
});
