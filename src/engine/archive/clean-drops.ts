import { rewriteHeader } from './header-writer.js';
import type { ArchiveToc } from './toc.js';

const INDEX_ATTACH = 'INDEX ATTACH';
const KEYS: ReadonlySet<string> = new Set(['CONSTRAINT', 'INDEX']);

/**
 * Keeps `pg_restore --clean` from dropping the keys and indexes of partitioned tables one by one, which PostgreSQL refuses: a
 * partition's share belongs to its parent's, and the parent's can't go alone. They go with their tables.
 * @param header as `readToc` gives it, of an archive with this table of contents
 */
export function dropKeysWithTheirTables(header: Buffer, toc: ArchiveToc): Buffer {
  const attached = new Set(toc.entries.filter((entry) => entry.desc === INDEX_ATTACH).flatMap((entry) => entry.dependencies));
  if (attached.size === 0) return header;
  return rewriteHeader(header, (entry) => (KEYS.has(entry.desc) && attached.has(entry.dumpId) ? { dropStmt: '' } : undefined));
}
