import { Injectable } from '@nestjs/common';
import { type Selectable, sql } from 'kysely';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import type { CatalogTables, RunErrorColumn } from '../catalog/tables.js';
import { backupLockedUntil } from '../engine/lock-backup.js';
import { removeBackupObjects } from '../engine/remove-backup.js';
import { MANIFEST_NAME, objectKey } from '../engine/store/layout.js';
import { DEFAULT_DESTINATION } from './destination.js';
import { type OpenDestination, Stores } from './stores.js';

export type CopyRow = Pick<
  Selectable<CatalogTables['backup_copies']>,
  'destination_id' | 'state' | 'error' | 'lock_until' | 'locked_until'
> & {
  destination_name: string;
};

/** What has to be known of a backup to find its copies. */
export interface StoredBackup {
  id: string;
  prefix: string;
}

const REPAIR_AFTER_MS = 60_000;
const LOCAL_COPY: CopyRow = {
  destination_id: DEFAULT_DESTINATION,
  destination_name: DEFAULT_DESTINATION,
  state: 'stored',
  error: null,
  lock_until: null,
  locked_until: null,
};

/** Where the copies of backups lie, and how each of them stands. */
@Injectable()
export class BackupCopies {
  constructor(
    private readonly catalog: Catalog,
    private readonly stores: Stores,
  ) {}

  /** In the order in which they are read. A backup that was made before there were destinations lies in the local folder. */
  async of(backupId: string, db: Catalog['db'] | Trx = this.catalog.db): Promise<CopyRow[]> {
    const rows = await db
      .selectFrom('backup_copies as c')
      .leftJoin('destinations as d', 'd.id', 'c.destination_id')
      .select(['c.destination_id', 'c.state', 'c.error', 'c.lock_until', 'c.locked_until', 'd.name'])
      .where('c.backup_id', '=', backupId)
      .orderBy('c.ordinal')
      .execute();
    if (rows.length === 0) return [LOCAL_COPY];
    return rows.map(({ name, ...row }) => ({ ...row, destination_name: name ?? row.destination_id }));
  }

  /** Every destination that the backup belongs to, open, whatever its copy's state. */
  async destinationsOf(backupId: string): Promise<OpenDestination[]> {
    return Promise.all((await this.of(backupId)).map(({ destination_id }) => this.stores.of(destination_id)));
  }

  /**
   * The copy to read: the first that is stored and whose manifest answers; when none does, the first stored one, so that
   * reading it says why. @param destination id or name of the copy that is wanted
   */
  async readable(backup: StoredBackup, signal?: AbortSignal): Promise<OpenDestination & { only: boolean }> {
    const copies = await this.of(backup.id);
    // One that is still pending may be there: the server ended between its manifest and the note.
    const stored = copies
      .filter(({ state }) => state !== 'failed')
      .sort((a, b) => Number(b.state === 'stored') - Number(a.state === 'stored'));
    const [first = LOCAL_COPY] = stored.length > 0 ? stored : copies;
    if (stored.length > 1)
      for (const { destination_id } of stored) {
        const open = await this.stores.of(destination_id);
        const found = await open.store.stat(objectKey(backup.prefix, MANIFEST_NAME), { signal }).catch(() => null);
        signal?.throwIfAborted();
        if (found) return { ...open, only: false };
      }
    return { ...(await this.stores.of(first.destination_id)), only: copies.length === 1 };
  }

  /** The destinations that a new backup is to go to. */
  async plan(trx: Trx, backupId: string, destinationIds: readonly string[], quorum: number | null = null): Promise<void> {
    const rows = destinationIds.map((destination_id, ordinal) => ({
      backup_id: backupId,
      ordinal,
      destination_id,
      state: 'pending',
    }));
    await trx.insertInto('backup_copies').values(rows).execute();
    if (quorum !== null) await trx.updateTable('backups').set({ quorum }).where('id', '=', backupId).execute();
  }

  /** How each copy stands once the backup is completed: those that failed are repaired later. */
  async settle(trx: Trx, backupId: string, failures: ReadonlyMap<string, RunErrorColumn>): Promise<void> {
    for (const { destination_id } of await this.of(backupId, trx)) {
      const error = failures.get(destination_id);
      await trx
        .updateTable('backup_copies')
        .set({
          state: error ? 'failed' : 'stored',
          error: error ? json(error) : null,
          next_try_at: error ? new Date(Date.now() + REPAIR_AFTER_MS) : null,
          claimed_until: null,
          updated_at: sql<Date>`now()`,
        })
        .where('backup_id', '=', backupId)
        .where('destination_id', '=', destination_id)
        .execute();
    }
    await this.planLocks(backupId, trx);
  }

  /** Notes until when the stored copies are to be locked, where their destination asks for it: so many days from the end of the backup on. */
  async planLocks(backupId: string, db: Catalog['db'] | Trx = this.catalog.db): Promise<void> {
    const until = sql<Date>`(coalesce(b.finished_at, now()) + make_interval(days => (d.config ->> 'objectLockDays')::int))`;
    await sql`UPDATE backup_copies c SET lock_until = ${until}, next_try_at = NULL, tries = 0 FROM destinations d, backups b
      WHERE c.backup_id = ${backupId} AND b.id = c.backup_id AND d.id = c.destination_id AND d.config ->> 'objectLock' IS NOT NULL
        AND c.state = 'stored' AND c.lock_until IS NULL AND c.locked_until IS NULL AND ${until} > now()`.execute(db);
  }

  /** Until when a backup is locked, or is to be, at any of its destinations; null when nothing keeps it from being removed. */
  async heldUntil(
    backupId: string,
    db: Catalog['db'] | Trx = this.catalog.db,
  ): Promise<{ until: Date; destination: string } | null> {
    const held = (await this.of(backupId, db)).flatMap(({ destination_name: destination, locked_until, lock_until }) => {
      const until = locked_until ?? lock_until;
      return until === null || until.getTime() <= Date.now() ? [] : [{ until, destination }];
    });
    return held.sort((a, b) => b.until.getTime() - a.until.getTime())[0] ?? null;
  }

  /** Asks each destination that answers until when the backup is locked, and notes what the catalog did not know. */
  async noteLocks(backup: StoredBackup): Promise<void> {
    for (const { id, store } of await this.destinationsOf(backup.id)) {
      const found = await backupLockedUntil(store, backup.prefix).catch(() => null);
      if (found && found.getTime() > Date.now()) await this.noteLock(backup.id, id, found);
    }
  }

  /** The destination has said so. */
  async noteLock(backupId: string, destinationId: string, until: Date): Promise<void> {
    await this.catalog.db
      .updateTable('backup_copies')
      .set({ locked_until: until, error: null, next_try_at: null, updated_at: sql<Date>`now()` })
      .where('backup_id', '=', backupId)
      .where('destination_id', '=', destinationId)
      .where('state', '=', 'stored')
      .execute();
  }

  /** A backup that was found at a destination lies there. @param lockedUntil as the destination says */
  async noteFound(trx: Trx, backupId: string, destinationId: string, lockedUntil: Date | null = null): Promise<void> {
    const state = { state: 'stored', error: null, next_try_at: null, locked_until: lockedUntil };
    await trx
      .insertInto('backup_copies')
      .values({
        backup_id: backupId,
        ordinal: sql<number>`(SELECT coalesce(max(ordinal) + 1, 0) FROM backup_copies WHERE backup_id = ${backupId})`,
        destination_id: destinationId,
        ...state,
      })
      .onConflict((conflict) => conflict.columns(['backup_id', 'destination_id']).doUpdateSet(state))
      .execute();
    await this.planLocks(backupId, trx);
  }

  /** Removes everything of a backup at each of its destinations: the manifest first, so that nobody takes the rest for a backup. */
  async remove(backup: StoredBackup): Promise<void> {
    for (const { store } of await this.destinationsOf(backup.id)) {
      await removeBackupObjects(store, backup.prefix);
    }
  }

  /** How many backups have or will have a copy at a destination. */
  async countAt(destinationId: string, trx: Trx): Promise<number> {
    const { count } = await trx
      .selectFrom('backup_copies')
      .select((e) => e.fn.countAll<number>().as('count'))
      .where('destination_id', '=', destinationId)
      .executeTakeFirstOrThrow();
    return Number(count);
  }
}
