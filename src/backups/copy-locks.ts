import { type BeforeApplicationShutdown, Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { sql } from 'kysely';
import { Catalog, json } from '../catalog/catalog.js';
import { CacheService } from '../common/cache/cache.service.js';
import { EventBus } from '../common/events/event-bus.js';
import { Settings } from '../config/settings.js';
import { BackupCopies } from '../destinations/backup-copies.js';
import { Stores } from '../destinations/stores.js';
import { lockBackup } from '../engine/lock-backup.js';
import { toRunError } from '../jobs/run-error.js';

const LOOK_MS = 60_000;
const LONGEST_PAUSE_MS = 3_600_000;
const LONGEST_MS = 600_000;
const PER_ROUND = 100;

interface DueLock {
  backup_id: string;
  destination_id: string;
  destination_name: string;
  organization_id: string;
  prefix: string;
  artifacts: string[];
  lock_until: Date;
  tries: number;
}

/** How many stored copies are to be locked and are not yet. */
export interface LockState {
  waiting: number;
  /** Of these, those where it has failed. */
  failing: number;
  error: string | null;
}

/**
 * Locks the copies of completed backups at destinations that ask for it, as soon as they are completed: nothing is ever locked that is no
 * backup. What can't be locked is tried again, and shows in the copy and in health.
 */
@Injectable()
export class CopyLocks implements OnModuleInit, BeforeApplicationShutdown {
  private readonly logger = new Logger('backup');
  private working: Promise<unknown> = Promise.resolve();
  private readonly stopping = new AbortController();

  constructor(
    private readonly catalog: Catalog,
    private readonly copies: BackupCopies,
    private readonly stores: Stores,
    private readonly settings: Settings,
    private readonly bus: EventBus,
    private readonly cache: CacheService,
  ) {}

  onModuleInit(): void {
    this.bus.on('backup.completed', ({ backupId }) => void this.lock(backupId));
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort(new Error('The server stops.'));
    await this.working;
  }

  @Interval(LOOK_MS)
  async look(): Promise<void> {
    if (this.settings.role !== 'api') await this.lockDue();
  }

  /** Locks the copies of one backup that are to be, now. Two workers that lock the same do no harm. */
  lock(backupId: string): Promise<void> {
    return this.after(() => this.lockAll(sql<boolean>`c.backup_id = ${backupId}`));
  }

  /** Locks every copy whose lock is due. */
  lockDue(now = new Date()): Promise<void> {
    return this.after(async () => {
      await this.forgetUnwanted();
      await this.lockAll(sql<boolean>`(c.next_try_at IS NULL OR c.next_try_at <= ${now})`);
    });
  }

  /** Locks that are not set yet, and that the destination asks for no more. */
  private async forgetUnwanted(): Promise<void> {
    await sql`UPDATE backup_copies c SET lock_until = NULL, error = NULL, next_try_at = NULL FROM destinations d
      WHERE d.id = c.destination_id AND d.config ->> 'objectLock' IS NULL AND c.lock_until IS NOT NULL AND c.locked_until IS NULL
        AND c.state = 'stored'`.execute(this.catalog.db);
  }

  async state(): Promise<LockState> {
    const { rows } = await sql<LockState>`SELECT count(*) AS waiting, count(*) FILTER (WHERE c.error IS NOT NULL) AS failing,
        min(c.error ->> 'message') AS error FROM backup_copies c WHERE c.lock_until > now() AND c.locked_until IS NULL`.execute(
      this.catalog.db,
    );
    return { waiting: Number(rows[0]?.waiting ?? 0), failing: Number(rows[0]?.failing ?? 0), error: rows[0]?.error ?? null };
  }

  /** One after the other, so that a burst of backups does not lock all at once. */
  private after(work: () => Promise<void>): Promise<void> {
    const done = this.working.then(work).catch((error: unknown) => {
      this.logger.error({ event: 'backup.locks-failed', err: error }, 'backup.locks-failed');
    });
    this.working = done;
    return done;
  }

  private async lockAll(which: ReturnType<typeof sql<boolean>>): Promise<void> {
    if (this.stopping.signal.aborted) return;
    const { rows } =
      await sql<DueLock>`SELECT c.backup_id, c.destination_id, d.name AS destination_name, b.organization_id, b.prefix,
        c.lock_until, c.tries, ARRAY(SELECT a.name FROM artifacts a WHERE a.backup_id = b.id ORDER BY a.ordinal) AS artifacts
      FROM backup_copies c JOIN backups b ON b.id = c.backup_id JOIN destinations d ON d.id = c.destination_id
      WHERE c.lock_until > now() AND c.locked_until IS NULL AND d.config ->> 'objectLock' IS NOT NULL AND c.state = 'stored' AND b.status = 'completed'
        AND b.purge_started_at IS NULL AND ${which} ORDER BY c.next_try_at NULLS FIRST LIMIT ${PER_ROUND}`.execute(
        this.catalog.db,
      );
    for (const due of rows) {
      if (this.stopping.signal.aborted) return;
      await this.lockCopy(due);
    }
  }

  private async lockCopy(due: DueLock): Promise<void> {
    const { backup_id: backupId, destination_id: destinationId, lock_until: until } = due;
    try {
      const { store } = await this.stores.of(destinationId);
      const signal = AbortSignal.any([this.stopping.signal, AbortSignal.timeout(LONGEST_MS)]);
      await lockBackup(store, due.prefix, due.artifacts, until, { signal });
      await this.copies.noteLock(backupId, destinationId, until);
      this.logger.log({ event: 'backup.locked', backupId, destination: due.destination_name, until }, 'a copy was locked');
    } catch (error) {
      if (this.stopping.signal.aborted) return;
      const pause = Math.min(LONGEST_PAUSE_MS, LOOK_MS * 2 ** Math.min(due.tries, 10));
      await this.catalog.db
        .updateTable('backup_copies')
        .set({ error: json(toRunError(error)), tries: due.tries + 1, next_try_at: new Date(Date.now() + pause) })
        .where('backup_id', '=', backupId)
        .where('destination_id', '=', destinationId)
        .where('locked_until', 'is', null)
        .execute();
      this.logger.warn(
        { event: 'backup.not-locked', backupId, destination: due.destination_name, err: error },
        'a copy could not be locked',
      );
    } finally {
      await this.cache.invalidate(due.organization_id, ['backups']);
    }
  }
}
