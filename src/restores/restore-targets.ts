import { Injectable } from '@nestjs/common';
import type { BackupRow } from '../backups/backups.repository.js';
import type { RestoreTargetColumn } from '../catalog/tables.js';
import { ApiError, Errors } from '../common/errors.js';
import { Settings } from '../config/settings.js';
import { EngineError } from '../engine/errors.js';
import { withClient } from '../engine/postgres/client.js';
import { parsePostgresUrl, type PgConnection } from '../engine/postgres/connection.js';
import { assertDatabaseName, assertEmpty, databaseOid, type RestoreTarget, targetExists } from '../engine/restore-target.js';
import { SecretBox } from '../keys/secret-box.js';
import { ServerKeys } from '../keys/server-keys.js';
import { SourceTester } from '../sources/source-tester.js';
import { SourcesService } from '../sources/sources.service.js';
import type { CreateRestoreDto } from './restore.dto.js';
import type { RestoreRow } from './restores.repository.js';

const LOOK_TIMEOUT_MS = 30_000;
const DEFAULT_JOBS = 2;

/** Turns a request's target into one that can be stored, looked at and reached again. */
@Injectable()
export class RestoreTargets {
  constructor(
    private readonly sources: SourcesService,
    private readonly tester: SourceTester,
    private readonly secrets: SecretBox,
    private readonly keys: ServerKeys,
    private readonly settings: Settings,
  ) {}

  /**
   * Checks the target and looks whether it can take the restore.
   * @throws VALIDATION_ERROR, PRECONDITION_FAILED with a sentence that says how to mend it
   */
  async prepare(
    backup: BackupRow,
    restoreId: string,
    { target, jobs }: CreateRestoreDto,
  ): Promise<{ column: RestoreTargetColumn; sealedUrl: string | null }> {
    if (!this.keys.holdsIdentity) {
      throw Errors.precondition(
        'The server holds no key that decrypts its backups (BACKUP_RECIPIENTS names only keys of yours). Restore by hand with your key, as docs/RESTORE-BY-HAND.md shows.',
      );
    }
    const signal = AbortSignal.timeout(LOOK_TIMEOUT_MS);
    const resolved = target.mode === 'new-database' ? await this.newDatabase(backup, target) : this.url(target);
    await this.look(resolved, signal);
    const { host, port, database } =
      resolved.mode === 'url' ? resolved.connection : { ...resolved.server, database: resolved.database };
    return {
      column: { mode: target.mode, host, port, database, jobs: jobs ?? DEFAULT_JOBS },
      sealedUrl: target.url === undefined ? null : this.secrets.seal(target.url, urlOf(restoreId)),
    };
  }

  /** The target of a stored restore. */
  async resolve(backup: BackupRow, restore: RestoreRow): Promise<RestoreTarget> {
    const { mode, database } = restore.target;
    if (mode === 'new-database') return this.newDatabase(backup, { database });
    return this.url({ url: this.secrets.open(restore.sealed_target_url ?? '', urlOf(restore.id)) });
  }

  private async newDatabase(backup: BackupRow, { database, url }: { database?: string; url?: string }): Promise<RestoreTarget> {
    if (url !== undefined) throw Errors.validation({ 'target.url': 'belongs to mode url' });
    const source = await this.sources.get(backup.organization_id, backup.source_id ?? '');
    try {
      assertDatabaseName(database ?? '');
    } catch (error) {
      throw Errors.validation({
        'target.database': error instanceof EngineError ? `is refused: ${error.hint.replace(/\.$/, '')}` : 'is refused',
      });
    }
    return { mode: 'new-database', server: this.sources.connectionOf(source), database: database ?? '' };
  }

  private url({ url, database }: { url?: string; database?: string }): RestoreTarget {
    if (database !== undefined)
      throw Errors.validation({ 'target.database': 'belongs to mode new-database; the URL names the database' });
    try {
      return { mode: 'url', connection: parsePostgresUrl(url ?? '', { allowUnixSockets: this.settings.allowUnixSockets }) };
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      throw new ApiError('VALIDATION_ERROR', `${error.message} ${error.hint}`, { 'target.url': error.message });
    }
  }

  private async look(target: RestoreTarget, signal: AbortSignal): Promise<void> {
    const connection: PgConnection = target.mode === 'url' ? target.connection : target.server;
    if (target.mode === 'url') await this.tester.refuseCatalog(connection, signal);
    await withClient(connection, { applicationName: 'backstay:preflight', signal }, async (client) => {
      if (target.mode === 'url') return assertEmpty(client, connection);
      if ((await databaseOid(client, target.database)) !== null) throw targetExists(target.database);
    });
  }
}

/** What a restore's sealed URL is bound to. */
function urlOf(restoreId: string): string {
  return `restore:${restoreId}:url`;
}
