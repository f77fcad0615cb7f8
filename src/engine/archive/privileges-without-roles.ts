import { keptSql, type PrivilegeStatement, readPrivileges, rolesOfStatement } from './privileges.js';
import type { RoleChanges } from './role-changes.js';
import type { GrantStatement } from './role-statements.js';
import type { TocEntry } from './toc.js';

interface PrivilegeEntry {
  entry: TocEntry;
  statements: PrivilegeStatement[];
}

/**
 * Takes the statements with missing roles out of `ACL` and `DEFAULT ACL` entries. Gives the new SQL of each entry that
 * changes, by dump id; it is empty where nothing is left.
 *
 * What a missing role granted goes with it, and what others granted by a right that they had from it: PostgreSQL would
 * refuse their statements.
 */
export function privilegesWithoutRoles(
  entries: readonly TocEntry[],
  missing: ReadonlySet<string>,
  changes: RoleChanges,
): Map<number, string> {
  const read: PrivilegeEntry[] = entries.map((entry) => ({ entry, statements: readPrivileges(entry.defn) }));
  for (const { statements } of read) {
    for (const statement of statements) {
      const gone = statement.grant ? rolesOfStatement(statement).filter((role) => missing.has(role)) : [];
      if (gone.length > 0) remove(statement, missing, changes);
    }
  }
  for (const ofObject of byObject(read)) removeUngrantable(ofObject, missing, changes);
  const changed = read.filter(({ statements }) => statements.some(({ removed }) => removed));
  return new Map(changed.map(({ entry, statements }) => [entry.dumpId, keptSql(entry.defn, statements)]));
}

function remove(statement: PrivilegeStatement, missing: ReadonlySet<string>, changes: RoleChanges): void {
  const { grant, session } = statement;
  if (!grant) return;
  statement.removed = true;
  if (session) session.removed += 1;
  const { creators, grantees, inSchema } = grant;
  if (creators.length > 0) {
    const object = `${grant.object} FOR ROLE ${creators.join(', ')}${inSchema === null ? '' : ` IN SCHEMA ${inSchema}`}`;
    for (const role of [...creators, ...grantees])
      if (missing.has(role)) changes.add({ kind: 'default-privilege', object, role });
    return;
  }
  const gone = grantees.filter((role) => missing.has(role));
  for (const role of gone.length > 0 ? gone : grantees) changes.add({ kind: 'grant', object: grant.object, role });
}

/** The grants of each object of which something is granted by another than its owner; a table's columns belong to it. */
function byObject(read: readonly PrivilegeEntry[]): PrivilegeStatement[][] {
  const objects = new Map<string, PrivilegeStatement[]>();
  for (const { entry, statements } of read) {
    if (entry.desc !== 'ACL') continue;
    for (const statement of statements) {
      if (!statement.grant) continue;
      const known = objects.get(statement.grant.object);
      if (known) known.push(statement);
      else objects.set(statement.grant.object, [statement]);
    }
  }
  return [...objects.values()].filter((statements) => statements.some(({ session }) => session !== null));
}

/** Removes what roles granted by a grant option that they lose, and so on along the chain. */
function removeUngrantable(statements: readonly PrivilegeStatement[], missing: ReadonlySet<string>, changes: RoleChanges): void {
  const options = (removed: boolean, role: string): GrantStatement[] =>
    statements.flatMap(({ grant, removed: isRemoved }) =>
      isRemoved === removed && grant?.grantOption && grant.grantees.includes(role) ? [grant] : [],
    );
  for (;;) {
    const lost = statements.find(({ grant, session, removed }) => {
      if (removed || !session || grant?.verb !== 'grant' || options(true, session.role).length === 0) return false;
      const left = options(false, session.role).flatMap(({ privileges }) => privileges);
      return !grant.privileges.every((wanted) => left.some((held) => covers(held, wanted)));
    });
    if (!lost) return;
    remove(lost, missing, changes);
  }
}

/** Whether the right to grant `held` is enough to grant `wanted`: that to a table is, for a column of it. */
function covers(held: string, wanted: string): boolean {
  const columns = wanted.indexOf('(');
  const ofColumns = columns === -1 ? '' : wanted.slice(columns);
  const ofTable = columns === -1 ? wanted : wanted.slice(0, columns);
  return held === wanted || held === ofTable || held === 'ALL' || held === `ALL${ofColumns}`;
}
