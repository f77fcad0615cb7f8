import { splitStatements, type SqlToken } from './archive/sql-statements.js';
import { readArtifactPlain } from './artifact/artifact-reader.js';
import type { Manifest } from './artifact/manifest.js';
import { EngineError } from './errors.js';
import type { ArtifactStore } from './store/artifact-store.js';
import { backupPrefix, type BackupIds, objectKey } from './store/layout.js';

const MAX_GLOBALS_BYTES = 64 * 1024 * 1024;

/**
 * The statements of a backup's globals (roles, memberships, tablespaces and role settings), as pg_dumpall wrote them; null when the
 * backup has none.
 * @throws EngineError TARGET_REFUSED when they are more than can be read, and what reading an artifact throws
 */
export async function readGlobals(
  source: { store: ArtifactStore; ids: BackupIds; identities: readonly string[]; signal: AbortSignal },
  manifest: Manifest,
): Promise<{ text: string; tokens: SqlToken[] }[] | null> {
  const artifact = manifest.artifacts.find((candidate) => candidate.name.startsWith('globals.sql'));
  if (!artifact) return null;
  if (artifact.plainBytes > MAX_GLOBALS_BYTES) {
    throw new EngineError(
      'TARGET_REFUSED',
      'The roles of this backup are more than can be read.',
      'Create the roles by hand, and restore without createRoles.',
    );
  }
  const plain = await readArtifactPlain({
    store: source.store,
    key: objectKey(backupPrefix(source.ids), artifact.name),
    name: artifact.name,
    identities: source.identities,
    expected: artifact,
    signal: source.signal,
  });
  const chunks: Buffer[] = [];
  for await (const chunk of plain as AsyncIterable<Buffer>) chunks.push(chunk);
  // Neither pg_dumpall's comments nor psql's own commands are SQL to run.
  const sql = Buffer.concat(chunks)
    .toString('utf8')
    .replace(/^(?:--|\\).*$/gm, '');
  return splitStatements(sql).map(({ start, end, tokens }) => ({ text: sql.slice(start, end), tokens }));
}
