import type { Readable } from 'node:stream';
import { EngineError } from '../errors.js';

/** One stored object, as a listing or a stat shows it. */
export interface StoredObject {
  key: string;
  bytes: number;
  modifiedAt: Date;
}

export interface Abortable {
  /** When it aborts, the call rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface WriteOptions extends Abortable {
  /** A lower bound of the object's size. A driver that knows its free space refuses at once where it can't fit. */
  expectedBytes?: number;
  /** Replace an existing object, atomically. Without it a write to an existing key is refused with OBJECT_EXISTS. */
  overwrite?: boolean;
}

export interface ReadOptions extends Abortable {
  /** First byte wanted, counted from 0. */
  start?: number;
  /** Last byte wanted, itself included, as in an HTTP range. */
  end?: number;
}

/** What was found of a store's locks. */
export interface LockProbe {
  /** Whether a locked object was really kept from being removed. */
  holds: boolean;
  /** Why backups can't be locked there, as a part of a sentence; null when they can. */
  obstacle: string | null;
}

/**
 * Where artifacts go. Keys are '/'-separated relative paths (see `assertKey`); the same key means the same object for every
 * driver. Failures are EngineErrors: DISK_FULL, STORE_FAILED, OBJECT_MISSING, OBJECT_EXISTS.
 */
export abstract class ArtifactStore {
  /** Bytes of the largest object that it is given; what is larger goes there as several (`writeSegments`). */
  get mostObjectBytes(): number {
    return Infinity;
  }

  /**
   * Stores `body` under `key`. Resolves only when the object is durable and visible as a whole. On a failure or an abort
   * nothing is left, neither under the key nor under a temporary name. An error of the body itself is thrown as it is.
   * The body is always consumed or destroyed.
   */
  abstract write(
    key: string,
    body: Readable | AsyncIterable<Buffer> | Iterable<Buffer>,
    options?: WriteOptions,
  ): Promise<{ bytes: number }>;

  /** Opens an object, or a range of it. A range past the end gives the bytes there are. @throws EngineError OBJECT_MISSING */
  abstract read(key: string, options?: ReadOptions): Promise<Readable>;

  /** Size and time of an object, or null when there is none. */
  abstract stat(key: string, options?: Abortable): Promise<{ bytes: number; modifiedAt: Date } | null>;

  /** Every object below the folder `prefix` ('' for all), at any depth, in no particular order, in bounded memory. */
  abstract list(prefix: string, options?: Abortable): AsyncIterable<StoredObject>;

  /**
   * Gives an object another key. Durable; never overwrites (OBJECT_EXISTS). A crash in the middle leaves the object under
   * one key or both, never under none, and the same call then completes it.
   */
  abstract rename(from: string, to: string, options?: Abortable): Promise<void>;

  /** Removes an object; a missing one is fine. */
  abstract remove(key: string, options?: Abortable): Promise<void>;

  /** Removes everything below the folder `prefix`, which must not be empty; a missing one is fine. */
  abstract removeTree(prefix: string, options?: Abortable): Promise<void>;

  /** Removes what crashed writes left below `prefix` and has not changed for that long. Returns how many were removed. */
  abstract removeStaleTemporaries(olderThanMs: number, prefix?: string, options?: Abortable): Promise<number>;

  /** Bytes that can still be stored, or null where the driver can't know. */
  abstract freeBytes(options?: Abortable): Promise<number | null>;

  /** Writes, reads back and removes a small object, so that missing rights show before a backup needs them. */
  abstract check(options?: Abortable): Promise<void>;

  /** Whether the store itself refuses a write to a key that is taken, when nobody has looked before. @param takenKey one that is */
  async refusesTakenKeys(takenKey: string, signal?: AbortSignal): Promise<boolean> {
    return this.write(takenKey, [Buffer.from('other')], { signal }).then(
      () => false,
      (error: unknown) => {
        if (error instanceof EngineError && error.code === 'OBJECT_EXISTS') return true;
        throw error;
      },
    );
  }

  /** Tries on a canary whether objects can be locked until a date. @param canaryKey one that is free */
  async probeLock(_canaryKey: string, _options?: Abortable): Promise<LockProbe> {
    return { holds: false, obstacle: 'destinations of this kind have no object lock' };
  }

  /**
   * Locks an object: until then the store itself refuses to remove or replace it. A longer lock stays.
   * @throws EngineError STORE_FAILED where the store does not show the lock afterwards; OBJECT_MISSING
   */
  async lock(key: string, _until: Date, _options?: Abortable): Promise<void> {
    throw new EngineError(
      'STORE_FAILED',
      `${key} can't be locked: destinations of this kind have no object lock.`,
      'Use a bucket.',
    );
  }

  /** Until when the store says that an object is locked; null when it is not, or there are no locks. */
  async lockedUntil(_key: string, _options?: Abortable): Promise<Date | null> {
    return null;
  }
}
