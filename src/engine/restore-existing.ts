import type { Client } from 'pg';
import type { TocEntry } from './archive/toc.js';

/** Where the kinds of an archive's entries are looked up. */
const KIND_OF_ENTRY: Readonly<Record<string, string>> = {
  TABLE: 'relation',
  VIEW: 'relation',
  'MATERIALIZED VIEW': 'relation',
  SEQUENCE: 'relation',
  'FOREIGN TABLE': 'relation',
  TYPE: 'type',
  DOMAIN: 'type',
  'SHELL TYPE': 'type',
  FUNCTION: 'routine',
  PROCEDURE: 'routine',
  AGGREGATE: 'routine',
  SCHEMA: 'schema',
  EXTENSION: 'extension',
  COLLATION: 'collation',
  'PROCEDURAL LANGUAGE': 'language',
  SERVER: 'server',
  'FOREIGN DATA WRAPPER': 'wrapper',
  'TEXT SEARCH CONFIGURATION': 'configuration',
  'TEXT SEARCH DICTIONARY': 'dictionary',
};

/** These have no name of their own to be looked up by; where the table that uses them was, they are. */
const TAKEN_AS_THERE = new Set([
  'CAST',
  'OPERATOR',
  'OPERATOR CLASS',
  'OPERATOR FAMILY',
  'CONVERSION',
  'TRANSFORM',
  'ACCESS METHOD',
  'TEXT SEARCH PARSER',
  'TEXT SEARCH TEMPLATE',
]);

/** A test for objects that a database has already, by kind, schema and name. */
export async function existingObjects(client: Client): Promise<(entry: TocEntry) => boolean> {
  const { rows } = await client.query<{ kind: string; schema: string | null; name: string }>(`
    SELECT 'relation' AS kind, nspname AS schema, relname AS name FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r','p','v','m','S','f')
    UNION ALL SELECT 'type', nspname, typname FROM pg_catalog.pg_type JOIN pg_catalog.pg_namespace n ON n.oid = typnamespace
    UNION ALL SELECT 'routine', nspname, proname FROM pg_catalog.pg_proc JOIN pg_catalog.pg_namespace n ON n.oid = pronamespace
    UNION ALL SELECT 'collation', nspname, collname FROM pg_catalog.pg_collation JOIN pg_catalog.pg_namespace n ON n.oid = collnamespace
    UNION ALL SELECT 'configuration', nspname, cfgname FROM pg_catalog.pg_ts_config JOIN pg_catalog.pg_namespace n ON n.oid = cfgnamespace
    UNION ALL SELECT 'dictionary', nspname, dictname FROM pg_catalog.pg_ts_dict JOIN pg_catalog.pg_namespace n ON n.oid = dictnamespace
    UNION ALL SELECT 'schema', NULL, nspname FROM pg_catalog.pg_namespace
    UNION ALL SELECT 'extension', NULL, extname FROM pg_catalog.pg_extension
    UNION ALL SELECT 'language', NULL, lanname FROM pg_catalog.pg_language
    UNION ALL SELECT 'server', NULL, srvname FROM pg_catalog.pg_foreign_server
    UNION ALL SELECT 'wrapper', NULL, fdwname FROM pg_catalog.pg_foreign_data_wrapper`);
  const there = new Set(rows.map(({ kind, schema, name }) => JSON.stringify([kind, schema, name])));
  return ({ desc, schema, tag }) => {
    if (TAKEN_AS_THERE.has(desc)) return true;
    const kind = KIND_OF_ENTRY[desc];
    // A routine's tag has its arguments behind its name.
    const name = kind === 'routine' ? tag.slice(0, tag.lastIndexOf('(')) : tag;
    return kind !== undefined && there.has(JSON.stringify([kind, schema, name]));
  };
}
