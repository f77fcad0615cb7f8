import { keptSql, type PrivilegeStatement, readPrivileges, rolesOfGrant } from './privileges.js';
import type { RoleChanges } from './role-changes.js';
import type { GrantStatement } from './role-statements.js';
import type { TocEntry } from './toc.js';

/**
 * Takes the statements that name missing roles out of `ACL` and `DEFAULT ACL` entries. Gives the new SQL of each entry that
 * changes, by dump id; it is empty where nothing is left.
 *
 * What a missing role granted to others stays, without its SET and RESET: the restoring role grants it then. So those who had
 * their right to grant from a missing role keep it, and what they granted needs no change.
 */
export function privilegesWithoutRoles(
  entries: readonly TocEntry[],
  missing: ReadonlySet<string>,
  changes: RoleChanges,
): Map<number, string> {
  const edits = new Map<number, string>();
  for (const { dumpId, defn } of entries) {
    const statements = readPrivileges(defn);
    for (const statement of statements) removeIfNamed(statement, missing, changes);
    for (const statement of statements) liftSession(statement, statements, missing, changes);
    const isChanged = statements.some(({ removed, session }) => removed || session?.lifted);
    if (isChanged) edits.set(dumpId, keptSql(defn, statements));
  }
  return edits;
}

function removeIfNamed(statement: PrivilegeStatement, missing: ReadonlySet<string>, changes: RoleChanges): void {
  const { grant, session } = statement;
  const gone = grant ? rolesOfGrant(grant).filter((role) => missing.has(role)) : [];
  if (!grant || gone.length === 0) return;
  statement.removed = true;
  if (session) session.removed += 1;
  for (const role of gone) changes.add({ ...changeOf(grant), role });
}

function changeOf({ creators, inSchema, object }: GrantStatement): { kind: 'grant' | 'default-privilege'; object: string } {
  if (creators.length === 0) return { kind: 'grant', object };
  const where = inSchema === null ? '' : ` IN SCHEMA ${inSchema}`;
  return { kind: 'default-privilege', object: `${object} FOR ROLE ${creators.join(', ')}${where}` };
}

function liftSession(
  { session, grant, removed }: PrivilegeStatement,
  entry: readonly PrivilegeStatement[],
  missing: ReadonlySet<string>,
  changes: RoleChanges,
): void {
  if (!session) return;
  const { role } = session;
  session.lifted ||= missing.has(role) || (grant !== null && lostOption(entry, grant.object, role));
  if (session.lifted && grant && !removed) changes.add({ kind: 'grantor', object: grant.object, role });
}

/** Whether a role that exists may not grant any more, as its own grant went with a missing role's. */
function lostOption(entry: readonly PrivilegeStatement[], object: string, role: string): boolean {
  const options = entry.filter(({ grant }) => grant?.grantOption && grant.object === object && grant.grantees.includes(role));
  return options.length > 0 && options.every(({ removed }) => removed);
}
