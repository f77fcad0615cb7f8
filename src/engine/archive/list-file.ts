import { writeFile } from 'node:fs/promises';
import type { ArchiveToc } from './toc.js';

/**
 * Writes the list that `pg_restore --use-list` takes to a new file that only its owner may read. It holds numbers alone, no
 * names, in the archive's order, so that a restore from a stream finds the data blocks as it comes to them.
 * @throws the file system's errors, e.g. EEXIST
 */
export async function writeListFile(path: string, toc: ArchiveToc, dumpIds: ReadonlySet<number>): Promise<void> {
  const lines = toc.entries.filter(({ dumpId }) => dumpIds.has(dumpId)).map(({ dumpId }) => `${dumpId};\n`);
  await writeFile(path, lines.join(''), { mode: 0o600, flag: 'wx' });
}
