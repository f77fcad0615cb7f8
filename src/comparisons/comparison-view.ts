import type { BackupRow } from '../backups/backups.repository.js';
import type { ContentDifference } from '../engine/compare.js';
import { schemaDifferenceText } from '../engine/archive/schema-text.js';
import type { ComparedBackupDto, SchemaDifferenceDto, TableChangeDto, TableDifferencesDto } from './comparison.dto.js';
import type { TableDifferenceRow } from './table-differences.js';

/** About the text of 5,000 changed tables; nobody reads more in an answer. */
const MAX_SCHEMA_TEXT = 1024 * 1024;

export function toComparedBackup(row: BackupRow): ComparedBackupDto {
  return {
    id: row.id,
    source: row.source_id === null ? null : { id: row.source_id, name: row.source_name ?? '' },
    createdAt: row.created_at.toISOString(),
    serverVersion: row.server_version,
    tableCount: row.table_count,
    rowCount: row.row_count,
    plainBytes: row.plain_bytes,
  };
}

export function toTableDifferences({ rows, unchanged }: { rows: TableDifferenceRow[]; unchanged: number }): TableDifferencesDto {
  const changes = rows.map(toTableChange);
  return {
    added: changes.filter((table) => table.baseRows === null),
    removed: changes.filter((table) => table.headRows === null),
    changed: changes.filter((table) => table.baseRows !== null && table.headRows !== null),
    unchanged,
  };
}

function toTableChange(row: TableDifferenceRow): TableChangeDto {
  return {
    schema: row.schema,
    name: row.name,
    baseRows: row.base_rows,
    headRows: row.head_rows,
    rowDelta: (row.head_rows ?? 0) - (row.base_rows ?? 0),
    baseBytes: row.base_bytes,
    headBytes: row.head_bytes,
    byteDelta: (row.head_bytes ?? 0) - (row.base_bytes ?? 0),
  };
}

export function toSchemaDifference(schema: ContentDifference['schema']): SchemaDifferenceDto | null {
  if (!schema) return null;
  return {
    objects: schema.changes.map(({ change, kind, schema: of, name, aspects }) => ({ change, kind, schema: of, name, aspects })),
    unchanged: schema.unchanged,
    ...schemaDifferenceText(schema.changes, MAX_SCHEMA_TEXT),
  };
}
