import { text } from 'node:stream/consumers';
import { withClient } from '../../src/engine/postgres/client.js';
import type { ClientPrograms } from '../../src/engine/postgres/client-programs.js';
import type { PgConnection } from '../../src/engine/postgres/connection.js';
import { withPgEnvironment } from '../../src/engine/postgres/environment.js';
import { startProgram } from '../../src/engine/postgres/run-program.js';

/** All that can be told of a database: what it is, its schema as text, and a digest of each thing with content. */
export interface DatabasePortrait {
  /** Encoding and locale. */
  kind: string;
  schema: string;
  /** Rows, and a digest that depends on every value but not on the order of rows, by name; exact for every table. */
  tables: Map<string, string>;
  sequences: Map<string, string>;
  largeObjects: Map<string, string>;
}

// By OID and within the server, so that no name or value has to pass an encoding. The sum of two halves of MD5 over each row is
// a digest of the multiset of rows; columns go by name, since inheritance may change their order.
const DIGEST_FUNCTIONS = `
  CREATE FUNCTION pg_temp.digest_of_rows(relation oid) RETURNS text LANGUAGE plpgsql AS $$
  DECLARE columns text; digest text;
  BEGIN
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname) INTO columns
      FROM pg_catalog.pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped;
    EXECUTE format('SELECT count(*) || '' rows, '' || coalesce(sum((''x'' || left(md5, 15))::bit(60)::bigint), 0) || '' '' || coalesce(sum((''x'' || right(md5, 15))::bit(60)::bigint), 0)
      FROM (SELECT md5(ROW(%s)::text) FROM ONLY %s) AS r', columns, relation::regclass) INTO digest;
    RETURN digest;
  END $$;
  CREATE FUNCTION pg_temp.state_of_sequence(relation oid) RETURNS text LANGUAGE plpgsql AS $$
  DECLARE state text;
  BEGIN
    EXECUTE format('SELECT last_value || '' '' || is_called FROM %s', relation::regclass) INTO state;
    RETURN state;
  END $$;`;

const RELATION = `pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'`;
const NAME = `format('%I.%I', n.nspname, c.relname) || ' ' || md5(n.nspname || '.' || c.relname)`;

/** Looks at a whole database. Reads every row; settings that change how values are written are pinned. */
export async function portray(connection: PgConnection, programs: ClientPrograms): Promise<DatabasePortrait> {
  const schema = await schemaText(connection, programs);
  return withClient(connection, { applicationName: 'test' }, async (client) => {
    await client.query(DIGEST_FUNCTIONS);
    const pairs = async (sql: string) => {
      const { rows } = await client.query<{ name: string; content: string }>(sql);
      return new Map(rows.map(({ name, content }) => [name, content]));
    };
    const kind = await pairs(`SELECT 'kind' AS name, concat_ws(' ', pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
        j ->> 'datlocprovider', coalesce(j ->> 'datlocale', j ->> 'daticulocale')) AS content
      FROM pg_catalog.pg_database d CROSS JOIN to_jsonb(d) j WHERE d.datname = current_database()`);
    return {
      schema,
      kind: kind.get('kind') ?? '',
      tables:
        await pairs(`SELECT ${NAME} AS name, CASE WHEN c.relispopulated THEN pg_temp.digest_of_rows(c.oid) ELSE 'not populated' END AS content
        FROM ${RELATION} AND c.relkind IN ('r', 'm')`),
      sequences: await pairs(
        `SELECT ${NAME} AS name, pg_temp.state_of_sequence(c.oid) AS content FROM ${RELATION} AND c.relkind = 'S'`,
      ),
      largeObjects:
        await pairs(`SELECT oid::text AS name, concat_ws(' ', md5(lo_get(oid)), pg_get_userbyid(lomowner), lomacl::text, obj_description(oid, 'pg_largeobject')) AS content
        FROM pg_catalog.pg_largeobject_metadata`),
    };
  });
}

/** What differs between two databases, as sentences; empty when they are equal. */
export function differencesOf(expected: DatabasePortrait, actual: DatabasePortrait): string[] {
  return [
    ...(expected.kind === actual.kind ? [] : [`the database is ${actual.kind} instead of ${expected.kind}`]),
    ...differencesOfMaps('table', expected.tables, actual.tables),
    ...differencesOfMaps('sequence', expected.sequences, actual.sequences),
    ...differencesOfMaps('large object', expected.largeObjects, actual.largeObjects),
    ...differencesOfLines(expected.schema, actual.schema),
  ];
}

function differencesOfMaps(kind: string, expected: Map<string, string>, actual: Map<string, string>): string[] {
  const names = [...new Set([...expected.keys(), ...actual.keys()])];
  return names.flatMap((name) => {
    const [before, after] = [expected.get(name), actual.get(name)];
    return before === after ? [] : [`${kind} ${name}: ${after ?? 'is missing'} instead of ${before ?? 'nothing'}`];
  });
}

function differencesOfLines(expected: string, actual: string): string[] {
  if (expected === actual) return [];
  const [before, after] = [expected.split('\n'), actual.split('\n')];
  const at = before.findIndex((line, index) => line !== after[index]);
  const around = (lines: string[]) => lines.slice(Math.max(0, at - 2), at + 3).join('\n');
  return [`the schema differs at line ${at + 1}:\n${around(after)}\ninstead of:\n${around(before)}`];
}

/** The schema as pg_dump writes it, less the random keys that it puts around its scripts. */
async function schemaText(connection: PgConnection, programs: ClientPrograms): Promise<string> {
  return withPgEnvironment(connection, { applicationName: 'test' }, async (env) => {
    const program = startProgram(programs.pgDump, ['--schema-only', '--no-password'], { env });
    // Bytes as they are: a database of the encoding SQL_ASCII may hold any.
    const printed = await text(program.stdout.setEncoding('latin1'));
    await program.done;
    return printed.replaceAll(/^\\(?:un)?restrict .*$/gm, '');
  });
}

/** Restores by `pg_dump -Fc | pg_restore` into an empty database: what nobody could do better. @returns what pg_restore complained of */
export async function copyPlainly(
  from: PgConnection,
  to: PgConnection,
  programs: ClientPrograms,
  restoreArgs: string[] = [],
): Promise<string> {
  return withPgEnvironment(from, { applicationName: 'test' }, (fromEnv) =>
    withPgEnvironment(to, { applicationName: 'test' }, async (toEnv) => {
      const dump = startProgram(programs.pgDump, ['--format=custom', '--compress=0', '--no-password'], { env: fromEnv });
      const args = [
        '--no-tablespaces',
        '--no-password',
        '-d',
        `dbname='${to.database.replace(/[\\']/g, '\\$&')}'`,
        ...restoreArgs,
      ];
      const restore = startProgram(programs.pgRestore, args, { env: toEnv, stdin: 'pipe' });
      restore.stdout.resume();
      dump.stdout.pipe(restore.stdin!);
      await dump.done;
      // Without --exit-on-error it goes on after errors and tells of them at the end.
      return restore.done.then(
        () => '',
        () => restore.stderrTail(),
      );
    }),
  );
}
