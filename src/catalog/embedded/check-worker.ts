/**
 * Run as a thread of its own, which imports nothing of ours: opens the folder of an embedded catalog and reads all of it. PGlite is
 * one WebAssembly program: damage may end it or send it round in circles, and that must be no more than the end of this thread.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { PGlite } from '@electric-sql/pglite';
import { amcheck } from '@electric-sql/pglite/contrib/amcheck';

interface Task {
  folder: string;
  /** Gives one row, whose columns are the catalog's newest entries. */
  newest: string;
}

const { folder, newest } = workerData as Task;

/** The empty list is of what would be transferred: nothing. */
function say(message: object): void {
  parentPort?.postMessage(message, []);
}

/** Says that it goes on; whoever waits loses patience otherwise. */
function alive(step: string): void {
  say({ step });
}

async function names(pglite: PGlite, text: string): Promise<{ oid: number; name: string; [more: string]: unknown }[]> {
  return (await pglite.query<{ oid: number; name: string }>(text)).rows;
}

/** Every page of every table, with its out-of-line values; a page's checksum is compared whenever it is read. */
async function checkTables(pglite: PGlite): Promise<void> {
  for (const { oid, name } of await names(
    pglite,
    `SELECT oid::int, oid::regclass::text AS name FROM pg_class WHERE relkind IN ('r','t','m')`,
  )) {
    alive(name);
    const found = await pglite.query<{ msg: string }>(`SELECT msg FROM verify_heapam(${oid}, check_toast := true) LIMIT 1`);
    if (found.rows[0]) throw new Error(`table ${name}: ${found.rows[0].msg}`);
  }
}

/** Every row is in every index. */
async function checkIndexes(pglite: PGlite): Promise<void> {
  for (const { oid, name } of await names(
    pglite,
    `SELECT c.oid::int, c.oid::regclass::text AS name FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relkind = 'i'`,
  )) {
    alive(name);
    await pglite.query(`SELECT bt_index_check(${oid}, heapallindexed := true)`);
  }
}

/** Every entry of an index leads to a row: a table that was cut at the end of a page has good pages, and fewer rows than its index. */
async function checkLengths(pglite: PGlite): Promise<void> {
  const unique = await names(
    pglite,
    `SELECT DISTINCT ON (i.indrelid) i.indrelid::int AS oid, i.indrelid::regclass::text AS name,
       (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n) FROM unnest(i.indkey) WITH ORDINALITY k(attnum, n)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts) AS columns
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid JOIN pg_am m ON m.oid = c.relam
     WHERE m.amname = 'btree' AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND t.relkind IN ('r','m')
     ORDER BY i.indrelid, i.indisprimary DESC`,
  );
  for (const { name, columns } of unique) {
    alive(name);
    const count = async (how: string, rows: string) => {
      await pglite.exec(how);
      return (await pglite.query<{ count: number }>(`SELECT count(*)::int AS count FROM ${rows}`)).rows[0]?.count;
    };
    const inTable = await count('SET LOCAL enable_seqscan = on; SET LOCAL enable_indexonlyscan = off', name);
    const byIndex = await count(
      'SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off',
      `(SELECT ctid FROM ${name} ORDER BY ${String(columns)} OFFSET 0) every_row`,
    );
    if (inTable !== byIndex) throw new Error(`table ${name} has ${inTable} rows, and its index ${byIndex}`);
  }
}

/** A number that was counted on is never given again, even where the file that counts was changed. */
async function checkSequences(pglite: PGlite): Promise<void> {
  for (const { name } of await names(pglite, `SELECT oid::int, oid::regclass::text AS name FROM pg_class WHERE relkind = 'S'`)) {
    alive(name);
    await pglite.query(`SELECT last_value FROM ${name}`);
  }
}

async function check(): Promise<unknown> {
  alive('open');
  const pglite = await PGlite.create(folder, { extensions: { amcheck } });
  // One transaction that is rolled back: the extension leaves no trace.
  await pglite.exec('BEGIN; CREATE SCHEMA backstay_check; CREATE EXTENSION amcheck SCHEMA backstay_check');
  await pglite.exec('SET LOCAL search_path = pg_catalog, backstay_check');
  await checkTables(pglite);
  await checkIndexes(pglite);
  await checkLengths(pglite);
  await checkSequences(pglite);
  const { rows } = await pglite.query(newest);
  await pglite.exec('ROLLBACK');
  alive('close');
  await pglite.close();
  return rows[0];
}

check().then(
  (found) => say({ found }),
  (error: unknown) => say({ damage: error instanceof Error ? error.message : String(error) }),
);
