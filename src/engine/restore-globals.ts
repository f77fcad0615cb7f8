import type { Client } from 'pg';
import type { SqlToken } from './archive/sql-statements.js';
import { redact } from './postgres/program-error.js';
import { quoteName } from './postgres/relations.js';
import { readGlobals } from './read-globals.js';
import type { ArchiveSource, OpenedArchive } from './restore-archive.js';
import { missingRoles } from './restore-roles.js';

/**
 * Creates the roles that the archive names and the server lacks, with the attributes and memberships that the backup's globals have,
 * and with their passwords where the backup was made with `includePasswords`.
 * @returns what could not be done, as sentences
 */
export async function createMissingRoles(client: Client, source: ArchiveSource, archive: OpenedArchive): Promise<string[]> {
  const missing = await missingRoles(client, archive);
  if (missing.size === 0) return [];
  const globals = (await readGlobals(source, archive.manifest)) ?? [];
  const warnings: string[] = [];
  const attempt = async (statement: string, what: string) => {
    await client.query(statement).catch((error: Error) => warnings.push(`${what}: ${redact(error.message)}.`));
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

export async function canCreateRoles(client: Client): Promise<boolean> {
  const { rows } = await client.query<{ may: boolean }>(
    'SELECT rolcreaterole OR rolsuper AS may FROM pg_catalog.pg_roles WHERE rolname = current_user',
  );
  return rows[0]?.may === true;
}

/** The role of `ALTER ROLE x WITH …`, as pg_dumpall writes it; undefined for anything else. */
function attributesOf(tokens: readonly SqlToken[]): string | undefined {
  const [alter, what, role, how] = tokens.map((token) => token.value);
  return alter === 'alter' && what === 'role' && how === 'with' ? role : undefined;
}

/** Both roles of `GRANT x TO y …`. */
function membershipOf(tokens: readonly SqlToken[]): [string, string] | undefined {
  const [grant, role, to, member] = tokens.map((token) => token.value);
  return grant === 'grant' && role !== undefined && to === 'to' && member !== undefined ? [role, member] : undefined;
}
