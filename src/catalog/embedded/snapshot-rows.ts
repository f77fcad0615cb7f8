import { sql } from 'kysely';
import { VERSION } from '../../version.js';
import type { Db, Trx } from '../catalog.js';
import { type Watermark, WATERMARK_SQL } from './check.js';
import { readSnapshot, type SnapshotHeader, type SnapshotPart } from './snapshot-file.js';

const ROWS_PER_PART = 5000;
/** Made anew by whoever imports. */
const LEFT_OUT = ['migrations'];
/** Rows that never change once they are there, and are many: exported in small steps between which others may use the catalog. */
const OF_BACKUPS = ['artifacts', 'backup_tables'];
const STEPWISE = ['audit_entries', ...OF_BACKUPS];
/** Of what others are told, only what is still on its way: the history of deliveries is long, and lost with the catalog. */
const ON_THE_WAY: Record<string, string> = {
  webhook_deliveries: `status = 'pending'`,
  notification_deliveries: `status = 'pending'`,
  outbox: `(done_at IS NULL
    OR EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.event_id = t.id AND d.status = 'pending')
    OR EXISTS (SELECT 1 FROM notification_deliveries d WHERE d.event_id = t.id AND d.status = 'pending'))`,
};
/** Half a megabyte: read without keeping the event loop for long. */
const PAGES_PER_STEP = 64;

interface TableShape {
  table: string;
  columns: string[];
}

/** What one short transaction saw, and how to go on from it. */
interface FirstLook {
  header: SnapshotHeader;
  parts: SnapshotPart[];
  shapes: Map<string, TableShape>;
  /** Completed backups with as many tables, in parts of about ROWS_PER_PART rows. */
  backups: string[][];
}

/**
 * All rows of the catalog as of one moment. The moment's transaction is short; what is left to read after it belongs to that
 * moment too, since it does not change. Jobs are left out: waiting runs get new ones at the next start.
 */
export async function exportRows(db: Db, now: Date): Promise<{ header: SnapshotHeader; parts: AsyncIterable<SnapshotPart> }> {
  const look = await db
    .transaction()
    .setIsolationLevel('repeatable read')
    .execute((trx) => firstLook(trx, now));
  return { header: look.header, parts: rest(db, look) };
}

async function firstLook(trx: Trx, now: Date): Promise<FirstLook> {
  const shapes = new Map((await tableShapes(trx)).map((shape) => [shape.table, shape]));
  const { rows: migrations } = await sql<{ name: string }>`SELECT name FROM migrations ORDER BY name`.execute(trx);
  const { rows: sequences } = await sql<{ name: string; value: number | null }>`
    SELECT sequencename AS name, last_value AS value FROM pg_sequences WHERE schemaname = 'backstay'`.execute(trx);
  const { rows: newest } = await sql.raw<Watermark>(WATERMARK_SQL).execute(trx);
  const parts: SnapshotPart[] = [];
  for (const shape of shapes.values()) {
    if (STEPWISE.includes(shape.table)) continue;
    for await (const rows of pagewise(trx, shape.table)) parts.push({ ...shape, rows });
  }
  const header: SnapshotHeader = {
    format: 1,
    at: now.toISOString(),
    backstay: VERSION,
    migrations: migrations.map(({ name }) => name),
    sequences: Object.fromEntries(sequences.flatMap(({ name, value }) => (value === null ? [] : [[name, value]]))),
    newest: newest[0] ?? { auditId: 0, attemptEndedAt: '' },
  };
  return { header, parts, shapes, backups: await completedBackups(trx) };
}

async function* rest(db: Db, { header, parts, shapes, backups }: FirstLook): AsyncGenerator<SnapshotPart> {
  yield* parts;
  for (const name of OF_BACKUPS) {
    const shape = shapes.get(name);
    for (const ids of shape ? backups : []) {
      const query = sql<Text>`SELECT ${AS_TEXT} AS text FROM ${sql.table(name)} t WHERE backup_id = ANY(${ids})`;
      yield { ...shape!, rows: rowsOf(await query.execute(db)) };
    }
  }
  const entries = shapes.get('audit_entries');
  if (entries) yield* auditEntries(db, entries, header.newest.auditId);
}

async function* auditEntries(db: Db, shape: TableShape, last: number): AsyncGenerator<SnapshotPart> {
  // Numbers that were drawn and not used leave gaps: the next step begins at the next entry that there is.
  const next = async (after: number) =>
    (await sql<{ id: number | null }>`SELECT min(id) AS id FROM audit_entries WHERE id > ${after}`.execute(db)).rows[0]?.id ??
    null;
  for (let from = await next(0); from !== null && Number(from) <= last;) {
    const to = Math.min(last, Number(from) + ROWS_PER_PART - 1);
    const query = sql<Text>`SELECT ${AS_TEXT} AS text FROM audit_entries t WHERE id BETWEEN ${from} AND ${to}`;
    yield { ...shape, rows: rowsOf(await query.execute(db)) };
    from = await next(to);
  }
}

async function* pagewise(trx: Trx, table: string): AsyncGenerator<string[]> {
  const size = sql<{ pages: number }>`SELECT (pg_relation_size(${`backstay.${table}`}::regclass) / 8192)::int AS pages`;
  const pages = (await size.execute(trx)).rows[0]?.pages ?? 0;
  const wanted = sql.raw(ON_THE_WAY[table] ?? 'true');
  yield [];
  for (let from = 0; from < pages; from += PAGES_PER_STEP) {
    const range = sql`ctid >= ${`(${from},0)`}::tid AND ctid < ${`(${from + PAGES_PER_STEP},0)`}::tid`;
    yield rowsOf(await sql<Text>`SELECT ${AS_TEXT} AS text FROM ${sql.table(table)} t WHERE ${range} AND ${wanted}`.execute(trx));
  }
}

interface Text {
  text: string | null;
}

/** One text of many rows: their JSON has no line breaks, and thousands of results would cost more than what they hold. */
const AS_TEXT = sql.raw(`string_agg(row_to_json(t)::text, E'\\n')`);

function rowsOf({ rows }: { rows: Text[] }): string[] {
  return rows[0]?.text?.split('\n') ?? [];
}

/** Ordinary tables with the columns that can be written. */
async function tableShapes(trx: Trx): Promise<TableShape[]> {
  const { rows } = await sql<TableShape>`
    SELECT c.relname AS table, array_agg(a.attname::text ORDER BY a.attnum) AS columns
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    WHERE c.relnamespace = 'backstay'::regnamespace AND c.relkind = 'r' AND NOT c.relname = ANY(${LEFT_OUT})
    GROUP BY c.relname ORDER BY c.relname`.execute(trx);
  return rows;
}

/** Only theirs do not change any more; those of others come with their manifest. */
async function completedBackups(trx: Trx): Promise<string[][]> {
  const { rows } = await sql<{
    id: string;
    tables: number;
  }>`SELECT id, table_count AS tables FROM backups WHERE status = 'completed' ORDER BY id`.execute(trx);
  const groups: string[][] = [];
  let room = 0;
  for (const { id, tables } of rows) {
    if (room <= 0) {
      groups.push([]);
      room = ROWS_PER_PART;
    }
    groups.at(-1)!.push(id);
    room -= tables + 1;
  }
  return groups;
}

/** Puts a snapshot's rows into an empty catalog that has the snapshot's migrations, all or nothing. @throws when the snapshot is damaged */
export async function importRows(db: Db, file: string, header: SnapshotHeader): Promise<void> {
  await db.transaction().execute(async (trx) => {
    // Foreign keys hold in the whole, not in the order in which tables come.
    await sql`SET LOCAL session_replication_role = replica`.execute(trx);
    for await (const { table, columns, rows } of readSnapshot(file)) {
      const list = sql.join(columns.map((column) => sql.ref(column)));
      await sql`INSERT INTO ${sql.table(table)} (${list}) OVERRIDING SYSTEM VALUE
        SELECT ${list} FROM json_populate_recordset(NULL::${sql.table(table)}, ${`[${rows.join(',')}]`}::json)`.execute(trx);
    }
    for (const [name, value] of Object.entries(header.sequences))
      await sql`SELECT setval(format('backstay.%I', ${name}::text)::regclass, ${value})`.execute(trx);
  });
}
