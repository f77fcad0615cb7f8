import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { syncFolder } from '../../engine/store/local-files.js';
import { readJson, removeDurably, writeDurably } from './durable-file.js';

/** SHA-256 of each file of a closed catalog by its path: made at a clean stop, believed at the next start, gone in between. */
interface Seal {
  format: 1;
  at: string;
  files: Record<string, string>;
}

/** SHA-256 by path below the folder. */
export type FileHashes = Readonly<Record<string, string>>;

/** A catalog has a thousand files, and each sync waits for the disk. */
const AT_ONCE = 8;

/**
 * Makes a closed catalog durable, which PGlite does not do, and notes what it is to the last bit.
 * @param folder of PGlite, closed
 * @param file where the seal goes
 * @param durable what an earlier seal has made durable already
 */
export async function sealFolder(folder: string, file: string, durable: FileHashes): Promise<void> {
  const { files, folders } = await contentOf(folder);
  const hashes: Record<string, string> = {};
  await inParallel(files, async (path) => {
    const name = relative(folder, path);
    const hash = await hashOf(path);
    if (durable[name] !== hash) await syncFile(path);
    hashes[name] = hash;
  });
  await inParallel([...folders, join(folder, '..')], syncFolder);
  const seal: Seal = { format: 1, at: new Date().toISOString(), files: hashes };
  await writeDurably(file, JSON.stringify(seal));
}

/** Whether a catalog was sealed, and what has changed since: names of files, none when it is as it was. */
export async function compareWithSeal(
  folder: string,
  file: string,
): Promise<{ changed: string[]; files: FileHashes } | undefined> {
  const seal = await readJson<Seal>(file);
  if (seal?.format !== 1) return undefined;
  const { files } = await contentOf(folder);
  const found: Record<string, string> = {};
  await inParallel(files, async (path) => void (found[relative(folder, path)] = await hashOf(path)));
  const names = new Set([...Object.keys(seal.files), ...Object.keys(found)]);
  return { changed: [...names].filter((name) => found[name] !== seal.files[name]).sort(), files: seal.files };
}

/** From here on the catalog may change. */
export async function breakSeal(file: string): Promise<void> {
  await removeDurably(file);
}

async function syncFile(path: string): Promise<void> {
  const handle = await open(path, 'r');
  await handle.sync().finally(() => handle.close());
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const item of left) await work(item);
    }),
  );
}

async function contentOf(folder: string): Promise<{ files: string[]; folders: string[] }> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = (wanted: boolean) =>
    entries.filter((entry) => entry.isDirectory() === wanted).map((entry) => join(entry.parentPath, entry.name));
  return { files: paths(false).sort(), folders: [folder, ...paths(true)] };
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest('hex');
}
