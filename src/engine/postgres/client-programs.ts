import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access, readdir, realpath } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { EngineError } from '../errors.js';
import { bareEnvironment } from './environment.js';

const run = promisify(execFile);

/** The programs of one PostgreSQL installation that a backup or a restore runs; absolute paths. */
export interface ClientPrograms {
  binDir: string;
  major: number;
  /** As the program says it, such as `15.20`. */
  version: string;
  pgDump: string;
  pgDumpall: string;
  pgRestore: string;
  psql: string | null;
  /** True where this version has a hole that a hostile archive or server can use. */
  knownHoles: boolean;
}

/** The first releases without the holes CVE-2026-116314 (pg_restore) and CVE-2026-6477 (libpq); majors before 14 have no such release. */
const FIRST_PATCHED: Readonly<Record<number, number>> = { 14: 25, 15: 20, 16: 16, 17: 12, 18: 7 };

/** Reads the number that `pg_dump --version` prints; null where it prints none. Betas and release candidates count as minor 0. */
export function parseVersion(output: string): { major: number; minor: number; version: string } | null {
  const found = /\(PostgreSQL\) (\d+)(?:\.(\d+))?((?:devel|beta|rc)\d*)?/.exec(output);
  if (found === null) return null;
  const [, major = '', minor, preview = ''] = found;
  return {
    major: Number(major),
    minor: Number(minor ?? 0),
    version: minor === undefined ? `${major}${preview}` : `${major}.${minor}`,
  };
}

/** Whether this release has a hole that a hostile archive or server can use. */
export function hasKnownHoles(major: number, minor: number): boolean {
  const first = FIRST_PATCHED[major];
  return first === undefined ? major < 14 : minor < first;
}

/**
 * Finds the installations with pg_dump, pg_dumpall and pg_restore: `binDirs` (PG_BIN_DIRS) first, then the usual folders of
 * Debian, Red Hat, Alpine, Homebrew and Postgres.app, then PATH. Each real folder once. Folders that do not exist are passed over.
 */
export async function findClientPrograms(options: { binDirs: readonly string[] }): Promise<ClientPrograms[]> {
  const found: ClientPrograms[] = [];
  const seen = new Set<string>();
  for (const binDir of [...options.binDirs, ...(await usualBinDirs()), ...pathDirs()]) {
    const pgDump = await executable(binDir, 'pg_dump');
    if (pgDump === null) continue;
    // A link in /usr/bin may be a chooser of versions; what it is, its own path tells.
    const real = await realpath(pgDump);
    if (seen.has(real)) continue;
    seen.add(real);
    const programs = await look(binDir, pgDump);
    if (programs !== null && !found.some((other) => other.version === programs.version && isWrapper(real))) found.push(programs);
  }
  return found;
}

/** Debian's /usr/bin/pg_dump is a Perl script that chooses an installation by the environment: never prefer it to the program itself. */
function isWrapper(real: string): boolean {
  return real.endsWith('pg_wrapper');
}

/** Every folder that may hold the programs of an installation, newest version first. */
export async function usualBinDirs(): Promise<string[]> {
  const versioned = await Promise.all([
    children('/usr/lib/postgresql', 'bin'),
    children('/usr/local/lib/postgresql', 'bin'),
    children('/usr/libexec', '', /^postgresql\d+$/),
    children('/usr', 'bin', /^pgsql-\d+$/),
    children('/opt/homebrew/opt', 'bin', /^(?:postgresql|libpq)(?:@\d+)?$/),
    children('/usr/local/opt', 'bin', /^(?:postgresql|libpq)(?:@\d+)?$/),
    children('/Applications/Postgres.app/Contents/Versions', 'bin', /^\d+$/),
  ]);
  return [...versioned.flat(), '/usr/local/pgsql/bin'];
}

/** The absolute folders of PATH: a relative one would let whoever lays a file there run it. */
export function pathDirs(): string[] {
  return (process.env.PATH ?? '').split(delimiter).filter((folder) => folder.startsWith('/'));
}

async function children(parent: string, below: string, pattern = /^\d+$/): Promise<string[]> {
  const names = await readdir(parent).catch(() => []);
  const newestFirst = names.filter((name) => pattern.test(name)).sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
  return newestFirst.map((name) => join(parent, name, below));
}

/** The path of a program in a folder, or null where there is none that may be run. */
export async function executable(folder: string, name: string): Promise<string | null> {
  const path = join(folder, name);
  return access(path, constants.X_OK).then(
    () => path,
    () => null,
  );
}

/** What a program says of its version; null where it does not run. */
export async function versionOf(path: string): Promise<ReturnType<typeof parseVersion>> {
  try {
    const { stdout } = await run(path, ['--version'], { env: bareEnvironment(), timeout: 10_000, maxBuffer: 64 * 1024 });
    return parseVersion(stdout);
  } catch {
    return null;
  }
}

async function look(binDir: string, pgDump: string): Promise<ClientPrograms | null> {
  const [pgDumpall, pgRestore, psql, version] = await Promise.all([
    executable(binDir, 'pg_dumpall'),
    executable(binDir, 'pg_restore'),
    executable(binDir, 'psql'),
    versionOf(pgDump),
  ]);
  if (pgDumpall === null || pgRestore === null || version === null) return null;
  return {
    binDir,
    major: version.major,
    version: version.version,
    pgDump,
    pgDumpall,
    pgRestore,
    psql,
    knownHoles: hasKnownHoles(version.major, version.minor),
  };
}

/**
 * The installation to use with a server: of the lowest major that is not below the server's (its archives can be read by most),
 * one without known holes first; among equals the one found first.
 *
 * @throws EngineError TOOL_MISSING, TOOL_TOO_OLD, TOOL_UNPATCHED
 */
export function chooseClientPrograms(
  all: readonly ClientPrograms[],
  serverMajor: number,
  options: { requirePatched?: boolean } = {},
): ClientPrograms {
  if (all.length === 0) {
    throw new EngineError(
      'TOOL_MISSING',
      'No pg_dump was found on this machine.',
      `Install postgresql-client-${serverMajor} or newer, or name its folder in PG_BIN_DIRS.`,
    );
  }
  const able = all.filter((programs) => programs.major >= serverMajor);
  if (able.length === 0) {
    const newest = all.reduce((a, b) => (b.major > a.major ? b : a));
    throw new EngineError(
      'TOOL_TOO_OLD',
      `The newest pg_dump here is ${newest.version}, and the server is PostgreSQL ${serverMajor}.`,
      `Install postgresql-client-${serverMajor} or newer, or name its folder in PG_BIN_DIRS.`,
    );
  }
  const allowed = options.requirePatched === true ? able.filter((programs) => !programs.knownHoles) : able;
  if (allowed.length === 0) {
    throw new EngineError(
      'TOOL_UNPATCHED',
      `The client programs for PostgreSQL ${serverMajor} have known security holes: ${able.map(({ version }) => version).join(', ')}.`,
      'Update them to the last minor release (PG_REQUIRE_PATCHED=true refuses these).',
    );
  }
  return allowed.reduce((best, programs) => (rank(programs) < rank(best) ? programs : best));
}

function rank(programs: ClientPrograms): number {
  return programs.major * 2 + (programs.knownHoles ? 1 : 0);
}
