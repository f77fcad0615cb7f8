import type { Client } from 'pg';
import { splitStatements, type SqlToken } from './archive/sql-statements.js';
import { readArtifactPlain } from './artifact/artifact-reader.js';
import { EngineError } from './errors.js';
import { quoteName } from './postgres/relations.js';
import type { ArchiveSource, OpenedArchive } from './restore-archive.js';
import { missingRoles } from './restore-roles.js';
import { backupPrefix, objectKey } from './store/layout.js';

const MAX_GLOBALS_BYTES = 64 * 1024 * 1024;

/**
 * Creates the roles that the archive names and the server lacks, with the attributes and memberships that the backup's globals have,
 * without passwords.
 * @returns what could not be done, as sentences
 */
export async function createMissingRoles(client: Client, source: ArchiveSource, archive: OpenedArchive): Promise<string[]> {
  const missing = await missingRoles(client, archive);
  if (missing.size === 0) return [];
  const globals = await readGlobals(source, archive);
  const warnings: string[] = [];
  const attempt = async (statement: string, what: string) => {
    await client.query(statement).catch((error: Error) => warnings.push(`${what}: ${error.message}.`));
  };
  for (const role of missing) await attempt(`CREATE ROLE ${quoteName(role)}`, `The role ${role} could not be created`);
  for (const { text, tokens } of globals) {
    const role = attributesOf(tokens);
    if (role !== undefined && missing.has(role)) await attempt(text, `The attributes of the role ${role} could not be set`);
    const members = membershipOf(tokens);
    if (members?.some((member) => missing.has(member)))
      await attempt(text, `The membership of ${members.join(' and ')} could not be granted`);
  }
  return warnings;
}

/** The role of `ALTER ROLE x WITH …`, as pg_dumpall writes it; undefined for anything else, and where a password is set. */
function attributesOf(tokens: readonly SqlToken[]): string | undefined {
  const [alter, what, role, how] = tokens.map((token) => token.value);
  if (alter !== 'alter' || what !== 'role' || how !== 'with' || tokens.some((token) => token.value === 'password'))
    return undefined;
  return role;
}

/** Both roles of `GRANT x TO y …`. */
function membershipOf(tokens: readonly SqlToken[]): [string, string] | undefined {
  const [grant, role, to, member] = tokens.map((token) => token.value);
  return grant === 'grant' && role !== undefined && to === 'to' && member !== undefined ? [role, member] : undefined;
}

async function readGlobals(source: ArchiveSource, archive: OpenedArchive): Promise<{ text: string; tokens: SqlToken[] }[]> {
  const artifact = archive.manifest.artifacts.find((candidate) => candidate.name.startsWith('globals.sql'));
  if (!artifact) return [];
  if (artifact.plainBytes > MAX_GLOBALS_BYTES) {
    throw new EngineError(
      'TARGET_REFUSED',
      'The roles of this backup are more than can be read.',
      'Create the roles by hand, and restore without createRoles.',
    );
  }
  const key = objectKey(backupPrefix(source.ids), artifact.name);
  const plain = await readArtifactPlain({
    store: source.store,
    key,
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
