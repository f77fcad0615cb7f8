import { Injectable } from '@nestjs/common';
import type { BackupRow } from '../backups/backups.repository.js';
import type { RestoreTargetColumn } from '../catalog/tables.js';
import { ApiError, Errors } from '../common/errors.js';
import { Settings } from '../config/settings.js';
import { EngineError } from '../engine/errors.js';
import { parsePostgresUrl, type PgConnection } from '../engine/postgres/connection.js';
import { assertDatabaseName, type RestoreTarget, serverOf } from '../engine/restore-target.js';
import { SecretBox } from '../keys/secret-box.js';
import { parseTableName } from '../sources/source-values.js';
import { SourcesService } from '../sources/sources.service.js';
import type { CreateRestoreDto, RestoreTargetDto } from './restore.dto.js';
import type { RestoreRow } from './restores.repository.js';

const DEFAULT_JOBS = 2;
const DEFAULT_KEEP_HOURS = 24;

/** Turns a request's target into one that can be reached, stored, and reached again. */
@Injectable()
export class RestoreTargets {
  constructor(
    private readonly sources: SourcesService,
    private readonly secrets: SecretBox,
    private readonly settings: Settings,
  ) {}

  /** The target of a request. @throws VALIDATION_ERROR that names the field */
  async of(backup: BackupRow, restoreId: string, dto: RestoreTargetDto): Promise<RestoreTarget> {
    refuseForeignFields(dto);
    if (dto.serviceRoleKey !== undefined)
      throw Errors.validation({ 'target.serviceRoleKey': 'belongs to the component storage' });
    switch (dto.mode) {
      case 'new-database':
        return { mode: dto.mode, server: await this.sourceOf(backup), database: databaseName(dto.database) };
      case 'swap':
        return { mode: dto.mode, server: await this.sourceOf(backup) };
      case 'in-place':
        this.assertConfirmed(backup, dto.confirm);
        return { mode: dto.mode, connection: await this.sourceOf(backup) };
      case 'side-schema':
        return { mode: dto.mode, connection: await this.sourceOf(backup), schema: restoreId.replace(/^restore_/, 'restored_') };
      case 'url':
        return { mode: dto.mode, connection: this.parse(dto.url) };
    }
  }

  /** What of a target is stored: no credentials, but for the sealed URL. */
  stored(
    restoreId: string,
    target: RestoreTarget,
    dto: CreateRestoreDto,
  ): { column: RestoreTargetColumn; sealedUrl: string | null } {
    const { host, port } = serverOf(target);
    const database = target.mode === 'new-database' ? target.database : serverOf(target).database;
    return {
      column: {
        mode: target.mode,
        host,
        port,
        database,
        ...(target.mode === 'side-schema' ? { schema: target.schema } : {}),
        jobs: dto.jobs ?? DEFAULT_JOBS,
        createRoles: dto.createRoles ?? false,
        ...(dto.continueOnErrors ? { continueOnErrors: true } : {}),
        keepPreviousHours: dto.target.keepPreviousHours ?? DEFAULT_KEEP_HOURS,
        selection: selectionOf(dto),
      },
      sealedUrl: dto.target.url === undefined ? null : this.secrets.seal(dto.target.url, urlOf(restoreId)),
    };
  }

  /** The target of a stored restore. */
  async resolve(backup: BackupRow, restore: RestoreRow): Promise<RestoreTarget> {
    const { mode, database } = restore.target;
    switch (mode) {
      case 'new-database':
        return { mode, server: await this.sourceOf(backup), database };
      case 'swap':
        // The database that was asked for, even where the source was given another one since.
        return { mode, server: { ...(await this.sourceOf(backup)), database } };
      case 'in-place':
        return { mode, connection: { ...(await this.sourceOf(backup)), database } };
      case 'side-schema':
        return { mode, connection: { ...(await this.sourceOf(backup)), database }, schema: restore.target.schema ?? '' };
      case 'url':
        return { mode, connection: this.parse(this.secrets.open(restore.sealed_target_url ?? '', urlOf(restore.id))) };
    }
  }

  /** How long a restore into the source's own database waits for a lock, in milliseconds. */
  async lockTimeoutMs(backup: BackupRow): Promise<number | undefined> {
    const source = await this.sources.find(backup.organization_id, backup.source_id ?? '');
    return source?.options.lockTimeoutMs;
  }

  private async sourceOf(backup: BackupRow): Promise<PgConnection> {
    return this.sources.connectionOf(await this.sources.get(backup.organization_id, backup.source_id ?? ''));
  }

  /** @throws VALIDATION_ERROR unless the source's name was typed */
  assertConfirmed(backup: BackupRow, confirm: string | undefined): void {
    if (confirm === backup.source_name) return;
    throw Errors.validation({
      'target.confirm': `must be the name of the source that is overwritten, ${JSON.stringify(backup.source_name)}`,
    });
  }

  private parse(url: string | undefined): PgConnection {
    try {
      return parsePostgresUrl(url ?? '', { allowUnixSockets: this.settings.allowUnixSockets });
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      throw new ApiError('VALIDATION_ERROR', `${error.message} ${error.hint}`, { 'target.url': error.message });
    }
  }
}

/** What of the backup is asked for. @throws VALIDATION_ERROR */
export function selectionOf({
  target,
  schemas,
  tables,
  schemaOnly,
  dataOnly,
  continueOnErrors,
}: CreateRestoreDto): RestoreTargetColumn['selection'] {
  if (continueOnErrors && target.mode !== 'new-database')
    throw Errors.validation({ continueOnErrors: 'belongs to mode new-database; every other mode is all or nothing' });
  if (schemaOnly && dataOnly) throw Errors.validation({ dataOnly: 'excludes schemaOnly; ask for one, or for neither' });
  return {
    ...(schemas?.length ? { schemas } : {}),
    ...(tables?.length ? { tables: tables.map((table) => parseTableName(table, 'tables')) } : {}),
    ...(schemaOnly ? { schemaOnly } : {}),
    ...(dataOnly ? { dataOnly } : {}),
  };
}

const MODE_OF_FIELD = {
  database: 'new-database',
  url: 'url',
  serviceRoleKey: 'url',
  confirm: 'in-place',
  keepPreviousHours: 'swap',
} as const;

/** @throws VALIDATION_ERROR for a field of another mode */
export function refuseForeignFields(dto: RestoreTargetDto): void {
  for (const [field, mode] of Object.entries(MODE_OF_FIELD)) {
    if (dto.mode !== mode && dto[field as keyof typeof MODE_OF_FIELD] !== undefined)
      throw Errors.validation({ [`target.${field}`]: `belongs to mode ${mode}` });
  }
}

function databaseName(database: string | undefined): string {
  try {
    assertDatabaseName(database ?? '');
    return database ?? '';
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    throw Errors.validation({ 'target.database': `is refused: ${error.hint.replace(/\.$/, '')}` });
  }
}

/** What a restore's sealed URL is bound to. */
export function urlOf(restoreId: string): string {
  return `restore:${restoreId}:url`;
}
