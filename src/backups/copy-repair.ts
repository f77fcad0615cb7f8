import { Injectable, Logger } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { sql } from 'kysely';
import { Catalog, json } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import { Settings } from '../config/settings.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import { Stores } from '../destinations/stores.js';
import { copyBackup } from '../engine/store/copy-backup.js';
import { toRunError } from '../jobs/run-error.js';
import { CopyLocks } from './copy-locks.js';
import { idsOfPrefix } from '../engine/store/layout.js';
import { Keyring } from '../keys/keyring.js';

const LOOK_MS = 60_000;
const CLAIM = sql<Date>`now() + interval '15 minutes'`;
const RENEW_MS = 300_000;
const LONGEST_PAUSE_MS = 3_600_000;
const PAUSE_MS = 60_000;

interface ClaimedCopy {
  backup_id: string;
  destination_id: string;
  tries: number;
  organization_id: string;
  prefix: string;
  key_scope: string;
  recipients: string[] | null;
  pinned_manifest_sha256: string | null;
}

/** Copies completed backups to those of their destinations that were away when they were made. */
@Injectable()
export class CopyRepair {
  private readonly logger = new Logger('backup');
  private busy: Promise<number> | undefined;

  constructor(
    private readonly catalog: Catalog,
    private readonly copies: BackupCopies,
    private readonly locks: CopyLocks,
    private readonly stores: Stores,
    private readonly keyring: Keyring,
    private readonly settings: Settings,
    private readonly cache: CacheService,
  ) {}

  @Interval(LOOK_MS)
  async look(): Promise<void> {
    if (this.settings.role === 'api' || this.busy) return;
    await this.repairAll().catch((error: unknown) => this.logger.error({ err: error }, 'backup.copies-not-repaired'));
  }

  /** Repairs every copy that is due, one after the other. @returns how many are stored now */
  repairAll(now = new Date()): Promise<number> {
    this.busy ??= this.work(now).finally(() => (this.busy = undefined));
    return this.busy;
  }

  private async work(now: Date): Promise<number> {
    let repaired = 0;
    for (let copy = await this.claim(now); copy; copy = await this.claim(now)) {
      if (!(await this.repair(copy))) continue;
      repaired += 1;
      await this.copies.planLocks(copy.backup_id);
      await this.locks.lock(copy.backup_id);
    }
    return repaired;
  }

  /** Two workers never write the same copy, and nothing is purged while it is written. */
  private async claim(now: Date): Promise<ClaimedCopy | undefined> {
    const { rows } = await sql<ClaimedCopy>`UPDATE backup_copies c SET claimed_until = ${CLAIM}, tries = c.tries + 1
      FROM backups b WHERE b.id = c.backup_id AND (c.backup_id, c.destination_id) IN (
        SELECT x.backup_id, x.destination_id FROM backup_copies x JOIN backups y ON y.id = x.backup_id
        WHERE x.state <> 'stored' AND y.status = 'completed' AND y.deleted_at IS NULL
          AND (x.next_try_at IS NULL OR x.next_try_at <= ${now}) AND (x.claimed_until IS NULL OR x.claimed_until < now())
        ORDER BY x.next_try_at NULLS FIRST LIMIT 1 FOR UPDATE OF x SKIP LOCKED)
      RETURNING c.backup_id, c.destination_id, c.tries, b.organization_id, b.prefix, b.key_scope, b.recipients,
        b.pinned_manifest_sha256`.execute(this.catalog.db);
    return rows[0];
  }

  private async repair(copy: ClaimedCopy): Promise<boolean> {
    const abort = new AbortController();
    const renewing = setInterval(() => void this.renew(copy).catch((error: unknown) => abort.abort(error)), RENEW_MS);
    try {
      const backup = { id: copy.backup_id, prefix: copy.prefix };
      const [from, to] = [await this.copies.readable(backup, abort.signal), await this.stores.of(copy.destination_id)];
      if (from.id !== to.id) await copyBackup({ ...(await this.requestOf(copy, abort.signal)), from: from.store, to: to.store });
      await this.note(copy, { state: 'stored', error: null, next_try_at: null });
      this.logger.log({ event: 'backup.copied', backupId: copy.backup_id, from: from.name, to: to.name }, 'a copy was repaired');
      return true;
    } catch (error) {
      const pause = Math.min(LONGEST_PAUSE_MS, PAUSE_MS * 2 ** Math.min(copy.tries, 10));
      await this.note(copy, { state: 'failed', error: json(toRunError(error)), next_try_at: new Date(Date.now() + pause) });
      this.logger.warn({ event: 'backup.not-copied', backupId: copy.backup_id, err: error }, 'a copy could not be repaired');
      return false;
    } finally {
      clearInterval(renewing);
      await this.cache.invalidate(copy.organization_id, ['backups']);
    }
  }

  private async requestOf(copy: ClaimedCopy, signal: AbortSignal) {
    return { ids: idsOfPrefix(copy.prefix), ...(await this.keyring.forBackup(copy)), signal };
  }

  private async renew({ backup_id, destination_id }: ClaimedCopy): Promise<void> {
    await this.catalog.db
      .updateTable('backup_copies')
      .set({ claimed_until: CLAIM })
      .where('backup_id', '=', backup_id)
      .where('destination_id', '=', destination_id)
      .execute();
  }

  private async note(
    { backup_id, destination_id }: ClaimedCopy,
    state: { state: string; error: string | null; next_try_at: Date | null },
  ): Promise<void> {
    await this.catalog.db
      .updateTable('backup_copies')
      .set({ ...state, claimed_until: null, updated_at: sql<Date>`now()` })
      .where('backup_id', '=', backup_id)
      .where('destination_id', '=', destination_id)
      .execute();
  }
}
