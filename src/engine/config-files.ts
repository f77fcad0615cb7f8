import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, readdir, readlink, realpath } from 'node:fs/promises';
import { isAbsolute, join, normalize, sep } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Pack, pack } from 'tar-stream';
import { EngineError } from './errors.js';

/** A file that the tar begins with, made by us. */
export interface GeneratedFile {
  name: string;
  content: string;
}

/**
 * Checks by name alone, without a look at the files, that each path is plain and lies under an allowed root.
 * @throws EngineError CONFIG_PATH_REFUSED
 */
export async function assertConfigPaths(paths: readonly string[], roots: readonly string[]): Promise<void> {
  const allowed = [...roots.map((root) => root.replace(/(.)\/+$/, '$1')), ...(await realRootsOf(roots))];
  for (const path of paths) {
    assertPlain(path);
    if (!isUnder(path, allowed)) throw outside(path, roots);
  }
}

/**
 * Checks that each path lies under an allowed root, by its real place: a link on the way out of the root is refused.
 * @returns the real paths
 * @throws EngineError CONFIG_PATH_REFUSED
 */
export async function resolveConfigPaths(paths: readonly string[], roots: readonly string[]): Promise<string[]> {
  const realRoots = await realRootsOf(roots);
  return Promise.all(
    paths.map(async (path) => {
      assertPlain(path);
      const real = await realpath(path).catch((cause: unknown) => {
        throw refused(
          path,
          'does not exist or may not be read',
          'Check the path and the rights of the user that the server runs as.',
          cause,
        );
      });
      if (!isUnder(real, realRoots)) throw outside(path, roots);
      return real;
    }),
  );
}

async function realRootsOf(roots: readonly string[]): Promise<string[]> {
  return Promise.all(roots.map((root) => realpath(root).catch(() => root)));
}

function isUnder(path: string, roots: readonly string[]): boolean {
  return roots.some((root) => path === root || path.startsWith(root.endsWith(sep) ? root : root + sep));
}

function assertPlain(path: string): void {
  if (!isAbsolute(path) || path.includes('\0') || normalize(path) !== path)
    throw refused(path, 'is not a plain absolute path', 'Write it from / on, without . or .. in it.');
}

function outside(path: string, roots: readonly string[]): EngineError {
  const hint =
    roots.length === 0
      ? 'No folder is allowed: name some in CONFIG_ROOTS.'
      : 'Name a file or folder under CONFIG_ROOTS, or add its folder there.';
  return refused(path, 'does not lie under an allowed folder', hint);
}

function refused(path: string, why: string, hint: string, cause?: unknown): EngineError {
  return new EngineError('CONFIG_PATH_REFUSED', `The configuration path ${JSON.stringify(path)} ${why}.`, hint, { cause });
}

/**
 * A tar stream of generated files and of the listed ones, under `files/`. Links are stored as links and never followed; sockets,
 * pipes and devices are refused. Errors destroy the stream.
 * @param paths as `resolveConfigPaths` gave them
 */
export function packConfig(generated: readonly GeneratedFile[], paths: readonly string[], signal: AbortSignal): Readable {
  const tar = pack();
  const fill = async () => {
    for (const { name, content } of generated) await added((done) => tar.entry({ name, mode: 0o600 }, content, done));
    for (const path of paths) await addPath(tar, path, signal);
    tar.finalize();
  };
  fill().catch((error: unknown) => tar.destroy(error as Error));
  return Readable.from(tar);
}

async function addPath(tar: Pack, path: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const stats = await lstat(path).catch((cause: unknown) => {
    throw refused(path, 'went away while it was read', 'Run the backup again.', cause);
  });
  const header = { name: join('files', path), mode: stats.mode & 0o7777, uid: stats.uid, gid: stats.gid, mtime: stats.mtime };
  if (stats.isDirectory()) {
    await added((done) => tar.entry({ ...header, name: `${header.name}/`, type: 'directory' }, done));
    for (const name of (await readdir(path)).sort()) await addPath(tar, join(path, name), signal);
  } else if (stats.isSymbolicLink()) {
    const linkname = await readlink(path);
    await added((done) => tar.entry({ ...header, type: 'symlink', linkname }, done));
  } else if (stats.isFile()) {
    await addFile(tar, path, header, signal);
  } else {
    throw refused(path, `is a ${kindOf(stats)}`, 'Only files, folders and links can be taken along; leave it out.');
  }
}

async function addFile(tar: Pack, path: string, header: object & { name: string }, signal: AbortSignal): Promise<void> {
  // O_NOFOLLOW: between the look and the opening it may have become a link; O_NONBLOCK: or a pipe, on which opening would wait.
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((cause: unknown) => {
    throw refused(path, 'can not be read', 'Give the user that the server runs as the right to read it.', cause);
  });
  try {
    const stats = await handle.stat();
    if (!stats.isFile())
      throw refused(path, `is a ${kindOf(stats)}`, 'Only files, folders and links can be taken along; leave it out.');
    await addContent(tar, handle, stats.size, path, header, signal);
  } finally {
    await handle.close();
  }
}

/** The header says the size first: a file that shrinks meanwhile fails the run, one that grows is cut at the size it had. */
async function addContent(
  tar: Pack,
  handle: FileHandle,
  size: number,
  path: string,
  header: object & { name: string },
  signal: AbortSignal,
): Promise<void> {
  // Without content of its own, an entry would wait to be written to.
  if (size === 0) return added((done) => tar.entry({ ...header, size: 0 }, '', done));
  const entry = tar.entry({ ...header, size });
  if (!entry) throw new Error('the tar stream was destroyed');
  try {
    await pipeline(handle.createReadStream({ start: 0, end: size - 1, autoClose: false }), entry, { signal });
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    throw refused(path, 'changed while it was read', 'Run the backup again when nothing writes to it.', cause);
  }
}

function added(add: (done: (error?: Error | null) => void) => unknown): Promise<void> {
  return new Promise((resolve, reject) => add((error) => (error ? reject(error) : resolve())));
}

function kindOf(stats: Stats): string {
  if (stats.isSocket()) return 'socket';
  if (stats.isFIFO()) return 'pipe';
  return 'device';
}
