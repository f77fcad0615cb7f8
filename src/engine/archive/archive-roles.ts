import { type EntryChange, rewriteHeader } from './header-writer.js';
import { hasPrivileges, readPrivileges, rolesOfStatement } from './privileges.js';
import { privilegesWithoutRoles } from './privileges-without-roles.js';
import { nameOf, type RoleChange, RoleChanges, setsOwner } from './role-changes.js';
import { EVERYONE, parsePolicy, parseRoleSetting, parseUserMapping, type PolicyStatement } from './role-statements.js';
import { splitStatements } from './sql-statements.js';
import type { ArchiveToc, TocEntry } from './toc.js';

/**
 * Every role that must exist where the archive is restored: owners, those who gave and got privileges, roles of policies, of
 * user mappings, and of settings for one database.
 *
 * Names of roles have no encoding of their own: compare with those that a session in a database of the archive's encoding sees.
 */
export function rolesOf(toc: ArchiveToc): Set<string> {
  return new Set(toc.entries.flatMap((entry) => [...(setsOwner(entry) ? [entry.owner] : []), ...namedRoles(entry)]));
}

function namedRoles(entry: TocEntry): string[] {
  const { desc, defn } = entry;
  if (hasPrivileges(entry)) return readPrivileges(defn).flatMap(rolesOfStatement);
  if (desc === 'POLICY') return policiesOf(defn).flatMap(({ roles }) => withoutEveryone(roles.map(({ value }) => value)));
  if (desc === 'USER MAPPING') return withoutEveryone(mappingsOf(defn).map(({ role }) => role));
  if (desc === 'DATABASE PROPERTIES') return settingsOf(defn).map(({ role }) => role);
  return [];
}

/**
 * Writes the header anew so that a restore needs none of the `missing` roles. What they owned will belong to the role that
 * restores. What was granted to them, their default privileges and user mappings are left out; what they granted to others is
 * granted by the restoring role. A policy is for its other roles alone; where
 * none is left it is dropped, with its comment: without roles it would be for everyone.
 *
 * @param header and `toc` as `readToc` gives them.
 * @returns the new header, which takes the old one's place before the data of the archive, and what is different.
 * @throws EngineError ARCHIVE_CORRUPT, see `rewriteHeader`.
 */
export function withoutRoles(
  header: Buffer,
  toc: ArchiveToc,
  missing: ReadonlySet<string>,
): { header: Buffer; changes: RoleChange[] } {
  const changes = new RoleChanges();
  const edits = new Map<number, EntryChange>();
  for (const entry of toc.entries) {
    const owner = missing.has(entry.owner) ? { owner: '' } : {};
    if (missing.has(entry.owner) && setsOwner(entry)) changes.add({ kind: 'owner', object: nameOf(entry), role: entry.owner });
    const edit = { ...owner, ...withoutNamedRoles(entry, missing, changes) };
    if (Object.keys(edit).length > 0) edits.set(entry.dumpId, edit);
  }
  for (const [dumpId, sql] of privilegesWithoutRoles(toc.entries.filter(hasPrivileges), missing, changes)) {
    edits.set(dumpId, sql === '' ? { drop: true } : { ...edits.get(dumpId), defn: sql });
  }
  for (const entry of toc.entries) {
    const isRemark = entry.desc === 'COMMENT' || entry.desc === 'SECURITY LABEL';
    if (isRemark && entry.dependencies.some((dumpId) => edits.get(dumpId)?.drop)) edits.set(entry.dumpId, { drop: true });
  }
  if (edits.size === 0) return { header, changes: [] };
  return { header: rewriteHeader(header, ({ dumpId }) => edits.get(dumpId)), changes: changes.list() };
}

function withoutNamedRoles(entry: TocEntry, missing: ReadonlySet<string>, changes: RoleChanges): EntryChange {
  switch (entry.desc) {
    case 'POLICY':
      return withoutPolicyRoles(entry.defn, missing, changes);
    case 'USER MAPPING': {
      const gone = mappingsOf(entry.defn).filter(({ role }) => missing.has(role));
      for (const { role, server } of gone) changes.add({ kind: 'user-mapping', object: `SERVER ${server}`, role });
      return gone.length > 0 ? { drop: true } : {};
    }
    case 'DATABASE PROPERTIES':
      return withoutSettings(entry.defn, missing, changes);
    default:
      return {};
  }
}

function withoutPolicyRoles(sql: string, missing: ReadonlySet<string>, changes: RoleChanges): EntryChange {
  const [policy] = policiesOf(sql);
  const gone = policy?.roles.filter(({ value }) => missing.has(value)) ?? [];
  const [first] = policy?.roles ?? [];
  if (!policy || !first || gone.length === 0) return {};
  const kept = policy.roles.filter((role) => !gone.includes(role));
  const object = `${policy.restrictive ? 'RESTRICTIVE ' : ''}${policy.object}`;
  for (const { value: role } of gone) {
    changes.add({ kind: 'policy', object, role, ...(kept.length === 0 ? { dropped: true } : {}) });
  }
  if (kept.length === 0) return { drop: true };
  const list = kept.map(({ start, end }) => sql.slice(start, end)).join(', ');
  return { defn: sql.slice(0, first.start) + list + sql.slice(policy.roles.at(-1)?.end) };
}

function withoutSettings(sql: string, missing: ReadonlySet<string>, changes: RoleChanges): EntryChange {
  const statements = splitStatements(sql);
  const kept = statements.filter((statement) => {
    const found = parseRoleSetting(sql, statement);
    if (!found || !missing.has(found.role)) return true;
    changes.add({ kind: 'role-setting', object: found.setting, role: found.role });
    return false;
  });
  if (kept.length === statements.length) return {};
  // Without SQL it does nothing, but what depends on it still finds it.
  return { defn: kept.map(({ start, end }) => sql.slice(start, end)).join('') };
}

function policiesOf(sql: string): PolicyStatement[] {
  return splitStatements(sql).flatMap((statement) => parsePolicy(sql, statement) ?? []);
}

function mappingsOf(sql: string): { role: string; server: string }[] {
  return splitStatements(sql).flatMap((statement) => parseUserMapping(sql, statement) ?? []);
}

function settingsOf(sql: string): { role: string; setting: string }[] {
  return splitStatements(sql).flatMap((statement) => parseRoleSetting(sql, statement) ?? []);
}

function withoutEveryone(roles: readonly string[]): string[] {
  return roles.filter((role) => role !== EVERYONE);
}
