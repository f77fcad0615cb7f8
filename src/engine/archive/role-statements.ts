import type { SqlStatement, SqlToken } from './sql-statements.js';
import { TokenCursor } from './token-cursor.js';

/** A GRANT or REVOKE, of default privileges or of an object's. */
export interface GrantStatement {
  /** As it is written, e.g. `TABLE public.users`; `TABLES` for default privileges. */
  object: string;
  /** Roles, and `public` for all. */
  grantees: string[];
  grantOption: boolean;
  /** GRANTED BY. */
  grantor: string | null;
  /** ALTER DEFAULT PRIVILEGES FOR ROLE; empty for other statements. */
  creators: string[];
  /** ALTER DEFAULT PRIVILEGES IN SCHEMA, as it is written. */
  inSchema: string | null;
}

export interface PolicyStatement {
  /** As it is written, e.g. `POLICY mine ON public.users`. */
  object: string;
  restrictive: boolean;
  /** The names after TO; empty where the policy is for all. */
  roles: SqlToken[];
}

/** No role can have the name: in quotes or not, it means all of them. */
export const EVERYONE = 'public';

/** Null for what is no GRANT or REVOKE, or one of a form that pg_dump does not write. */
export function parseGrant(sql: string, { tokens }: SqlStatement): GrantStatement | null {
  const cursor = new TokenCursor(tokens);
  let creators: string[] = [];
  let inSchema: string | null = null;
  if (cursor.take('alter', 'default', 'privileges')) {
    if (cursor.take('for', 'role') || cursor.take('for', 'user')) creators = values(cursor.takeNames());
    if (cursor.take('in', 'schema')) inSchema = writtenAs(sql, cursor.takeNames());
  }
  const preposition = cursor.take('grant') ? 'to' : cursor.take('revoke') ? 'from' : null;
  const on = preposition && cursor.takeUntil('on');
  const to = on && cursor.takeUntil(preposition);
  if (!to) return null;
  const grantees = values(cursor.takeNames());
  if (grantees.length === 0) return null;
  return {
    object: sql.slice(on.end, to.start).trim(),
    grantees,
    grantOption: cursor.take('with', 'grant', 'option'),
    grantor: cursor.take('granted', 'by') ? (cursor.takeName()?.value ?? null) : null,
    creators,
    inSchema,
  };
}

/** The role that the statements after this one are made by; null where it is no SET SESSION AUTHORIZATION. */
export function parseSessionRole({ tokens }: SqlStatement): string | null {
  const cursor = new TokenCursor(tokens);
  if (!cursor.take('set', 'session', 'authorization')) return null;
  return cursor.next?.kind === 'symbol' ? null : (cursor.next?.value ?? null);
}

export function isSessionReset({ tokens }: SqlStatement): boolean {
  return new TokenCursor(tokens).take('reset', 'session', 'authorization');
}

/** Null for what is no CREATE POLICY. */
export function parsePolicy(sql: string, { tokens }: SqlStatement): PolicyStatement | null {
  const cursor = new TokenCursor(tokens);
  if (!cursor.take('create', 'policy') || !cursor.takeName() || !cursor.take('on') || !cursor.takeName()) return null;
  if (cursor.takeSymbol('.')) cursor.takeName();
  const object = sql.slice(tokens[1]?.start, cursor.last?.end);
  const restrictive = cursor.take('as', 'restrictive');
  const clause = cursor.takeUntil('to', 'using', 'with');
  return { object, restrictive, roles: clause?.value === 'to' ? cursor.takeNames() : [] };
}

/** Null for what is no CREATE USER MAPPING. `server` is as it is written. */
export function parseUserMapping(sql: string, { tokens }: SqlStatement): { role: string; server: string } | null {
  const cursor = new TokenCursor(tokens);
  const role = cursor.take('create', 'user', 'mapping', 'for') ? cursor.takeName() : null;
  const server = cursor.take('server') ? cursor.takeName() : null;
  return role && server ? { role: role.value, server: sql.slice(server.start, server.end) } : null;
}

/** Of `ALTER ROLE … IN DATABASE … SET …`; null for other statements. `setting` is as it is written. */
export function parseRoleSetting(sql: string, { tokens }: SqlStatement): { role: string; setting: string } | null {
  const cursor = new TokenCursor(tokens);
  const role = cursor.take('alter', 'role') ? cursor.takeName() : null;
  const found = cursor.take('in', 'database') && cursor.takeName() && cursor.take('set');
  const set = cursor.last;
  const to = found ? cursor.takeUntil('to') : null;
  return role && to ? { role: role.value, setting: sql.slice(set?.end, to.start).trim() } : null;
}

function values(names: readonly SqlToken[]): string[] {
  return names.map(({ value }) => value);
}

function writtenAs(sql: string, names: readonly SqlToken[]): string | null {
  const [first] = names;
  return first ? sql.slice(first.start, names.at(-1)?.end) : null;
}
