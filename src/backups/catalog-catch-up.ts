import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { AuditService } from '../audit/audit.service.js';
import { Catalog, json } from '../catalog/catalog.js';
import type { Rebuild } from '../catalog/embedded/rebuild.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import { DEFAULT_DESTINATION } from '../destinations/destination.js';
import { Stores } from '../destinations/stores.js';
import { SYSTEM_ACTOR } from '../common/http/request-context.js';
import { EngineError } from '../engine/errors.js';
import { backupLockedUntil } from '../engine/lock-backup.js';
import { loadManifest } from '../engine/artifact/load-manifest.js';
import type { ArtifactStore } from '../engine/store/artifact-store.js';
import { backupPrefix, type BackupIds, MANIFEST_NAME, objectKey, parseKey } from '../engine/store/layout.js';
import { Installation } from '../installation/installation.js';
import { ServerKeys } from '../keys/server-keys.js';
import { ManifestImport } from './manifest-import.js';

/** What was found at the destination. */
export interface CaughtUp {
  /** Backups that the catalog did not have as completed, or not whole, and their manifest did. */
  fromManifests: number;
  /** Backups that the catalog has as completed and that have no manifest. */
  broken: number;
  /** Folders whose manifest can't be believed. */
  refusedManifests: number;
}

interface FoundFolder {
  ids: BackupIds;
  store: ArtifactStore;
  destinationId: string;
}

interface KnownBackup {
  id: string;
  status: string;
  manifestSha256: string | null;
  inTrash: boolean;
  isBeingPurged: boolean;
  broken: boolean;
  /** Made elsewhere: nothing of it is expected at a destination. */
  isExternal: boolean;
  /** Whether its artifacts and tables are all there. */
  isWhole: boolean;
}

/**
 * After a crash or a rebuild the embedded catalog may be older than what lies at the destination, where the manifest says what a
 * backup is. This runs before any run is recovered: a run that is taken up again clears its folder away.
 */
@Injectable()
export class CatalogCatchUp implements OnModuleInit {
  private readonly logger = new Logger('catalog');

  constructor(
    private readonly catalog: Catalog,
    private readonly stores: Stores,
    private readonly copies: BackupCopies,
    private readonly keys: ServerKeys,
    private readonly installation: Installation,
    private readonly manifests: ManifestImport,
    private readonly audit: AuditService,
  ) {}

  async onModuleInit(): Promise<void> {
    const { home } = this.catalog;
    if (!home || (home.start !== 'unclean' && home.start !== 'rebuilt')) return;
    const { rebuild } = home;
    try {
      const found = await this.catchUp(rebuild);
      if (rebuild) await this.tell('catalog.rebuilt', { ...rebuild, ...found });
      else if (found.fromManifests > 0) await this.tell('catalog.caught-up', found);
      await home.caughtUp(found);
    } catch (error) {
      this.logger.error({ event: 'catalog.catch-up-failed', err: error }, 'catalog.catch-up-failed');
      // Half known, it could begin anew what is done. The next start tries again.
      if (rebuild)
        throw new Error(
          `The catalog was damaged (${rebuild.cause}) and rebuilt, but the backups at the destination can't be read to bring it up to date: ${(error as Error).message} Mend that and start again.`,
          { cause: error },
        );
    }
  }

  /** Brings the catalog up to date. @param rebuild when it was rebuilt, what it says is checked against the destination too */
  async catchUp(rebuild: Rebuild | null): Promise<CaughtUp> {
    const found: CaughtUp = { fromManifests: 0, broken: 0, refusedManifests: 0 };
    const known = await this.known();
    const { folders, unread } = await this.foldersEverywhere();
    for (const [prefix, { ids, store, destinationId }] of folders) {
      const row = known.get(ids.backup);
      if (row?.isBeingPurged || (row?.status === 'completed' && row.isWhole)) continue;
      // A run that was cut off between its manifest and its end: recovery ends it, and tells of it.
      const endsByItself = !rebuild && (row?.status === 'running' || row?.status === 'queued') ? row.manifestSha256 : null;
      const taken = await this.takeIn(prefix, ids, endsByItself, store);
      if (taken !== 'left') found[taken] += 1;
      if (taken !== 'fromManifests' || destinationId === DEFAULT_DESTINATION) continue;
      const lockedUntil = await backupLockedUntil(store, prefix).catch(() => null);
      await this.catalog.transaction((trx) => this.copies.noteFound(trx, ids.backup, destinationId, lockedUntil));
    }
    if (!rebuild) return found;
    const present = new Set([...folders.values()].map(({ ids }) => ids.backup));
    for (const id of await this.adoptedThatLie()) present.add(id);
    for (const row of known.values()) {
      if (row.status !== 'completed' || present.has(row.id) || row.inTrash || row.isBeingPurged || row.broken) continue;
      // It may lie where nobody could look now.
      if (row.isExternal || unread > 0) continue;
      await this.markBroken(row.id, rebuild);
      found.broken += 1;
    }
    await this.endRestores();
    return found;
  }

  /** @param except SHA-256 of the manifest that is to be left alone */
  private async takeIn(
    prefix: string,
    ids: BackupIds,
    except: string | null,
    store: ArtifactStore,
  ): Promise<'fromManifests' | 'refusedManifests' | 'left'> {
    try {
      const loaded = await loadManifest(store, prefix, this.keys.verifyingKeyPems, ids);
      if (loaded.sha256 === except) return 'left';
      await this.manifests.complete(prefix, loaded);
      this.logger.warn(
        { event: 'catalog.backup-from-manifest', backupId: ids.backup },
        'a completed backup came from its manifest',
      );
      return 'fromManifests';
    } catch (error) {
      if (!(error instanceof EngineError) || !['OBJECT_MISSING', 'SIGNATURE_INVALID', 'MANIFEST_CORRUPT'].includes(error.code))
        throw error;
      this.logger.error({ event: 'catalog.manifest-refused', backupId: ids.backup, err: error }, 'catalog.manifest-refused');
      return 'refusedManifests';
    }
  }

  /** The local folder must be readable; another destination that can't be reached now is told of and passed over. */
  private async foldersEverywhere(): Promise<{ folders: Map<string, FoundFolder>; unread: number }> {
    const folders = new Map<string, FoundFolder>();
    let unread = 0;
    for (const { id, store } of await this.stores.everywhere()) {
      try {
        for (const [prefix, ids] of await this.foldersWithManifest(store))
          if (!folders.has(prefix)) folders.set(prefix, { ids, store, destinationId: id });
      } catch (error) {
        if (id === DEFAULT_DESTINATION) throw error;
        unread += 1;
        this.logger.error({ event: 'catalog.destination-unread', destinationId: id, err: error }, 'catalog.destination-unread');
      }
    }
    return { folders, unread };
  }

  private async foldersWithManifest(store: ArtifactStore): Promise<Map<string, BackupIds>> {
    const folders = new Map<string, BackupIds>();
    for await (const { key } of store.list(this.installation.id)) {
      const parsed = parseKey(key);
      if (parsed?.attempt !== null || parsed.name !== MANIFEST_NAME) continue;
      const { installation, organization, source, backup } = parsed;
      folders.set(backupPrefix(parsed), { installation, organization, source, backup });
    }
    return folders;
  }

  /** Adopted backups lie in folders of the installations that made them. */
  private async adoptedThatLie(): Promise<string[]> {
    const rows = await this.catalog.db
      .selectFrom('backups')
      .select(['id', 'prefix'])
      .where('adopted_at', 'is not', null)
      .where('status', '=', 'completed')
      .execute();
    const found = await Promise.all(
      rows.map(async (row) => {
        const { store } = await this.copies.readable(row);
        // Where nobody could look, it may lie.
        return (await store.stat(objectKey(row.prefix, MANIFEST_NAME)).catch(() => true)) === null ? [] : [row.id];
      }),
    );
    return found.flat();
  }

  private async known(): Promise<Map<string, KnownBackup>> {
    const rows = await this.catalog.db
      .selectFrom('backups as b')
      .leftJoin(
        (e) =>
          e
            .selectFrom('artifacts')
            .select((s) => ['backup_id', s.fn.countAll<number>().as('count')])
            .groupBy('backup_id')
            .as('a'),
        (join) => join.onRef('a.backup_id', '=', 'b.id'),
      )
      .leftJoin(
        (e) =>
          e
            .selectFrom('backup_tables')
            .select((s) => ['backup_id', s.fn.countAll<number>().as('count')])
            .groupBy('backup_id')
            .as('t'),
        (join) => join.onRef('t.backup_id', '=', 'b.id'),
      )
      .select([
        'b.id',
        'b.status',
        'b.origin',
        'b.broken',
        'b.deleted_at',
        'b.purge_started_at',
        'b.table_count',
        'b.manifest_sha256',
      ])
      .select(['a.count as artifacts', 't.count as tables'])
      .execute();
    return new Map(
      rows.map((row) => [
        row.id,
        {
          id: row.id,
          status: row.status,
          manifestSha256: row.manifest_sha256,
          broken: row.broken,
          isExternal: row.origin === 'external',
          inTrash: row.deleted_at !== null,
          isBeingPurged: row.purge_started_at !== null,
          isWhole: Number(row.artifacts ?? 0) > 0 && Number(row.tables ?? 0) === row.table_count,
        },
      ]),
    );
  }

  private async markBroken(id: string, rebuild: Rebuild): Promise<void> {
    await this.catalog.db
      .updateTable('backups')
      .set({
        broken: true,
        broken_cause: `The catalog's snapshot of ${rebuild.snapshotAt ?? rebuild.at} lists this backup as completed, but its manifest is not at the destination.`,
      })
      .where('id', '=', id)
      .execute();
  }

  /** A restore may have ended after the snapshot was taken: begun again, it could overwrite what was written since. */
  private async endRestores(): Promise<void> {
    const error = {
      code: 'INTERRUPTED',
      message: 'The catalog was rebuilt from a snapshot that was taken before this restore ended; whether it did is not known.',
      hint: 'Look at the target, and start the restore again if it is needed.',
    };
    await this.catalog.db
      .updateTable('restores')
      .set({ status: 'failed', error: json(error), finished_at: new Date(), worker_id: null, heartbeat_at: null })
      .where('status', 'in', ['queued', 'running'])
      .execute();
  }

  private async tell(action: string, details: object): Promise<void> {
    this.logger.warn({ event: action, ...details }, action);
    await this.audit.record(undefined, {
      organizationId: this.installation.defaultOrganizationId,
      actor: SYSTEM_ACTOR,
      action,
      resource: { kind: 'catalog', id: this.installation.id },
      changes: details,
    });
  }
}
