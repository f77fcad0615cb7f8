import type { Client } from 'pg';
import { rolesOf, withoutRoles } from './archive/archive-roles.js';
import type { OpenedArchive } from './restore-archive.js';

/** Roles that the archive names and the server behind this session does not have. */
export async function missingRoles(client: Client, archive: Pick<OpenedArchive, 'toc'>): Promise<Set<string>> {
  const { rows } = await client.query<{ rolname: string }>('SELECT rolname FROM pg_catalog.pg_roles');
  const there = new Set(rows.map((row) => row.rolname));
  return new Set([...rolesOf(archive.toc)].filter((role) => !there.has(role)));
}

/**
 * Owners and rights are kept where the roles exist; what falls to others is named. Names of roles have no encoding of their own: they
 * are spelt as in the archive where the session's database has its encoding.
 */
export async function adaptToRoles(
  client: Client,
  archive: OpenedArchive,
  leaveOut: ReadonlySet<string> = new Set(),
): Promise<{ header: Buffer; warnings: string[] }> {
  const missing = new Set([...(await missingRoles(client, archive)), ...leaveOut]);
  if (missing.size === 0) return { header: archive.header, warnings: [] };
  const { header, changes } = withoutRoles(archive.header, archive.toc, missing);
  const warnings = [...missing].sort().map((role) => {
    const of = changes.filter((change) => change.role === role);
    return `The role ${JSON.stringify(role)} ${leaveOut.has(role) ? 'is left out' : 'does not exist at the target'}: ${of.length} owners, grants or policies of it were left out or fell to the role that restores.${leaveOut.has(role) ? '' : ' Create it before the restore to keep them.'}`;
  });
  return { header, warnings };
}
