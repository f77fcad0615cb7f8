import { describe, expect, it } from '@jest/globals';
import { ENCODING_ENTRY, type WrittenEntry, writeHeader } from '../../../test/support/archive-writer.js';
import { rolesOf, withoutRoles } from './archive-roles.js';
import type { RoleChange } from './role-changes.js';
import { TocReader } from './toc-reader.js';
import type { ArchiveToc } from './toc.js';

function written(entries: Partial<WrittenEntry>[]): { header: Buffer; toc: ArchiveToc } {
  const numbered = entries.map((entry, index) => ({ dumpId: index + 2, tag: 'tag', desc: 'TABLE', owner: '', ...entry }));
  const header = writeHeader({ version: '1.16', entries: [ENCODING_ENTRY, ...numbered] });
  return { header, toc: parsed(header) };
}

function parsed(header: Buffer): ArchiveToc {
  const toc = new TocReader().write(header);
  if (!toc) throw new Error('The header is cut');
  return toc;
}

function needed(...entries: Partial<WrittenEntry>[]): string[] {
  return [...rolesOf(written(entries).toc)].sort();
}

/** The SQL of each entry that is left, and what changed. */
function adapted(missing: string[], ...entries: Partial<WrittenEntry>[]): { left: string[]; changes: RoleChange[] } {
  const { header, toc } = written(entries);
  const result = withoutRoles(header, toc, new Set(missing));
  const after = parsed(result.header);
  expect([...rolesOf(after)].filter((role) => missing.includes(role))).toEqual([]);
  return { left: after.entries.slice(1).map(({ defn }) => defn), changes: result.changes };
}

const acl = (...statements: string[]): Partial<WrittenEntry> => ({ desc: 'ACL', defn: statements.join('') });
const policy = (defn: string): Partial<WrittenEntry> => ({ desc: 'POLICY', tag: 'users mine', schema: 'public', defn });
const asRole = (role: string, statement: string): string =>
  `SET SESSION AUTHORIZATION ${role};\n${statement}RESET SESSION AUTHORIZATION;\n`;

const defaults = (creator: string, grantee: string): Partial<WrittenEntry> => ({
  desc: 'DEFAULT ACL',
  defn: `ALTER DEFAULT PRIVILEGES FOR ROLE ${creator} IN SCHEMA s GRANT ALL ON TABLES  TO ${grantee};\n`,
});
const mine = (roles: string): string => `CREATE POLICY mine ON public.users FOR SELECT TO ${roles} USING ((name = 'TO eve'));\n`;
const mapping = (role: string): string => `CREATE USER MAPPING FOR ${role} SERVER "s;v" OPTIONS (\n    password 'secret'\n);\n`;
const setting = (role: string): string => `ALTER ROLE ${role} IN DATABASE shop SET app.name TO 'a;b';\n`;

describe('the roles that an archive needs', () => {
  it('are the owners of what pg_restore gives to its owner', () => {
    const drop = { dropStmt: 'DROP …' };
    expect(needed({ owner: 'ann', ...drop }, { owner: 'a"b;--', desc: 'FUNCTION', ...drop })).toEqual(['a"b;--', 'ann']);
    expect(needed({ owner: 'bob', desc: 'INDEX', ...drop }, { owner: 'eve', desc: 'ACL' }, { owner: '', ...drop })).toEqual([]);
  });

  it.each([
    ['GRANT SELECT,INSERT ON TABLE public.users TO bob;\n', ['bob']],
    ['GRANT SELECT("TO x; ""(") ON TABLE s."on TO y" TO "a""b;--" WITH GRANT OPTION;\n', ['a"b;--']],
    ['GRANT ALL ON FUNCTION s.f("from" integer, b timestamp with time zone) TO "Ünï rôle";\n', ['Ünï rôle']],
    ['REVOKE ALL ON SCHEMA public FROM PUBLIC;\nGRANT ALL ON SCHEMA public TO PUBLIC;\n', []],
    ['GRANT USAGE ON SCHEMA public TO "public";\n', []],
    ['GRANT USAGE ON SCHEMA public TO "PUBLIC";\n', ['PUBLIC']],
    ['REVOKE USAGE ON TYPE s.t FROM "new\nline";\n', ['new\nline']],
    ['GRANT ALL ON TABLE t TO GROUP staff;\n', ['staff']],
    ['GRANT ALL ON TABLE t TO "group";\nGRANT ALL ON TABLE t TO bob, "eve";\n', ['bob', 'eve', 'group']],
    ['GRANT ALL ON TABLE t TO bob WITH GRANT OPTION GRANTED BY eve;\n', ['bob', 'eve']],
    [asRole('"e v"', 'GRANT ALL ON TABLE t TO bob;\n'), ['bob', 'e v']],
    [asRole("'eve'", 'GRANT ALL ON TABLE t TO bob;\n'), ['bob', 'eve']],
  ])('are named by the privileges %j', (defn, roles) => {
    expect(needed(acl(defn))).toEqual(roles);
  });

  it.each([
    ['ALTER DEFAULT PRIVILEGES FOR ROLE ann GRANT ALL ON SEQUENCES  TO "b;ob" WITH GRANT OPTION;\n', ['ann', 'b;ob']],
    ['ALTER DEFAULT PRIVILEGES FOR ROLE "a nn" IN SCHEMA "s TO x" GRANT SELECT,INSERT ON TABLES  TO bob;\n', ['a nn', 'bob']],
    ['ALTER DEFAULT PRIVILEGES FOR ROLE ann REVOKE ALL ON FUNCTIONS  FROM PUBLIC;\n', ['ann']],
  ])('are named by the default privileges %j', (defn, roles) => {
    expect(needed({ desc: 'DEFAULT ACL', defn })).toEqual(roles);
  });

  it.each([
    ['CREATE POLICY mine ON public.users TO bob, "a, b" USING (true);\n', ['a, b', 'bob']],
    ['CREATE POLICY "p TO eve" ON users AS RESTRICTIVE FOR SELECT TO "e ve" WITH CHECK (true);\n', ['e ve']],
    [`CREATE POLICY mine ON users USING ((name = ' TO eve USING '::text));\n`, []],
    ['CREATE POLICY mine ON users USING ((SELECT f(a TO b)));\n', []],
  ])('are named by the policy %j', (defn, roles) => {
    expect(needed(policy(defn))).toEqual(roles);
  });

  it('are named by user mappings and by settings for one database', () => {
    const mapping = `CREATE USER MAPPING FOR "a""b" SERVER srv OPTIONS (\n    password 'FOR eve'\n);\n`;
    expect(needed({ desc: 'USER MAPPING', defn: mapping })).toEqual(['a"b']);
    expect(needed({ desc: 'USER MAPPING', defn: 'CREATE USER MAPPING FOR public SERVER srv;\n' })).toEqual([]);
    const settings = `ALTER DATABASE shop SET work_mem TO '5MB';\nALTER ROLE bob IN DATABASE shop SET work_mem TO '6MB';\n`;
    expect(needed({ desc: 'DATABASE PROPERTIES', defn: settings })).toEqual(['bob']);
  });
});

describe('an archive without some of its roles', () => {
  it('is the very same when none of them is needed', () => {
    const { header, toc } = written([{ owner: 'ann', dropStmt: 'DROP' }, acl('GRANT ALL ON TABLE t TO bob;\n')]);
    expect(withoutRoles(header, toc, new Set(['eve']))).toEqual({ header, changes: [] });
    expect(withoutRoles(header, toc, new Set()).header).toEqual(header);
  });

  it('has no owner where that is missing, and lists only what belonged to it by itself', () => {
    const drop = { dropStmt: 'DROP', schema: 'public', owner: 'ann' };
    const entries = [
      { ...drop, tag: 'users' },
      { ...drop, desc: 'INDEX', tag: 'users_i' },
      { ...drop, tag: 'orders', owner: 'bob' },
      { ...drop, desc: 'ACL', dropStmt: '' },
    ];
    const { header, toc } = written(entries);
    const result = withoutRoles(header, toc, new Set(['ann']));
    expect(parsed(result.header).entries.map(({ owner }) => owner)).toEqual(['', '', '', 'bob', '']);
    expect(result.changes).toEqual([{ kind: 'owner', object: 'TABLE public.users', role: 'ann' }]);
  });

  it('keeps every other privilege as it was written', () => {
    const kept = ['GRANT SELECT ON TABLE public.users TO bob;\n', 'REVOKE ALL ON TABLE public.users FROM PUBLIC;\n'] as const;
    const gone = ['GRANT ALL ON TABLE public.users TO "a""b;--";\n', 'REVOKE ALL ON TABLE public.users FROM ann;\n'] as const;
    const { left, changes } = adapted(['a"b;--', 'ann'], acl(gone[0], kept[0], gone[1], kept[1]), acl(...gone));
    expect(left).toEqual([kept.join('')]);
    expect(changes).toEqual([
      { kind: 'grant', object: 'TABLE public.users', role: 'a"b;--' },
      { kind: 'grant', object: 'TABLE public.users', role: 'ann' },
    ]);
  });

  it('grants what a missing role granted without SET and RESET, so by the role that restores', () => {
    const byBob = asRole('bob', 'GRANT SELECT ON TABLE t TO carl;\n');
    const toOthers = 'GRANT SELECT ON TABLE t TO carl;\nGRANT UPDATE ON TABLE t TO dora WITH GRANT OPTION;\n';
    const { left, changes } = adapted(['e;ve'], acl(byBob, asRole('"e;ve"', toOthers), byBob));
    expect(left).toEqual([byBob + toOthers + byBob]);
    expect(changes).toEqual([{ kind: 'grantor', object: 'TABLE t', role: 'e;ve' }]);
  });

  it('lacks what a missing role granted to missing ones, with SET and RESET, and names no other grantor', () => {
    const { left, changes } = adapted(
      ['ann', 'eve'],
      acl(asRole('eve', 'GRANT SELECT ON TABLE t TO ann;\n'), 'GRANT UPDATE ON TABLE t TO bob GRANTED BY eve;\n'),
    );
    expect(left).toEqual([]);
    expect(changes).toEqual([
      { kind: 'grant', object: 'TABLE t', role: 'ann' },
      { kind: 'grant', object: 'TABLE t', role: 'eve' },
    ]);
  });

  it('lacks what a role granted to a missing one, but not what it granted to others', () => {
    const both = asRole('bob', 'GRANT SELECT ON TABLE t TO eve;\nGRANT UPDATE ON TABLE t TO carl;\n');
    const { left } = adapted(['eve'], acl(both, asRole('bob', 'GRANT DELETE ON TABLE t TO eve;\n')));
    expect(left).toEqual([asRole('bob', 'GRANT UPDATE ON TABLE t TO carl;\n')]);
  });

  it('keeps the chain of grant options that a missing role stood in', () => {
    const byEve = 'GRANT SELECT ON TABLE t TO bob WITH GRANT OPTION;\n';
    const byBob = asRole('bob', 'GRANT SELECT ON TABLE t TO carl WITH GRANT OPTION;\n');
    const byCarl = asRole('carl', 'GRANT SELECT(id) ON TABLE t TO dora;\n');
    const toEve = 'GRANT ALL ON TABLE t TO eve WITH GRANT OPTION;\n';
    const { left, changes } = adapted(['eve'], acl(toEve, asRole('eve', byEve), byBob), acl(byCarl));
    expect(left).toEqual([byEve + byBob, byCarl]);
    expect(changes.map(({ kind, role }) => [kind, role])).toEqual([
      ['grant', 'eve'],
      ['grantor', 'eve'],
    ]);
  });

  it('has no SET for a role whose only grant option went with a missing role', () => {
    const toBob = 'GRANT SELECT ON TABLE t TO bob, eve WITH GRANT OPTION;\n';
    const byBob = 'GRANT SELECT ON TABLE t TO carl;\n';
    const elsewhere = asRole('bob', 'GRANT SELECT ON TABLE other TO carl;\n');
    const again = 'GRANT SELECT ON TABLE t TO bob WITH GRANT OPTION;\n';
    const { left, changes } = adapted(
      ['eve'],
      acl(toBob, asRole('bob', byBob), elsewhere),
      acl(toBob, again, asRole('bob', byBob)),
    );
    expect(left).toEqual([byBob + elsewhere, again + asRole('bob', byBob)]);
    expect(changes).toContainEqual({ kind: 'grantor', object: 'TABLE t', role: 'bob' });
  });

  it('leaves a statement that it does not understand', () => {
    const odd = 'SELECT pg_catalog.binary_upgrade_set_record_init_privs(true);\n';
    expect(adapted(['eve'], acl(odd, 'GRANT ALL ON TABLE t TO eve;\n')).left).toEqual([odd]);
    const inSession = asRole('bob', `${odd}GRANT ALL ON TABLE t TO eve;\n`);
    expect(adapted(['eve'], acl(inSession)).left).toEqual([asRole('bob', odd)]);
    expect(adapted(['bob'], acl(inSession)).left).toEqual([`${odd}GRANT ALL ON TABLE t TO eve;\n`]);
  });

  it('has no default privileges of and for missing roles', () => {
    const { left, changes } = adapted(['eve'], defaults('ann', 'bob'), defaults('eve', 'bob'), defaults('ann', 'eve'));
    expect(left).toEqual([defaults('ann', 'bob').defn]);
    expect(changes).toEqual([
      { kind: 'default-privilege', object: 'TABLES FOR ROLE eve IN SCHEMA s', role: 'eve' },
      { kind: 'default-privilege', object: 'TABLES FOR ROLE ann IN SCHEMA s', role: 'eve' },
    ]);
  });

  it.each([
    ['eve, bob', 'bob'],
    ['bob, "a, b", eve', 'bob, "a, b"'],
    ['bob, eve, "a, b"', 'bob, "a, b"'],
  ])('has a policy for %s only for %s', (before, after) => {
    const { left, changes } = adapted(['eve'], policy(mine(before)));
    expect(left).toEqual([mine(after)]);
    expect(changes).toEqual([{ kind: 'policy', object: 'POLICY mine ON public.users', role: 'eve' }]);
  });

  it('drops a policy, and its comment, when no role is left, rather than open it to everyone', () => {
    const everyone = 'CREATE POLICY all ON public.users USING (true);\n';
    const { left, changes } = adapted(
      ['eve', 'ann'],
      policy('CREATE POLICY "m e" ON public.users AS RESTRICTIVE TO ann, eve USING (true);\n'),
      { desc: 'COMMENT', defn: 'COMMENT ON POLICY …', dependencies: [2] },
      policy(everyone),
      { desc: 'COMMENT', defn: 'COMMENT ON another', dependencies: [4] },
    );
    expect(left).toEqual([everyone, 'COMMENT ON another']);
    expect(changes).toEqual(
      ['ann', 'eve'].map((role) => ({
        kind: 'policy',
        object: 'RESTRICTIVE POLICY "m e" ON public.users',
        role,
        dropped: true,
      })),
    );
  });

  it('has no user mappings and no settings of missing roles', () => {
    const { left, changes } = adapted(
      ['eve'],
      { desc: 'USER MAPPING', defn: mapping('eve') },
      { desc: 'USER MAPPING', defn: mapping('public') },
      { desc: 'DATABASE PROPERTIES', defn: setting('bob') + setting('eve') },
    );
    expect(left).toEqual([mapping('public'), setting('bob')]);
    expect(changes).toEqual([
      { kind: 'user-mapping', object: 'SERVER "s;v"', role: 'eve' },
      { kind: 'role-setting', object: 'app.name', role: 'eve' },
    ]);
  });
});
