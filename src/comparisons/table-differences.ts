import { sql } from 'kysely';
import type { Catalog, Trx } from '../catalog/catalog.js';

export interface TableDifferenceRow {
  schema: string;
  name: string;
  base_rows: number | null;
  head_rows: number | null;
  base_bytes: number | null;
  head_bytes: number | null;
}

/** Tables that are not the same in two backups, by schema and name, and how many are. */
export async function tableDifferences(
  db: Trx | Catalog['db'],
  baseId: string,
  headId: string,
): Promise<{ rows: TableDifferenceRow[]; unchanged: number }> {
  const joined = sql`(SELECT * FROM backup_tables WHERE backup_id = ${baseId}) b
    FULL JOIN (SELECT * FROM backup_tables WHERE backup_id = ${headId}) h USING (schema_name, table_name)`;
  const same = sql`(b.sha256 IS NOT DISTINCT FROM h.sha256 AND b.row_count IS NOT DISTINCT FROM h.row_count)`;
  const { rows } = await sql<TableDifferenceRow>`SELECT schema_name AS schema, table_name AS name,
      b.row_count AS base_rows, h.row_count AS head_rows, b.byte_count AS base_bytes, h.byte_count AS head_bytes
    FROM ${joined} WHERE NOT ${same} ORDER BY 1, 2`.execute(db);
  const { rows: counts } = await sql<{ unchanged: number }>`SELECT count(*) AS unchanged FROM ${joined} WHERE ${same}`.execute(
    db,
  );
  return { rows, unchanged: Number(counts[0]?.unchanged ?? 0) };
}
