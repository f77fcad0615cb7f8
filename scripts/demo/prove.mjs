/**
 * Whether two databases are equal, looked at from outside: nothing here is the product's own code, which would share its errors.
 * Both sessions need settings that fix how values are written, and row security off.
 */
import { createHash } from 'node:crypto';
import pg from 'pg';

/**
 * @param source a connected client of `pg`
 * @param copy another, in the restored database
 * @param schemas what `pg_dump --schema-only` prints of both
 * @returns one finding for each kind of thing: `{ name, compared: { … figures }, differences: [sentence] }`
 */
export async function compareDatabases(source, copy, schemas) {
  return [
    await compareTables(source, copy),
    await compareRows('sequences', sequences, source, copy),
    await compareRows('large objects', largeObjects, source, copy),
    await compareRows('settings', settings, source, copy),
    compareSchemas(schemas),
  ];
}

const RELATIONS = `
  SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relispopulated AS populated,
         (SELECT coalesce(string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum), '') FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
   ORDER BY 1`;

/** Every table, partition and materialized view: the same rows, byte for byte as COPY writes them. */
async function compareTables(source, copy) {
  const [wanted, found] = await Promise.all([source, copy].map(async (client) => (await client.query(RELATIONS)).rows));
  const there = new Map(found.map((relation) => [relation.name, relation]));
  const compared = { tables: wanted.length, rows: 0, bytes: 0, inOtherOrder: 0 };
  const differences = found
    .filter(({ name }) => !wanted.some((relation) => relation.name === name))
    .map(({ name }) => `${name} is only in the copy`);
  for (const { name, populated, columns } of wanted) {
    const twin = there.get(name);
    if (!twin) differences.push(`${name} is not in the copy`);
    else if (twin.populated !== populated) differences.push(`${name} is populated on one side only`);
    if (!populated || twin?.populated !== populated) continue;
    // The source's own order of columns, generated ones too: inheritance may lay them out anew in the copy.
    const statement = `COPY (SELECT ${columns} FROM ONLY ${name}) TO STDOUT`;
    const [left, right] = await Promise.all([digest(source, statement), digest(copy, statement)]);
    compared.rows += left.rows;
    compared.bytes += left.bytes;
    if (left.sha256 === right.sha256) continue;
    if (left.rows === right.rows && (await sameRows(source, copy, statement))) compared.inOtherOrder += 1;
    else differences.push(`${name} differs: ${left.rows} rows and ${right.rows} rows`);
  }
  return { name: 'tables', compared, differences };
}

/** Rows, bytes and SHA-256 of what a COPY gives, in its order. */
async function digest(client, statement) {
  const hash = createHash('sha256');
  let [rows, bytes] = [0, 0];
  await copyOut(client, statement, (row) => {
    hash.update(row);
    rows += 1;
    bytes += row.length;
  });
  return { rows, bytes, sha256: hash.digest('hex') };
}

/** Whether both give the same rows, each as often, in whatever order. */
async function sameRows(source, copy, statement) {
  const [left, right] = await Promise.all(
    [source, copy].map(async (client) => {
      const hashes = [];
      await copyOut(client, statement, (row) => hashes.push(createHash('sha256').update(row).digest('base64')));
      return hashes.sort().join();
    }),
  );
  return left === right;
}

/** Runs `COPY … TO STDOUT`; the server sends one message for each row. */
async function copyOut(client, statement, onRow) {
  const query = new pg.Query(statement);
  query.handleCopyData = ({ chunk }) => onRow(chunk);
  await new Promise((resolve, reject) => {
    query.once('end', resolve).once('error', reject);
    client.query(query);
  });
}

const SEQUENCES = `
  SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind = 'S' ORDER BY 1`;

/** Where each sequence stands: its last value, and whether that was given out already. */
async function sequences(client) {
  const { rows } = await client.query(SEQUENCES);
  const states = [];
  for (const { name } of rows)
    states.push({ name, ...(await client.query(`SELECT last_value, is_called FROM ${name}`)).rows[0] });
  return states;
}

const LARGE_OBJECTS = `
  SELECT oid AS name, length(lo_get(oid)) AS bytes, encode(sha256(lo_get(oid)), 'hex') AS sha256,
         pg_get_userbyid(lomowner) AS owner, lomacl::text AS acl, obj_description(oid, 'pg_largeobject') AS comment
    FROM pg_largeobject_metadata ORDER BY oid`;

/** ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET, which no dump of a schema shows. */
const SETTINGS = `
  SELECT concat_ws(' ', s.setrole::regrole, setting) AS name FROM pg_db_role_setting s
    JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS setting
   WHERE d.datname = current_database() ORDER BY 1`;

const largeObjects = async (client) => (await client.query(LARGE_OBJECTS)).rows;
const settings = async (client) => (await client.query(SETTINGS)).rows;

/** The same rows, each with a name, from both sides. */
async function compareRows(name, rowsOf, source, copy) {
  const [left, right] = await Promise.all([rowsOf(source), rowsOf(copy)]);
  const rights = new Map(right.map((row) => [row.name, JSON.stringify(row)]));
  const differences = left
    .filter((row) => rights.get(row.name) !== JSON.stringify(row))
    .map((row) => `${name}: ${row.name} is missing or another in the copy`);
  if (right.length > left.length) differences.push(`${name}: the copy has ${right.length} instead of ${left.length}`);
  const bytes = left.reduce((sum, row) => sum + (row.bytes ?? 0), 0);
  return { name, compared: { things: left.length, bytes }, differences };
}

/** Definitions, owners, rights and comments, as pg_dump writes them. */
function compareSchemas([source, copy]) {
  const [left, right] = [meaningful(source), meaningful(copy)];
  const at = left.findIndex((line, index) => line !== right[index]);
  const differences =
    at >= 0 || left.length !== right.length
      ? [`the schema differs, first in: ${left[at] ?? right[left.length]} | ${right[at] ?? 'the end'}`]
      : [];
  return { name: 'schema', compared: { lines: left.length }, differences };
}

/** Without remarks, and without the random keys that pg_dump writes since 2025. */
function meaningful(schema) {
  return schema.split('\n').filter((line) => line !== '' && !/^(?:--|\\(?:un)?restrict )/.test(line));
}
