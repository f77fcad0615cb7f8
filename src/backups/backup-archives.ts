import { Injectable } from '@nestjs/common';
import { Settings } from '../config/settings.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import type { OpenDestination } from '../destinations/stores.js';
import type { ArchiveSource } from '../engine/restore-archive.js';
import { idsOfPrefix } from '../engine/store/layout.js';
import { Keyring } from '../keys/keyring.js';
import type { BackupRow } from './backups.repository.js';

/** A backup's archive, and the copy of it that is read. */
export interface FoundArchive {
  source: ArchiveSource;
  copy: OpenDestination & { only: boolean };
}

/** Finds where a backup lies, and what it is checked and opened with. */
@Injectable()
export class BackupArchives {
  constructor(
    private readonly copies: BackupCopies,
    private readonly keyring: Keyring,
    private readonly settings: Settings,
  ) {}

  /**
   * The ids are those of its folder, which an adopted backup brings along from the installation that made it; the manifest has to be the
   * one that the catalog knows. @param lent age secrets that came with the request
   */
  async of(backup: BackupRow, signal: AbortSignal, lent: readonly string[] = []): Promise<FoundArchive> {
    const copy = await this.copies.readable(backup, signal);
    const source: ArchiveSource = {
      ids: idsOfPrefix(backup.prefix),
      store: copy.store,
      ...(await this.keyring.forBackup(backup, lent)),
      expectedManifestSha256: backup.manifest_sha256 ?? undefined,
      programs: { binDirs: this.settings.pgBinDirs, requirePatched: this.settings.pgRequirePatched },
      signal,
    };
    return { source, copy };
  }
}
