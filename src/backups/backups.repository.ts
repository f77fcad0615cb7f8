import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import { Catalog, type Db, json, type Trx } from '../catalog/catalog.js';
import { COMPLETED_RUN } from '../jobs/completed-run.js';
import type { CatalogTables } from '../catalog/tables.js';
import { externalKey } from './backup.js';
import { NEEDED } from './backup-use.js';
import type { ListBackupsDto } from './backup.dto.js';

export type BackupRow = Selectable<CatalogTables['backups']>;
export type ArtifactRow = Selectable<CatalogTables['artifacts']>;
export type BackupTableRow = Selectable<CatalogTables['backup_tables']>;

/** A backup that is about to be queued. */
export interface NewBackup {
  id: string;
  organizationId: string;
  sourceId: string;
  sourceName: string;
  type: string;
  origin: string;
  components: readonly string[];
  compress: boolean;
  /** Left out for those that nobody asked it for. */
  includePasswords?: boolean;
  label: string | null;
  tags: readonly string[];
  pinned: boolean;
  prefix: string;
  idempotencyKey: string | null;
  requestHash: string | null;
  requestedBy: object;
  /** The schedule that makes it, and for which time slot. */
  schedule?: { id: string; name: string; slot: Date | null };
}

const ROWS_PER_INSERT = 500;

const SORTS = {
  createdAt: sql`created_at`,
  sizeBytes: sql`stored_bytes`,
  durationMs: sql`(finished_at - started_at)`,
} as const;

/** Backups with their artifacts and tables, by organization. */
@Injectable()
export class BackupsRepository {
  constructor(private readonly catalog: Catalog) {}

  /** One page; the rows alone, since counting all of them costs more than reading a page. */
  async list(organizationId: string, filter: ListBackupsDto, sourceId: string | undefined): Promise<BackupRow[]> {
    const sort = filter.sort ?? '-createdAt';
    const direction = sort.startsWith('-') ? sql`DESC NULLS FIRST` : sql`ASC NULLS LAST`;
    const column = SORTS[sort.replace('-', '') as keyof typeof SORTS];
    return this.filtered(organizationId, filter, sourceId)
      .selectAll()
      .orderBy(sql`${column} ${direction}`)
      .orderBy(sql`id ${direction}`)
      .limit(filter.limit)
      .offset((filter.page - 1) * filter.limit)
      .execute();
  }

  async count(organizationId: string, filter: ListBackupsDto, sourceId: string | undefined): Promise<number> {
    const query = this.filtered(organizationId, filter, sourceId).select((e) => e.fn.countAll<number>().as('total'));
    return Number((await query.executeTakeFirstOrThrow()).total);
  }

  private filtered(organizationId: string, filter: ListBackupsDto, sourceId: string | undefined) {
    let query = this.catalog.db
      .selectFrom('backups')
      .where('organization_id', '=', organizationId)
      .where('deleted_at', filter.trash ? 'is not' : 'is', null)
      .where('purge_started_at', 'is', null);
    if (filter.status) query = query.where('status', '=', filter.status);
    if (filter.type) query = query.where('type', '=', filter.type);
    if (sourceId) query = query.where('source_id', '=', sourceId);
    if (filter.from) query = query.where('created_at', '>=', new Date(filter.from));
    if (filter.to) query = query.where('created_at', '<', new Date(filter.to));
    return query;
  }

  async find(organizationId: string, id: string, db: Trx | Catalog['db'] = this.catalog.db): Promise<BackupRow | undefined> {
    return db
      .selectFrom('backups')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .where('purge_started_at', 'is', null)
      .executeTakeFirst();
  }

  /** For the server's own work, whatever the organization. */
  async findAnywhere(id: string, db: Db | Trx = this.catalog.db): Promise<BackupRow | undefined> {
    return db.selectFrom('backups').selectAll().where('id', '=', id).executeTakeFirst();
  }

  async findByIdempotencyKey(trx: Trx, organizationId: string, key: string): Promise<BackupRow | undefined> {
    return trx
      .selectFrom('backups')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where('idempotency_key', '=', key)
      .executeTakeFirst();
  }

  /** Lets reports of one id through one after the other, until the transaction ends. */
  async lockReport(trx: Trx, organizationId: string, id: string): Promise<void> {
    await sql`SELECT pg_advisory_xact_lock(hashtextextended(${`${organizationId} ${externalKey(id)}`}, 0))`.execute(trx);
  }

  /** By the id under which it was reported from outside, where that is another one. */
  async findReported(organizationId: string, id: string, db: Db | Trx = this.catalog.db): Promise<BackupRow | undefined> {
    return db
      .selectFrom('backups')
      .selectAll()
      .where('organization_id', '=', organizationId)
      .where('idempotency_key', '=', externalKey(id))
      .where('purge_started_at', 'is', null)
      .executeTakeFirst();
  }

  async insert(trx: Trx, backup: NewBackup): Promise<BackupRow> {
    const [row] = await this.insertAll(trx, [backup]);
    if (!row) throw new Error(`The backup ${backup.id} was not inserted`);
    return row;
  }

  /** Several at once, in their order. */
  async insertAll(trx: Trx, backups: readonly NewBackup[]): Promise<BackupRow[]> {
    return trx
      .insertInto('backups')
      .values(
        backups.map((backup) => ({
          id: backup.id,
          organization_id: backup.organizationId,
          status: 'queued',
          source_id: backup.sourceId,
          source_name: backup.sourceName,
          type: backup.type,
          origin: backup.origin,
          components: [...backup.components],
          compress: backup.compress,
          include_passwords: backup.includePasswords ?? false,
          label: backup.label,
          tags: [...backup.tags],
          pinned: backup.pinned,
          prefix: backup.prefix,
          idempotency_key: backup.idempotencyKey,
          request_hash: backup.requestHash,
          requested_by: json(backup.requestedBy),
          schedule_id: backup.schedule?.id ?? null,
          schedule_name: backup.schedule?.name ?? null,
          scheduled_for: backup.schedule?.slot ?? null,
        })),
      )
      .returningAll()
      .execute();
  }

  async artifacts(backupId: string): Promise<ArtifactRow[]> {
    return this.catalog.db.selectFrom('artifacts').selectAll().where('backup_id', '=', backupId).orderBy('ordinal').execute();
  }

  async tables(backupId: string): Promise<BackupTableRow[]> {
    return this.catalog.db.selectFrom('backup_tables').selectAll().where('backup_id', '=', backupId).orderBy('ordinal').execute();
  }

  /** The newest completed backup of a source before this one; its manifest's hash goes into the next manifest. */
  async previousManifest(sourceId: string): Promise<string | null> {
    const row = await this.catalog.db
      .selectFrom('backups')
      .select('manifest_sha256')
      .where('source_id', '=', sourceId)
      .where('status', '=', 'completed')
      .where('manifest_sha256', 'is not', null)
      .orderBy('finished_at', 'desc')
      .limit(1)
      .executeTakeFirst();
    return row?.manifest_sha256 ?? null;
  }

  /** What the finished dump contains; written before the manifest is, so that recovery can complete the run from it. */
  async recordContents(trx: Trx, id: string, contents: BackupContents): Promise<void> {
    await trx.deleteFrom('artifacts').where('backup_id', '=', id).execute();
    await trx.deleteFrom('backup_tables').where('backup_id', '=', id).execute();
    await trx
      .insertInto('artifacts')
      .values(
        contents.artifacts.map((artifact, ordinal) => ({
          backup_id: id,
          ordinal,
          component: artifact.component,
          name: artifact.name,
          stored_bytes: artifact.storedBytes,
          stored_sha256: artifact.storedSha256,
          plain_bytes: artifact.plainBytes,
          plain_sha256: artifact.plainSha256,
        })),
      )
      .execute();
    for (let start = 0; start < contents.tables.length; start += ROWS_PER_INSERT) {
      const rows = contents.tables.slice(start, start + ROWS_PER_INSERT).map((table, index) => ({
        backup_id: id,
        ordinal: start + index,
        schema_name: table.schema,
        table_name: table.name,
        row_count: table.rows,
        byte_count: table.bytes,
        sha256: table.sha256,
      }));
      await trx.insertInto('backup_tables').values(rows).execute();
    }
    await trx
      .updateTable('backups')
      .set({
        stored_bytes: sum(contents.artifacts.map((artifact) => artifact.storedBytes)),
        plain_bytes: sum(contents.artifacts.map((artifact) => artifact.plainBytes)),
        table_count: contents.tables.length,
        row_count: sum(contents.tables.map((table) => table.rows)),
        server_version: contents.serverVersion,
        omissions: json(contents.omissions),
        large_objects: json(contents.largeObjects),
        storage: contents.storage ? json(contents.storage) : null,
        manifest_sha256: contents.manifestSha256,
        previous_manifest_sha256: contents.previousManifestSha256,
        recipients: [...contents.recipients],
      })
      .where('id', '=', id)
      .execute();
  }

  /** What was recorded of a dump whose objects are gone: a backup that failed holds nothing. */
  async forgetContents(trx: Trx, id: string): Promise<void> {
    await trx.deleteFrom('artifacts').where('backup_id', '=', id).execute();
    await trx.deleteFrom('backup_tables').where('backup_id', '=', id).execute();
    await trx
      .updateTable('backups')
      .set({
        stored_bytes: 0,
        plain_bytes: 0,
        table_count: 0,
        row_count: 0,
        omissions: null,
        large_objects: null,
        storage: null,
        manifest_sha256: null,
        recipients: null,
      })
      .where('id', '=', id)
      .execute();
  }

  /** Everything is stored and read back: level 0 is proven. */
  async complete(trx: Trx, id: string): Promise<void> {
    await trx
      .updateTable('backups')
      .set({
        ...COMPLETED_RUN,
        proof_level: 0,
        proven_at: sql<Date>`now()`,
      })
      .where('id', '=', id)
      .execute();
  }

  /** What was noticed in an attempt that still goes on. */
  async addWarning(id: string, attempt: number, warning: string): Promise<void> {
    await sql`UPDATE backups SET warnings = warnings || ${warning}::text
      WHERE id = ${id} AND attempt = ${attempt} AND status = 'running'`.execute(this.catalog.db);
  }

  /** What an earlier attempt was warned of is no news of the next. */
  async forgetWarnings(id: string): Promise<void> {
    await this.catalog.db.updateTable('backups').set({ warnings: [] }).where('id', '=', id).execute();
  }

  async setPinned(trx: Trx, id: string, pinned: boolean): Promise<void> {
    await trx.updateTable('backups').set({ pinned }).where('id', '=', id).execute();
  }

  async setTrashed(trx: Trx, id: string, trashed: boolean): Promise<void> {
    await trx
      .updateTable('backups')
      .set(
        trashed
          ? { deleted_at: sql<Date>`now()`, removal_rule: null, removal_policy: null }
          : { deleted_at: null, removal_rule: null, removal_policy: null, brought_back_at: sql<Date>`now()` },
      )
      .where('id', '=', id)
      .execute();
  }

  /** Whether a restore or verification needs it, or a swap that can still be taken back. */
  async isNeeded(trx: Trx, id: string): Promise<boolean> {
    const { rows } = await sql<{ used: boolean }>`SELECT ${NEEDED} AS used FROM backups b WHERE b.id = ${id}`.execute(trx);
    return rows[0]?.used ?? false;
  }

  /** Ids of the restores and verifications of a backup. */
  async runIds(id: string): Promise<string[]> {
    const { rows } = await sql<{
      id: string;
    }>`SELECT id FROM restores WHERE backup_id = ${id} UNION ALL SELECT id FROM verifications WHERE backup_id = ${id}`.execute(
      this.catalog.db,
    );
    return rows.map((row) => row.id);
  }

  /** Somebody reads the objects of these until then, at the latest: they are not removed meanwhile. */
  async noteUse(ids: readonly string[], ms: number): Promise<void> {
    const until = sql<Date>`greatest(used_until, now() + make_interval(secs => ${ms / 1000}))`;
    await this.catalog.db.updateTable('backups').set({ used_until: until }).where('id', 'in', ids).execute();
  }
}

export interface BackupContents {
  artifacts: readonly {
    component: string;
    name: string;
    storedBytes: number;
    storedSha256: string;
    plainBytes: number;
    plainSha256: string;
  }[];
  tables: readonly { schema: string; name: string; rows: number; bytes: number; sha256: string }[];
  serverVersion: string;
  omissions: object[];
  largeObjects: object | null;
  storage: { buckets: number; objects: number; bytes: number } | null;
  manifestSha256: string;
  previousManifestSha256: string | null;
  /** The age public keys that it is encrypted to. */
  recipients: readonly string[];
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
