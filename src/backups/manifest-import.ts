import { Injectable } from '@nestjs/common';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import { EngineError } from '../engine/errors.js';
import type { LoadedManifest } from '../engine/artifact/load-manifest.js';
import type { Manifest } from '../engine/artifact/manifest.js';
import { openTables } from '../engine/artifact/sealed-tables.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import { Outbox } from '../outbox/outbox.js';
import { ServerKeys } from '../keys/server-keys.js';
import { DEFAULT_SOURCE_OPTIONS, UNKNOWN_HOST } from '../sources/source-values.js';
import { toBackup } from './backup-view.js';
import { type BackupContents, BackupsRepository } from './backups.repository.js';

/** Where a backup of another installation comes to belong. */
export interface Adoption {
  organizationId: string;
  sourceId: string;
  /** Whose signing key vouches for it. */
  scope: 'server' | 'organization';
  /** age secrets that open it, as far as there are any. */
  identities: readonly string[];
  /** The manifest's hash, when it is trusted without a signature. */
  pinnedManifestSha256: string | null;
  /** What is wrong with it; null when it is whole. */
  brokenCause: string | null;
  destinationId: string;
  /** Until when that destination says that it is locked. */
  lockedUntil: Date | null;
  state: AdoptedState;
}

/** What stands in no manifest, and comes from a backup of the catalog where there is one. */
export interface AdoptedState {
  origin: string;
  label: string | null;
  tags: readonly string[];
  pinned: boolean;
  proofLevel: number;
  provenAt: string | null;
  finishedAt: string | null;
  startedAt: string | null;
  scheduleId: string | null;
  scheduleName: string | null;
  scheduledFor: string | null;
}

/** Puts a backup into the catalog by its manifest. */
@Injectable()
export class ManifestImport {
  constructor(
    private readonly catalog: Catalog,
    private readonly backups: BackupsRepository,
    private readonly keys: ServerKeys,
    private readonly outbox: Outbox,
    private readonly copies: BackupCopies,
  ) {}

  /** Makes the row of a backup that was found at a destination; the manifest must have been checked, and the id be free. */
  async adopt(trx: Trx, prefix: string, loaded: LoadedManifest, adoption: Adoption): Promise<void> {
    const { manifest, sha256 } = loaded;
    const { organizationId, sourceId, scope, state, brokenCause } = adoption;
    const id = manifest.ids.backup;
    await this.insert(trx, prefix, manifest, organizationId, sourceId);
    await this.backups.recordContents(trx, id, contentsOf(manifest, sha256, await openedTables(manifest, adoption.identities)));
    await this.backups.complete(trx, id);
    await trx
      .updateTable('backups')
      .set({
        table_count: manifest.totals.tableCount,
        row_count: manifest.totals.rowCount,
        finished_at: state.finishedAt ?? finishedAt(manifest),
        ...(state.startedAt === null ? {} : { started_at: state.startedAt }),
        adopted_at: new Date(),
        key_scope: scope,
        pinned_manifest_sha256: adoption.pinnedManifestSha256,
        origin: state.origin,
        label: state.label,
        tags: [...state.tags],
        pinned: state.pinned,
        proof_level: state.proofLevel,
        ...(state.provenAt === null ? {} : { proven_at: state.provenAt }),
        schedule_id: state.scheduleId,
        schedule_name: state.scheduleName,
        scheduled_for: state.scheduledFor,
        broken: brokenCause !== null,
        broken_cause: brokenCause,
      })
      .where('id', '=', id)
      .execute();
    await this.copies.noteFound(trx, id, adoption.destinationId, adoption.lockedUntil);
  }

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
      await this.ensureSource(trx, manifest, ids.organization, ids.source);
      if (!known) await this.insert(trx, prefix, manifest, ids.organization, ids.source);
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
    const opened = await openedTables(manifest, this.keys.identities);
    if (opened.length > 0 || knownSha256 !== sha256) return opened;
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

  /** Makes a source without credentials, which no manifest holds. @returns whether it was made now */
  async ensureSource(trx: Trx, { source }: Manifest, organizationId: string, sourceId: string): Promise<boolean> {
    if (await trx.selectFrom('sources').select('id').where('id', '=', sourceId).executeTakeFirst()) return false;
    const namesake = await trx
      .selectFrom('sources')
      .select('id')
      .where('organization_id', '=', organizationId)
      .where('name', '=', source.name)
      .where('deleted_at', 'is', null)
      .executeTakeFirst();
    await trx
      .insertInto('sources')
      .values({
        id: sourceId,
        organization_id: organizationId,
        name: namesake ? `${source.name}-${sourceId.slice(-6)}` : source.name,
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
    return true;
  }

  /** Label, tags and who asked for it stand in no manifest. */
  private async insert(trx: Trx, prefix: string, manifest: Manifest, organizationId: string, sourceId: string): Promise<void> {
    const { ids } = manifest;
    await trx
      .insertInto('backups')
      .values({
        id: ids.backup,
        organization_id: organizationId,
        status: 'queued',
        attempt: 1,
        source_id: sourceId,
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

/** Without a key that fits there are none. */
async function openedTables(manifest: Manifest, identities: readonly string[]): Promise<BackupContents['tables']> {
  try {
    return (await openTables(manifest, identities)).tables;
  } catch (error) {
    if (!(error instanceof EngineError) || !['KEY_UNAVAILABLE', 'KEY_INVALID'].includes(error.code)) throw error;
    return [];
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
    previousManifestSha256: manifest.previousManifestSha256,
    recipients: manifest.recipients,
  };
}
