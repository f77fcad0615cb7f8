import { type Exclusions, exclusionTest, EXTENSION_MEMBER, quoteName, type Queryable, SYSTEM_SCHEMA } from './relations.js';

/** More are counted and not named. */
const NAMED_AT_MOST = 100;

export interface MissingPrivileges {
  /** The first hundred, each a sentence part such as `SELECT on table "shop"."orders"`. */
  named: string[];
  /** How many there are in all. */
  total: number;
}

interface Row {
  schema: string | null;
  name: string;
  missing: string;
}

/** Schemas that cannot be entered, tables and sequences that cannot be read, and tables of which policies hide rows. */
const RELATIONS = `
  select null as schema, n.nspname as name, 'USAGE on schema' as missing
    from pg_catalog.pg_namespace n
   where not ${SYSTEM_SCHEMA} and not has_schema_privilege(n.oid, 'USAGE')
     and exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'm', 'S') and not ${EXTENSION_MEMBER})
  union all
  select n.nspname, c.relname, case c.relkind when 'S' then 'SELECT on sequence' else 'SELECT on table' end
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'S') and c.relpersistence <> 't' and not ${SYSTEM_SCHEMA} and not ${EXTENSION_MEMBER}
     and not case c.relkind when 'S' then has_sequence_privilege(c.oid, 'SELECT') else has_table_privilege(c.oid, 'SELECT') end
  union all
  select n.nspname, c.relname, 'BYPASSRLS or ownership for table'
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p') and c.relrowsecurity and not ${SYSTEM_SCHEMA} and not ${EXTENSION_MEMBER} and row_security_active(c.oid)
   order by 1 nulls first, 2, 3`;

/** Large objects: only their owner, a superuser, or who was granted SELECT reads them; pg_read_all_data does not cover them before 18. */
const LARGE_OBJECTS = `
  select null as schema, m.oid::text as name, 'SELECT on large object' as missing
    from pg_catalog.pg_largeobject_metadata m
   where not pg_has_role(m.lomowner, 'USAGE')
     and not exists (select from aclexplode(m.lomacl) a
                      where a.privilege_type = 'SELECT' and case a.grantee when 0 then true else pg_has_role(a.grantee, 'USAGE') end)
   order by m.oid`;

/** What this session's role may not read although a dump has to. A superuser lacks nothing. */
export async function findMissingPrivileges(client: Queryable, exclusions?: Exclusions): Promise<MissingPrivileges> {
  const { rows: relations } = await client.query<Row>(RELATIONS);
  const { rows: largeObjects } = await client.query<Row>(LARGE_OBJECTS);
  const { rows: subscriptions } = await client.query<Row>(
    `select null as schema, s.subname as name, 'superuser for subscription' as missing from pg_catalog.pg_subscription s
      where s.subdbid = (select oid from pg_catalog.pg_database where datname = current_database())
        and not (select rolsuper from pg_catalog.pg_roles where rolname = current_user) order by 2`,
  );
  const excluded = exclusionTest(exclusions);
  const missing = [...relations, ...largeObjects, ...subscriptions].filter(({ schema, name, missing }) =>
    schema === null ? !(missing === 'USAGE on schema' && exclusions?.schemas.includes(name)) : !excluded({ schema, name }),
  );
  return { named: missing.slice(0, NAMED_AT_MOST).map(describe), total: missing.length };
}

function describe({ schema, name, missing }: Row): string {
  if (missing === 'SELECT on large object') return `${missing} ${name}`;
  return `${missing} ${schema === null ? '' : `${quoteName(schema)}.`}${quoteName(name)}`;
}
