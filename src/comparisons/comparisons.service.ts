import { Injectable } from '@nestjs/common';
import type { Identity } from '../auth/identity.js';
import type { BackupRow } from '../backups/backups.repository.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import { type ComparedBackup, compareBackups, type ContentDifference } from '../engine/compare.js';
import { Installation } from '../installation/installation.js';
import { ServerKeys } from '../keys/server-keys.js';
import type { CompareBackupsDto, ComparisonDto } from './comparison.dto.js';
import { toComparedBackup, toSchemaDifference, toTableDifferences } from './comparison-view.js';
import { tableDifferences } from './table-differences.js';

/** Longest that the reading of two headers may take. */
const READ_TIMEOUT_MS = 60_000;

/** Says what differs between two backups, by what is known of their tables and by the heads of their archives. */
@Injectable()
export class ComparisonsService {
  constructor(
    private readonly backups: BackupsService,
    private readonly catalog: Catalog,
    private readonly copies: BackupCopies,
    private readonly keys: ServerKeys,
    private readonly installation: Installation,
  ) {}

  /** @throws VALIDATION_ERROR, NOT_FOUND, CONFLICT for one that is not completed, PRECONDITION_FAILED when an artifact can't be read */
  async compare(caller: Identity, ids: CompareBackupsDto): Promise<ComparisonDto> {
    const [base, head] = [await this.completed(caller, ids.base), await this.completed(caller, ids.head)];
    await this.backups.noteUse([base.id, head.id], READ_TIMEOUT_MS);
    const tables = toTableDifferences(await tableDifferences(this.catalog.db, base.id, head.id));
    const content = this.keys.holdsIdentity ? await this.read(base, head) : null;
    const all = [...tables.added, ...tables.removed, ...tables.changed];
    const schema = toSchemaDifference(content?.schema ?? null);
    const [settings, roles] = [content?.settings ?? null, content?.roles ?? null];
    return {
      base: toComparedBackup(base),
      head: toComparedBackup(head),
      equal: [all, schema?.objects, settings, roles].every((changes) => (changes ?? []).length === 0),
      rowDelta: all.reduce((sum, table) => sum + table.rowDelta, 0),
      byteDelta: all.reduce((sum, table) => sum + table.byteDelta, 0),
      tables,
      schema,
      settings,
      roles,
      notes: this.notes(base, head, content),
    };
  }

  private async completed(caller: Identity, id: string): Promise<BackupRow> {
    const backup = await this.backups.get(caller.organizationId, id);
    if (backup.status !== 'completed')
      throw Errors.conflict(`The backup ${id} is ${backup.status}; only completed ones can be compared.`);
    if (backup.origin === 'external')
      throw Errors.precondition(`The backup ${id} was made elsewhere; the server has nothing of it to compare.`);
    return backup;
  }

  private async read(base: BackupRow, head: BackupRow): Promise<ContentDifference> {
    const signal = AbortSignal.timeout(READ_TIMEOUT_MS);
    return compareBackups(await this.comparedOf(base, signal), await this.comparedOf(head, signal));
  }

  private async comparedOf(backup: BackupRow, signal: AbortSignal): Promise<ComparedBackup> {
    const { store } = await this.copies.readable(backup, signal);
    return {
      ids: {
        installation: this.installation.id,
        organization: backup.organization_id,
        source: backup.source_id ?? '',
        backup: backup.id,
      },
      store,
      verifyingKeys: [this.keys.verifyingKeyPem],
      identities: [this.keys.ageIdentity],
      signal,
    };
  }

  private notes(base: BackupRow, head: BackupRow, content: ContentDifference | null): string[] {
    const notes: string[] = [];
    if (base.source_id !== head.source_id) notes.push('The two backups are of different sources.');
    if (base.created_at > head.created_at) notes.push('Base is the newer of the two: added means that it was there before.');
    if (!content)
      notes.push(
        'Schema, settings and roles were not compared: the server holds no key that decrypts its backups (BACKUP_RECIPIENTS names only keys of yours).',
      );
    else if (!content.schema) notes.push('The schemas were not compared: one of the two holds no database.');
    if (base.server_version !== head.server_version)
      notes.push('The server versions differ: some definitions may be written in another way and mean the same.');
    return notes;
  }
}
