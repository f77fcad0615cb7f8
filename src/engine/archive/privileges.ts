import { EVERYONE, type GrantStatement, isSessionReset, parseGrant, parseSessionRole } from './role-statements.js';
import { type SqlStatement, splitStatements } from './sql-statements.js';
import type { TocEntry } from './toc.js';

/** Statements between SET and RESET SESSION AUTHORIZATION: pg_dump writes so what another than the owner granted. */
interface Session {
  role: string;
  /** How many statements stand in it, those that are not understood among them. */
  size: number;
  removed: number;
  /** Its statements are to be run by the restoring role, without SET and RESET. */
  lifted: boolean;
}

/** One statement of an entry with privileges. */
export interface PrivilegeStatement {
  statement: SqlStatement;
  session: Session | null;
  /** It is the SET or RESET of its session. */
  isBracket: boolean;
  /** Null for a bracket and for what is not understood, which is never removed. */
  grant: GrantStatement | null;
  removed: boolean;
}

/** `ACL` or `DEFAULT ACL`. */
export function hasPrivileges({ desc }: TocEntry): boolean {
  return desc === 'ACL' || desc === 'DEFAULT ACL';
}

export function readPrivileges(sql: string): PrivilegeStatement[] {
  let session: Session | null = null;
  return splitStatements(sql).map((statement) => {
    const role = parseSessionRole(statement);
    const isReset = isSessionReset(statement);
    if (role !== null) session = { role, size: 0, removed: 0, lifted: false };
    else if (session && !isReset) session.size += 1;
    const grant = parseGrant(sql, statement);
    const read = { statement, session, isBracket: role !== null || isReset, grant, removed: false };
    if (isReset) session = null;
    return read;
  });
}

/** Every role that a statement needs: those that it names and that of its session. */
export function rolesOfStatement({ session, grant }: PrivilegeStatement): string[] {
  return [...(grant ? rolesOfGrant(grant) : []), ...(session ? [session.role] : [])];
}

/** Every role that a GRANT or REVOKE names. */
export function rolesOfGrant({ grantees, creators, grantor }: GrantStatement): string[] {
  return [...grantees, ...creators, ...(grantor === null ? [] : [grantor])].filter((role) => role !== EVERYONE);
}

/** The SQL of what was not removed; empty where nothing is left. */
export function keptSql(sql: string, statements: readonly PrivilegeStatement[]): string {
  return statements
    .filter(({ isBracket, session, removed }) => !removed && !(isBracket && isNeedless(session)))
    .map(({ statement }) => sql.slice(statement.start, statement.end))
    .join('');
}

/** A session that was lifted, or of which nothing is left, has no SET and RESET. */
function isNeedless(session: Session | null): boolean {
  return session !== null && (session.lifted || session.size === session.removed);
}
