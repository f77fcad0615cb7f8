import { Injectable } from '@nestjs/common';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import { EngineError } from '../engine/errors.js';
import type { LoadedManifest } from '../engine/artifact/load-manifest.js';
import type { Manifest } from '../engine/artifact/manifest.js';
import { openTables } from '../engine/artifact/sealed-tables.js';
import { Outbox } from '../outbox/outbox.js';
import { ServerKeys } from '../keys/server-keys.js';
import { DEFAULT_SOURCE_OPTIONS } from '../sources/source-values.js';
import { toBackup } from './backup-view.js';
import { type BackupContents, BackupsRepository } from './backups.repository.js';

/** Stands where a source's host is not known any more: nothing answers there. */
const UNKNOWN_HOST = 'unknown.invalid';

/** Puts a backup into the catalog by its manifest. */
@Injectable()
export class ManifestImport {
  constructor(
    private readonly catalog: Catalog,
    private readonly backups: BackupsRepository,
    private readonly keys: ServerKeys,
    private readonly outbox: Outbox,
  ) {}

  /**
   * Completes the backup that a manifest describes, and makes what the catalog lacks of it: the row, its organization, its source
   * (without credentials, which no manifest holds). The manifest must have been checked.
   */
  async complete(prefix: string, loaded: LoadedManifest): Promise<void> {
    const { manifest, sha256 } = loaded;
    const { ids } = manifest;
    const known = await this.backups.findAnywhere(ids.backup);
    const tables = await this.tablesOf(loaded, known?.manifest_sha256 ?? null);
    await this.catalog.transaction(async (trx) => {
      await this.ensureOrganization(trx, ids.organization);
      await this.ensureSource(trx, manifest);
      if (!known) await this.insert(trx, prefix, manifest);
      await this.backups.recordContents(trx, ids.backup, contentsOf(manifest, sha256, tables));
      if (known?.status !== 'completed') await this.end(trx, ids.backup);
      const { tableCount, rowCount } = manifest.totals;
      await trx
        .updateTable('backups')
        .set({ table_count: tableCount, row_count: rowCount, prefix, ...(known ? {} : { finished_at: finishedAt(manifest) }) })
        .where('id', '=', ids.backup)
        .execute();
      if (known && known.status !== 'completed') await this.tell(trx, ids.backup);
    });
  }

  /** What the catalog thought to be going on has ended with the manifest. */
  private async end(trx: Trx, id: string): Promise<void> {
    await this.backups.complete(trx, id);
    await trx
      .updateTable('attempts')
      .set({ finished_at: new Date(), outcome: 'completed' })
      .where('run_kind', '=', 'backup')
      .where('run_id', '=', id)
      .where('outcome', 'is', null)
      .execute();
  }

  /** Somebody may be waiting to hear that it has ended. */
  private async tell(trx: Trx, id: string): Promise<void> {
    const row = await this.backups.findAnywhere(id, trx);
    if (!row) return;
    const data = { backup: toBackup(row) };
    await this.outbox.record(trx, { organizationId: row.organization_id, type: 'backup.completed', subject: id, data });
  }

  /** Their hashes are sealed; where our key does not fit, what the catalog still has of this very manifest is kept. */
  private async tablesOf({ manifest, sha256 }: LoadedManifest, knownSha256: string | null): Promise<BackupContents['tables']> {
    try {
      return (await openTables(manifest, [this.keys.ageIdentity])).tables;
    } catch (error) {
      if (!(error instanceof EngineError) || !['KEY_UNAVAILABLE', 'KEY_INVALID'].includes(error.code)) throw error;
    }
    if (knownSha256 !== sha256) return [];
    return (await this.backups.tables(manifest.ids.backup)).map((row) => ({
      schema: row.schema_name,
      name: row.table_name,
      rows: row.row_count,
      bytes: row.byte_count,
      sha256: row.sha256,
    }));
  }

  private async ensureOrganization(trx: Trx, id: string): Promise<void> {
    await trx
      .insertInto('organizations')
      .values({ id, name: id })
      .onConflict((conflict) => conflict.column('id').doNothing())
      .execute();
  }

  private async ensureSource(trx: Trx, { ids, source }: Manifest): Promise<void> {
    if (await trx.selectFrom('sources').select('id').where('id', '=', ids.source).executeTakeFirst()) return;
    const namesake = await trx
      .selectFrom('sources')
      .select('id')
      .where('organization_id', '=', ids.organization)
      .where('name', '=', source.name)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    await trx
      .insertInto('sources')
      .values({
        id: ids.source,
        organization_id: ids.organization,
        name: namesake ? `${source.name}-${ids.source.slice(-6)}` : source.name,
        kind: source.kind,
        host: UNKNOWN_HOST,
        port: 5432,
        database: source.database,
        username: 'unknown',
        sealed_password: null,
        tls: json({ mode: 'prefer' }),
        options: json(DEFAULT_SOURCE_OPTIONS),
        server_version: source.serverVersion,
      })
      .execute();
  }

  /** Label, tags and who asked for it stand in no manifest. */
  private async insert(trx: Trx, prefix: string, manifest: Manifest): Promise<void> {
    const { ids } = manifest;
    await trx
      .insertInto('backups')
      .values({
        id: ids.backup,
        organization_id: ids.organization,
        status: 'queued',
        attempt: 1,
        source_id: ids.source,
        source_name: manifest.source.name,
        type: manifest.type,
        origin: 'api',
        components: [...manifest.components],
        compress: manifest.artifacts.every(({ name }) => name.includes('.zst')),
        label: null,
        tags: [],
        prefix,
        created_at: new Date(manifest.createdAt),
        started_at: manifest.dump?.startedAt ?? manifest.createdAt,
      })
      .execute();
  }
}

function finishedAt(manifest: Manifest): string {
  return manifest.dump?.finishedAt ?? manifest.createdAt;
}

function contentsOf(manifest: Manifest, manifestSha256: string, tables: BackupContents['tables']): BackupContents {
  return {
    artifacts: manifest.artifacts,
    tables,
    serverVersion: manifest.source.serverVersion,
    omissions: manifest.omissions,
    largeObjects: manifest.largeObjects,
    storage: manifest.storage,
    manifestSha256,
    recipients: manifest.recipients,
  };
}
