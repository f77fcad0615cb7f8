import type { TestPostgres } from './postgres.js';

/** One privilege of one role on one object, or one that an object made later would have. */
export interface Right {
  object: string;
  owner: string;
  grantee: string;
  grantor: string;
  privilege: string;
  grantable: boolean;
}

/** Every right in a database on what users made. */
export async function foundRights(postgres: TestPostgres, database: string): Promise<Right[]> {
  const rows = await postgres.query<{ right: Right }>(
    database,
    `WITH object (oid, object, owner, acl) AS (
        SELECT c.oid, c.oid::regclass::text, relowner, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
          FROM pg_class c WHERE relkind IN ('r', 'v', 'm', 'S')
        UNION ALL SELECT attrelid, attrelid::regclass::text || '.' || attname, relowner, attacl
          FROM pg_attribute JOIN pg_class c ON c.oid = attrelid AND relkind <> 'i'
        UNION ALL SELECT p.oid, p.oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc p
        UNION ALL SELECT t.oid, t.oid::regtype::text, typowner, coalesce(typacl, acldefault('T', typowner))
          FROM pg_type t WHERE typtype IN ('e', 'd')
        UNION ALL SELECT oid, 'schema ' || nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace
        UNION ALL SELECT oid, 'large object ' || oid, lomowner, coalesce(lomacl, acldefault('L', lomowner)) FROM pg_largeobject_metadata
        UNION ALL SELECT oid, 'server ' || srvname, srvowner, coalesce(srvacl, acldefault('S', srvowner)) FROM pg_foreign_server
        UNION ALL SELECT oid, 'default ' || defaclobjtype::text || ' ' || defaclnamespace::regnamespace::text, defaclrole, defaclacl FROM pg_default_acl
      )
      SELECT json_build_object('object', object, 'owner', pg_get_userbyid(owner), 'grantee', coalesce(r.rolname, 'PUBLIC'),
          'grantor', pg_get_userbyid(a.grantor), 'privilege', a.privilege_type, 'grantable', a.is_grantable) AS right
        FROM object, aclexplode(acl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE object.oid >= 16384 OR object = 'schema public'`,
  );
  return rows.map(({ right }) => right);
}

export interface FoundPolicy {
  name: string;
  permissive: string;
  roles: string[];
  using: string | null;
  check: string | null;
  comment: string | null;
}

export function foundPolicies(postgres: TestPostgres, database: string): Promise<FoundPolicy[]> {
  return postgres.query(
    database,
    `SELECT policyname AS name, permissive, ARRAY(SELECT unnest(roles)::text COLLATE "C" ORDER BY 1) AS roles, qual AS using,
        with_check AS check, obj_description(p.oid, 'pg_policy') AS comment
      FROM pg_policies JOIN pg_policy p ON polname = policyname ORDER BY 1`,
  );
}
