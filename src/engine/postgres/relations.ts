import type { Client } from 'pg';

/** What the catalog queries need of a session. */
export type Queryable = Pick<Client, 'query'>;

/** SQL that is true for a schema (alias `n`) of the system or of somebody's temporary tables. */
export const SYSTEM_SCHEMA = `(n.nspname in ('pg_catalog', 'information_schema', 'pg_toast') or n.nspname ~ '^pg_(toast_)?temp_')`;

/** SQL that is true for a relation (alias `c`) that an extension made, and that pg_dump therefore leaves to the extension. */
export const EXTENSION_MEMBER = `exists (select from pg_catalog.pg_depend d
  where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')`;

export interface RelationName {
  schema: string;
  name: string;
}

/** What a source is told to leave out: whole schemas, and tables by their exact names. */
export interface Exclusions {
  schemas: readonly string[];
  tables: readonly RelationName[];
}

/** A test for relations that are left out, by schema or by name. */
export function exclusionTest(exclusions: Exclusions | undefined): (relation: RelationName) => boolean {
  const schemas = new Set(exclusions?.schemas);
  const tables = new Set(exclusions?.tables.map(relationKey));
  return (relation) => schemas.has(relation.schema) || tables.has(relationKey(relation));
}

/** One text per name; a schema and a table cannot hold a NUL, so no two names give the same. */
export function relationKey({ schema, name }: RelationName): string {
  return `${schema}\0${name}`;
}

/** A name as SQL writes it. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Size of a table by the statistics of the server, for the totals of a progress bar. */
export interface TableEstimate extends RelationName {
  /** -1 where the table was never analyzed. */
  rows: number;
  /** Of the table and its TOAST; pages as of the last VACUUM or ANALYZE, so that no lock is waited for. */
  bytes: number;
}

/** Every table with rows of its own (leaves of partitioned tables, not their parents), largest first. */
export async function estimateTables(client: Queryable): Promise<TableEstimate[]> {
  const { rows } = await client.query<{ schema: string; name: string; rows: number; bytes: number }>(
    `select n.nspname as schema, c.relname as name, c.reltuples::float8 as rows,
            ((c.relpages::bigint + coalesce(t.relpages, 0)) * current_setting('block_size')::bigint)::float8 as bytes
       from pg_catalog.pg_class c
       join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       left join pg_catalog.pg_class t on t.oid = c.reltoastrelid
      where c.relkind = 'r' and c.relpersistence <> 't' and not ${SYSTEM_SCHEMA} and not ${EXTENSION_MEMBER}
      order by bytes desc, 1, 2`,
  );
  return rows;
}
