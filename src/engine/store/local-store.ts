import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { link, lstat, mkdir, open, opendir, realpath, rename, rm, statfs, unlink, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { EngineError } from '../errors.js';
import { abortReason, destroyOnAbort } from './abort.js';
import { ArtifactStore, type Abortable, type ReadOptions, type StoredObject, type WriteOptions } from './artifact-store.js';
import { diskFull, objectExists, objectMissing, systemCode, toStoreError } from './local-errors.js';
import { FileReadStream, inBatches, makeFolders, pruneEmptyFolders, syncFolder, writeFully } from './local-files.js';
import { assertKey, isKey, normalizePrefix, TEMPORARY_PREFIX } from './object-key.js';
import { readAll } from './read-all.js';

/** How often a folder is made anew when a concurrent removal prunes it just before its first file comes. */
const FOLDER_ATTEMPTS = 20;

/** Objects as files below one folder: folders 0700, files 0600, symbolic links never followed. */
export class LocalStore extends ArtifactStore {
  private opened: Promise<string> | undefined;

  /** @param root the folder; it is made (once) when it does not exist */
  constructor(private readonly root: string) {
    super();
  }

  async write(
    key: string,
    body: Readable | AsyncIterable<Buffer> | Iterable<Buffer>,
    options: WriteOptions = {},
  ): Promise<{ bytes: number }> {
    const stream = body instanceof Readable ? body : Readable.from(body);
    // A body may fail while the folder is still being made; without a listener that would end the process.
    stream.on('error', () => {});
    try {
      destroyOnAbort(stream, options.signal);
      return await this.writeStream(key, stream as AsyncIterable<Buffer>, options);
    } catch (error) {
      if (options.signal?.aborted) throw abortReason(options.signal);
      throw error;
    } finally {
      stream.destroy();
    }
  }

  async read(key: string, { start = 0, end = Infinity, signal }: ReadOptions = {}): Promise<Readable> {
    const file = await this.locate(key);
    signal?.throwIfAborted();
    const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW).catch((error: unknown) => {
      // ELOOP is what O_NOFOLLOW answers at a symbolic link: for the caller there is no object.
      if (isAbsent(error) || systemCode(error) === 'ELOOP') throw objectMissing(key, this.root);
      throw toStoreError(error, 'read', key, this.root, 0);
    });
    let last: number;
    try {
      const found = await handle.stat();
      if (!found.isFile()) throw objectMissing(key, this.root);
      last = Math.min(end, found.size - 1);
      if (start < 0 || end < start) throw new RangeError(`A range from ${start} to ${end} is none.`);
    } catch (error) {
      await handle.close();
      throw error;
    }
    const stream = new FileReadStream(handle, start, last, (error) => toStoreError(error, 'read', key, this.root, 0));
    destroyOnAbort(stream, signal);
    return stream;
  }

  async stat(key: string, { signal }: Abortable = {}): Promise<{ bytes: number; modifiedAt: Date } | null> {
    signal?.throwIfAborted();
    try {
      const found = await lstat(await this.locate(key));
      return found.isFile() ? { bytes: found.size, modifiedAt: new Date(found.mtimeMs) } : null;
    } catch (error) {
      if (isAbsent(error)) return null;
      throw toStoreError(error, 'look at', key, this.root, 0);
    }
  }

  async *list(prefix: string, { signal }: Abortable = {}): AsyncGenerator<StoredObject> {
    const root = await this.open();
    for await (const file of this.walk(await this.locatePrefix(prefix), signal)) {
      const key = path.relative(root, file).split(path.sep).join('/');
      const found = isKey(key) ? await lstat(file).catch(ignoreAbsent) : undefined;
      if (found?.isFile()) yield { key, bytes: found.size, modifiedAt: new Date(found.mtimeMs) };
    }
  }

  async rename(from: string, to: string, { signal }: Abortable = {}): Promise<void> {
    const [source, target] = [await this.locate(from), await this.locate(to)];
    signal?.throwIfAborted();
    if (!(await this.stat(from))) throw objectMissing(from, this.root);
    await this.explained('rename', from, async () => {
      await this.inFolderOf(target, () => this.linkOnce(source, target, to));
      await syncFolder(path.dirname(target));
      await unlink(source).catch(ignoreAbsent);
      await syncFolder(path.dirname(source));
      await pruneEmptyFolders(await this.open(), path.dirname(source));
    });
  }

  async remove(key: string, { signal }: Abortable = {}): Promise<void> {
    const file = await this.locate(key);
    signal?.throwIfAborted();
    const folder = path.dirname(file);
    try {
      await unlink(file);
      await syncFolder(folder).catch(ignoreAbsent);
    } catch (error) {
      if (!isAbsent(error)) throw toStoreError(error, 'remove', key, this.root, 0);
    }
    await pruneEmptyFolders(await this.open(), folder);
  }

  async removeTree(prefix: string, { signal }: Abortable = {}): Promise<void> {
    const bare = normalizePrefix(prefix);
    assertKey(bare);
    const folder = await this.locate(bare);
    signal?.throwIfAborted();
    await this.explained('remove', bare, async () => {
      await rm(folder, { recursive: true, force: true, maxRetries: 3 });
      await syncFolder(path.dirname(folder)).catch(ignoreAbsent);
      await pruneEmptyFolders(await this.open(), path.dirname(folder));
    });
  }

  async removeStaleTemporaries(olderThanMs: number, prefix = '', { signal }: Abortable = {}): Promise<number> {
    const before = Date.now() - olderThanMs;
    let removed = 0;
    for await (const file of this.walk(await this.locatePrefix(prefix), signal)) {
      if (!path.basename(file).startsWith(TEMPORARY_PREFIX)) continue;
      const found = await lstat(file).catch(ignoreAbsent);
      if (found === undefined || found.mtimeMs >= before) continue;
      await this.explained('remove', path.basename(file), () => unlink(file).catch(ignoreAbsent));
      await pruneEmptyFolders(await this.open(), path.dirname(file));
      removed += 1;
    }
    return removed;
  }

  async freeBytes({ signal }: Abortable = {}): Promise<number> {
    signal?.throwIfAborted();
    const { bavail, bsize } = await statfs(await this.open());
    return bavail * bsize;
  }

  async check({ signal }: Abortable = {}): Promise<void> {
    const key = `.canary-${randomBytes(8).toString('hex')}`;
    const content = randomBytes(64);
    await this.write(key, Readable.from([content]), { signal });
    try {
      if (content.equals(await readAll(this, key, content.length, signal))) return;
      throw new EngineError(
        'STORE_FAILED',
        `The folder ${this.root} gave back other bytes than were written.`,
        'Check the device and the file system below it.',
      );
    } finally {
      await this.remove(key);
    }
  }

  private async writeStream(key: string, body: AsyncIterable<Buffer>, options: WriteOptions): Promise<{ bytes: number }> {
    const target = await this.locate(key);
    const folder = path.dirname(target);
    if (!options.overwrite && (await this.stat(key))) throw objectExists(key, this.root);
    if (options.expectedBytes !== undefined && options.expectedBytes > (await this.freeBytes())) throw diskFull(this.root, 0);

    const temporary = path.join(folder, TEMPORARY_PREFIX + randomBytes(12).toString('hex'));
    const progress = { bytes: 0 };
    const explained = <T>(action: () => Promise<T>): Promise<T> =>
      action().catch((error: unknown) => Promise.reject(toStoreError(error, 'write', key, folder, progress.bytes)));

    const handle = await explained(() => this.inFolderOf(target, () => open(temporary, 'wx', 0o600)));
    try {
      await fill(handle, body, progress, explained);
      options.signal?.throwIfAborted();
      await explained(async () => {
        if (options.overwrite) await rename(temporary, target);
        else await this.linkOnce(temporary, target, key);
        await unlink(temporary).catch(ignoreAbsent);
        await this.makeDurable(target, folder);
      });
    } finally {
      await unlink(temporary).catch(ignoreAbsent);
      await pruneEmptyFolders(await this.open(), folder);
    }
    return progress;
  }

  /** Syncs a new object's folder; an object that may not last is taken back, so that a failed write leaves nothing. */
  private async makeDurable(target: string, folder: string): Promise<void> {
    try {
      await syncFolder(folder).catch(ignoreAbsent);
    } catch (error) {
      await unlink(target).catch(ignoreAbsent);
      throw error;
    }
  }

  /**
   * Gives a file a second name, and never takes that name from another file: link, unlike rename, refuses an existing target.
   * When both names are the same file already, an earlier attempt was interrupted, and this one may go on.
   */
  private async linkOnce(source: string, target: string, key: string): Promise<void> {
    try {
      await link(source, target);
    } catch (error) {
      if (systemCode(error) === 'EEXIST') {
        const [a, b] = [await lstat(source), await lstat(target)];
        if (a.ino === b.ino && a.dev === b.dev) return;
        throw objectExists(key, this.root);
      }
      // File systems without hard links (FAT, some network mounts): look first, then rename.
      if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(systemCode(error) ?? '')) throw error;
      if (await lstat(target).catch(ignoreAbsent)) throw objectExists(key, this.root);
      await rename(source, target);
    }
  }

  /** Runs an action that needs `file`'s folder, making the folder anew while concurrent removals prune it. */
  private async inFolderOf<T>(file: string, action: () => Promise<T>): Promise<T> {
    const root = await this.open();
    for (let attempt = 1; ; attempt += 1) {
      try {
        await makeFolders(root, path.dirname(file));
        return await action();
      } catch (error) {
        // Without the root itself nothing is made: an unmounted volume must not be written beside.
        if (systemCode(error) !== 'ENOENT' || attempt === FOLDER_ATTEMPTS || !(await lstat(root).catch(ignoreAbsent)))
          throw error;
      }
    }
  }

  private async *walk(folder: string, signal?: AbortSignal): AsyncGenerator<string> {
    const entries = await this.explained('list', path.basename(folder), () => opendir(folder).catch(ignoreAbsent));
    if (entries === undefined) return;
    for await (const entry of entries) {
      signal?.throwIfAborted();
      if (entry.isDirectory()) yield* this.walk(path.join(folder, entry.name), signal);
      else if (entry.isFile()) yield path.join(folder, entry.name);
    }
  }

  private async locatePrefix(prefix: string): Promise<string> {
    const bare = normalizePrefix(prefix);
    const root = await this.open();
    // A root that went away must not look like an empty one: whoever lists would take every object for lost.
    await this.explained('list', bare || 'the objects', () => lstat(root));
    return bare === '' ? root : this.locate(bare);
  }

  /** The path of a key. Refuses one with a symbolic link on its way: it could lead out of the root. */
  private async locate(key: string): Promise<string> {
    assertKey(key);
    const root = await this.open();
    const segments = key.split('/');
    let folder = root;
    for (const segment of segments.slice(0, -1)) {
      folder = path.join(folder, segment);
      const found = await lstat(folder).catch(ignoreAbsent);
      if (found === undefined) break;
      if (found.isDirectory()) continue;
      throw new EngineError(
        'STORE_FAILED',
        `The path of ${key} in ${this.root} leads through ${segment}, which is no folder.`,
        'Symbolic links below the backup folder are not followed; put a real folder there.',
      );
    }
    return path.join(root, ...segments);
  }

  private open(): Promise<string> {
    this.opened ??= this.explained('open', 'the folder', async () => {
      await mkdir(this.root, { recursive: true, mode: 0o700 });
      return realpath(this.root);
    }).catch((error: unknown) => {
      this.opened = undefined;
      throw error;
    });
    return this.opened;
  }

  private async explained<T>(action: string, key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw toStoreError(error, action, key, this.root, 0);
    }
  }
}

async function fill(
  handle: FileHandle,
  body: AsyncIterable<Buffer>,
  progress: { bytes: number },
  explained: (action: () => Promise<void>) => Promise<void>,
): Promise<void> {
  try {
    for await (const batch of inBatches(body)) {
      await explained(() => writeFully(handle, batch, (count) => void (progress.bytes += count)));
    }
    await explained(() => handle.sync());
  } finally {
    await handle.close();
  }
}

function isAbsent(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '');
}

function ignoreAbsent(error: unknown): undefined {
  if (!isAbsent(error)) throw error;
  return undefined;
}
