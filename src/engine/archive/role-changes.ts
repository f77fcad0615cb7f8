import type { TocEntry } from './toc.js';

/** What of an archive is not restored as it was, because a role is missing. */
export interface RoleChange {
  /**
   * `grantor`: what the role granted is granted by the restoring role, which PostgreSQL notes as the owner's. `role-setting` is
   * `ALTER ROLE … IN DATABASE … SET …`, which only `pg_restore --create` runs.
   */
  kind: 'owner' | 'grant' | 'grantor' | 'policy' | 'default-privilege' | 'user-mapping' | 'role-setting';
  /** E.g. `TABLE public.users`; names are quoted where pg_dump quotes them. */
  object: string;
  /** The missing role; a `grantor` may also have lost its right to grant, with the statement that gave it. */
  role: string;
  /** True where a policy is left out wholly, as no role that it was for is there. */
  dropped?: true;
}

/** Notes changes, each once. */
export class RoleChanges {
  readonly #changes = new Map<string, RoleChange>();

  add(change: RoleChange): void {
    this.#changes.set(JSON.stringify([change.kind, change.object, change.role]), change);
  }

  list(): RoleChange[] {
    return [...this.#changes.values()];
  }
}

/** Kinds whose owner is that of another object (a table's, say): pg_restore never sets it. */
const OWNED_THROUGH_ANOTHER: ReadonlySet<string> = new Set([
  'CAST',
  'CHECK CONSTRAINT',
  'CONSTRAINT',
  'DATABASE PROPERTIES',
  'DEFAULT',
  'DEFAULT ACL',
  'FK CONSTRAINT',
  'INDEX',
  'INDEX ATTACH',
  'POLICY',
  'PUBLICATION TABLE',
  'PUBLICATION TABLES IN SCHEMA',
  'ROW SECURITY',
  'RULE',
  'TABLE ATTACH',
  'TRIGGER',
  'USER MAPPING',
]);

/** Whether pg_restore gives the entry's object to its owner; it does so only for what it can drop, too. */
export function setsOwner({ owner, dropStmt, desc }: TocEntry): boolean {
  return owner !== '' && dropStmt !== '' && !OWNED_THROUGH_ANOTHER.has(desc);
}

export function nameOf({ desc, schema, tag }: TocEntry): string {
  return `${desc} ${schema === null ? '' : `${schema}.`}${tag}`;
}
