import { Injectable } from '@nestjs/common';
import type { Identity } from '../auth/identity.js';
import { BackupArchives } from '../backups/backup-archives.js';
import type { BackupRow } from '../backups/backups.repository.js';
import { BackupsService } from '../backups/backups.service.js';
import { Catalog } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { compareBackups, type ContentDifference } from '../engine/compare.js';
import { Keyring } from '../keys/keyring.js';
import { LentIdentities } from '../keys/lent-identities.js';
import type { LentIdentityDto } from '../keys/lent-identity.dto.js';
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
    private readonly archives: BackupArchives,
    private readonly keyring: Keyring,
    private readonly lent: LentIdentities,
  ) {}

  /** @throws VALIDATION_ERROR, NOT_FOUND, CONFLICT for one that is not completed, PRECONDITION_FAILED when an artifact can't be read */
  async compare(caller: Identity, ids: CompareBackupsDto, lends: LentIdentityDto): Promise<ComparisonDto> {
    const [base, head] = [await this.completed(caller, ids.base), await this.completed(caller, ids.head)];
    await this.backups.noteUse([base.id, head.id], READ_TIMEOUT_MS);
    const tables = toTableDifferences(await tableDifferences(this.catalog.db, base.id, head.id));
    const content = await this.read(base, head, lends);
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

  /** Null where the server holds no key of one of the two, and none was sent. */
  private async read(base: BackupRow, head: BackupRow, lends: LentIdentityDto): Promise<ContentDifference | null> {
    const isLent = lends.identity !== undefined || lends.passphrase !== undefined;
    if (!isLent && !((await this.keyring.canOpen(base)) && (await this.keyring.canOpen(head)))) return null;
    const signal = AbortSignal.timeout(READ_TIMEOUT_MS);
    const open = async (backup: BackupRow) =>
      (await this.archives.of(backup, signal, await this.lent.requireFor(backup, lends))).source;
    return compareBackups(await open(base), await open(head));
  }

  private notes(base: BackupRow, head: BackupRow, content: ContentDifference | null): string[] {
    const notes: string[] = [];
    if (base.source_id !== head.source_id) notes.push('The two backups are of different sources.');
    if (base.created_at > head.created_at) notes.push('Base is the newer of the two: added means that it was there before.');
    if (!content)
      notes.push(
        'Schema, settings and roles were not compared: the server holds no key that opens both backups. Send the age identity in the header x-age-identity.',
      );
    else if (!content.schema) notes.push('The schemas were not compared: one of the two holds no database.');
    if (base.server_version !== head.server_version)
      notes.push('The server versions differ: some definitions may be written in another way and mean the same.');
    return notes;
  }
}
