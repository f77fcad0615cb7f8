import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { ArchiveInspector } from './archive/archive-inspector.js';
import type { TableDigest } from './artifact/manifest.js';
import { EngineError } from './errors.js';
import type { PgConnection } from './postgres/connection.js';
import { databaseArgument, withPgEnvironment } from './postgres/environment.js';
import { programError, redact } from './postgres/program-error.js';
import { ProgramFailed, startProgram } from './postgres/run-program.js';
import type { ProgressMeter } from './progress.js';
import { type ArchiveSource, differsFromManifest, type OpenedArchive, readArchive } from './restore-archive.js';
import { ignoredErrors } from './restore-errors.js';
import { withTemporaryFolder } from './temporary-folder.js';

const IGNORED_STDERR_BYTES = 4 * 1024 * 1024;

/** What loads an archive into a database. */
export interface Loading {
  source: ArchiveSource;
  archive: OpenedArchive;
  connection: PgConnection;
  /** How the sessions of pg_restore are named. */
  applicationName: string;
  /** More settings for its sessions. */
  settings?: Readonly<Record<string, string>>;
  meter: ProgressMeter;
  /** Where errors of pg_restore go that do not stop it; without it, the first one does. */
  ignored?: string[];
}

/** Runs pg_restore on a file. @throws EngineError with what it said */
export function restoreFile(loading: Loading, args: readonly string[]): Promise<void> {
  return run(loading, args);
}

/**
 * Feeds the archive to pg_restore as it is decrypted, with another header in front; its tables are counted and hashed again on the way.
 * pg_restore can't come to the end, and commit, before all of it was found to be the manifest's, and `beforeEnd` has resolved.
 * @throws EngineError
 */
export async function restoreStream(
  loading: Loading,
  header: Buffer,
  args: readonly string[],
  beforeEnd: () => Promise<void> = async () => undefined,
): Promise<void> {
  const { source, archive, meter } = loading;
  meter.begin('data', archive.artifact.plainBytes);
  const inspector = new ArchiveInspector();
  const plain = await readArchive(source, archive);
  const told = async function* (bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let passed = 0;
    for await (const chunk of bytes) {
      passed += chunk.length;
      meter.tables(inspector.tablesDone, inspector.tablesTotal ?? 0);
      meter.passed(passed);
      yield chunk;
    }
  };
  const swapped = (bytes: AsyncIterable<Buffer>) => withHeader(bytes, archive.header.length, header);
  const sound = (bytes: AsyncIterable<Buffer>) =>
    endsAfter(bytes, async () => {
      assertTables(inspector, archive.tables);
      await beforeEnd();
    });
  await run(loading, args, (stdin) =>
    pipeline([plain, inspector, told, swapped, sound, stdin] as never, { signal: source.signal }),
  );
}

/** Gives `use` a file with header and table of contents alone, in a folder that only we can enter; gone afterwards. */
export async function withHeaderFile<T>(header: Buffer, use: (file: string) => Promise<T>): Promise<T> {
  return withTemporaryFolder(async (folder) => {
    const file = join(folder, 'header.dump');
    await writeFile(file, header, { mode: 0o600 });
    return use(file);
  });
}

/** The bytes, the last chunk of which is kept back until `check` has resolved. */
async function* endsAfter(bytes: AsyncIterable<Buffer>, check: () => Promise<void>): AsyncGenerator<Buffer> {
  let last: Buffer | undefined;
  for await (const chunk of bytes) {
    if (chunk.length === 0) continue;
    if (last) yield last;
    last = chunk;
  }
  await check();
  if (last) yield last;
}

/** @throws EngineError ARTIFACT_CORRUPT when a table of the archive that was just read is not the manifest's */
function assertTables(inspector: ArchiveInspector, expected: readonly TableDigest[]): void {
  const read = inspector.summary().tables;
  const differing = read.find((table, index) => table.sha256 !== expected[index]?.sha256 || table.name !== expected[index]?.name);
  if (!differing && read.length === expected.length) return;
  throw differsFromManifest(differing?.name ?? '');
}

/** The archive with another header in front of its data. */
async function* withHeader(archive: AsyncIterable<Buffer>, oldBytes: number, header: Buffer): AsyncGenerator<Buffer> {
  yield header;
  let left = oldBytes;
  for await (const chunk of archive) {
    if (left >= chunk.length) left -= chunk.length;
    else {
      yield left > 0 ? chunk.subarray(left) : chunk;
      left = 0;
    }
  }
}

async function run(
  { source, archive, connection, applicationName, settings, ignored }: Loading,
  args: readonly string[],
  feed?: (stdin: NodeJS.WritableStream) => Promise<void>,
): Promise<void> {
  // ALTER DATABASE SET may have made what is restored, or is restored into, read-only: whoever restores means to write.
  const session = { default_transaction_read_only: 'off', ...settings };
  await withPgEnvironment(connection, { applicationName, settings: session }, async (env) => {
    const program = startProgram(
      archive.programs.pgRestore,
      [
        ...(ignored ? [] : ['--exit-on-error']),
        '--no-tablespaces',
        '--no-password',
        '-d',
        databaseArgument(connection.database),
        ...args,
      ],
      {
        env,
        signal: source.signal,
        stdin: feed ? 'pipe' : 'ignore',
        ...(ignored ? { stderrBytes: IGNORED_STDERR_BYTES } : {}),
      },
    );
    program.stdout.resume();
    // A pg_restore that stops breaks the pipe to it: what it says is the cause, unless our own side failed first.
    const fed = feed && program.stdin ? errorOf(feed(program.stdin)) : undefined;
    const failed = await errorOf(program.done);
    const feedError = await fed;
    if (feedError instanceof EngineError) throw feedError;
    const errors = ignored && failed instanceof ProgramFailed && !failed.stopped ? ignoredErrors(failed.stderr) : undefined;
    if (errors) ignored?.push(...errors.map((error) => redact(error, connection)));
    else if (failed) throw programError('pg_restore', failed, { connection });
    if (feedError && !isBrokenPipe(feedError)) throw feedError;
  });
}

function errorOf(promise: Promise<void>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

function isBrokenPipe(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EPIPE' || code === 'ERR_STREAM_PREMATURE_CLOSE' || code === 'ECONNRESET';
}
