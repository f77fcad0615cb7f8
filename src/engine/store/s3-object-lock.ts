import {
  DeleteObjectCommand,
  GetObjectRetentionCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  PutObjectRetentionCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { EngineError } from '../errors.js';
import type { LockProbe } from './artifact-store.js';
import { isMissing, statusOf, nameOf } from './s3-errors.js';
import type { S3Config } from './s3-config.js';

/** For how long the canary is locked, in order: a slow store has let the first lock lapse before it is asked to break it. */
const CANARY_LOCKS_MS = [2_000, 20_000];
/** Stores note times in whole seconds. */
const SECOND_MS = 1_000;

/** Locks of the objects in one bucket, each on the version that is there now. */
export class S3ObjectLock {
  constructor(
    private readonly client: S3Client,
    private readonly config: S3Config,
  ) {}

  /** Until when the object is locked, as the store says; null when it is not, or not there. */
  async lockedUntil(key: string, sent: Sent): Promise<Date | null> {
    const found = await this.head(key, sent);
    return found?.ObjectLockMode ? (found.ObjectLockRetainUntilDate ?? null) : null;
  }

  /**
   * Locks an object and reads the lock back. A longer lock stays as it is. @param where the store, as it is named in errors
   * @throws EngineError OBJECT_MISSING; STORE_FAILED when the store does not show the lock
   */
  async lock(key: string, until: Date, where: string, sent: Sent): Promise<void> {
    const found = await this.head(key, sent);
    if (!found?.VersionId)
      throw new EngineError(
        found ? 'STORE_FAILED' : 'OBJECT_MISSING',
        found
          ? `${where} keeps no versions, and only versions can be locked.`
          : `${key} is not in ${where}, so that it can't be locked.`,
        'Verify the backup; look whether versioning and Object Lock are enabled for the bucket.',
      );
    const place = { Bucket: this.config.bucket, Key: key, VersionId: found.VersionId };
    if (holds(await this.retention(place, sent), until)) return;
    await this.retain(place, this.mode, until, sent);
    if (holds(await this.retention(place, sent), until)) return;
    throw new EngineError(
      'STORE_FAILED',
      `${where} took the lock of ${key} until ${until.toISOString()}, and does not show it.`,
      'Test the destination: the store may say yes to locks and do nothing.',
    );
  }

  /**
   * Tries on a canary whether a locked object can't be removed; takes some seconds where there are locks.
   * @param put writes the canary, over one that is there
   */
  async probe(key: string, put: () => Promise<unknown>, sent: Sent): Promise<LockProbe> {
    const place = { Bucket: this.config.bucket, Key: key };
    await put();
    const first = await this.head(key, sent);
    if (!first?.VersionId || first.ObjectLockMode) {
      await this.client.send(new DeleteObjectCommand(place), sent);
      return first?.VersionId
        ? { holds: true, obstacle: DEFAULT_RETENTION }
        : without('the bucket keeps no versions, so that Object Lock is not enabled for it');
    }
    // What can't be removed without a lock proves nothing with one.
    if (!(await this.canRemove({ ...place, VersionId: first.VersionId }, sent)))
      return without(
        'the credentials may not remove versions (s3:DeleteObjectVersion), and so could not clear away what is locked no more',
      );
    for (const lockMs of CANARY_LOCKS_MS) {
      const startedAt = performance.now();
      await put();
      const found = await this.head(key, sent);
      if (!found?.VersionId) break;
      const version = { ...place, VersionId: found.VersionId };
      // By the store's clock, which may be another than ours.
      const now = () => (found.LastModified?.getTime() ?? Date.now()) + performance.now() - startedAt;
      const until = new Date(Math.ceil((now() + lockMs) / SECOND_MS) * SECOND_MS);
      const refusal = await this.refusalOf(version, until, sent);
      const wasRemoved = await this.canRemove(version, sent);
      // It has lapsed before it was tried: the next lock is a longer one.
      if (wasRemoved && now() >= until.getTime()) continue;
      if (refusal !== null) return without(`the store refuses to lock an object (${nameOf(refusal)})`);
      if (wasRemoved) return without('the store says yes to a lock, and removes the locked object all the same');
      const isShown = holds(await this.retention(version, sent), until);
      await this.removeUnlocked(version, until.getTime() - now(), sent);
      return isShown ? { holds: true, obstacle: null } : without('the store does not show until when an object is locked');
    }
    return without('the store is too slow to tell whether its locks hold');
  }

  private async refusalOf(version: VersionPlace, until: Date, sent: Sent): Promise<unknown> {
    try {
      await this.retain(version, this.mode, until, sent);
      return null;
    } catch (error) {
      const status = statusOf(error) ?? 500;
      if (status >= 500 && status !== 501) throw error;
      return error;
    }
  }

  private async canRemove(version: VersionPlace, sent: Sent): Promise<boolean> {
    try {
      await this.client.send(new DeleteObjectCommand(version), sent);
      return true;
    } catch (error) {
      if (statusOf(error) === 403 || statusOf(error) === 400) return false;
      throw error;
    }
  }

  private get mode(): 'GOVERNANCE' | 'COMPLIANCE' {
    return this.config.objectLock === 'compliance' ? 'COMPLIANCE' : 'GOVERNANCE';
  }

  /** Waits until the lock has lapsed. */
  private async removeUnlocked(version: VersionPlace, lockedForMs: number, sent: Sent): Promise<void> {
    for (const waitMs of [Math.max(0, lockedForMs) + 100, SECOND_MS, 2 * SECOND_MS]) {
      await pause(waitMs, undefined, sent.abortSignal ? { signal: sent.abortSignal } : {});
      if (await this.canRemove(version, sent)) return;
    }
  }

  private head(Key: string, sent: Sent): Promise<HeadObjectCommandOutput | null> {
    return this.client.send(new HeadObjectCommand({ Bucket: this.config.bucket, Key }), sent).catch((error: unknown) => {
      if (isMissing(error)) return null;
      throw error;
    });
  }

  private async retention(place: VersionPlace, sent: Sent): Promise<Date | null> {
    try {
      const { Retention } = await this.client.send(new GetObjectRetentionCommand(place), sent);
      return Retention?.Mode ? (Retention.RetainUntilDate ?? null) : null;
    } catch (error) {
      if (statusOf(error) === 404) return null;
      throw error;
    }
  }

  private async retain(place: VersionPlace, Mode: 'GOVERNANCE' | 'COMPLIANCE', RetainUntilDate: Date, sent: Sent): Promise<void> {
    const command = new PutObjectRetentionCommand({ ...place, Retention: { Mode, RetainUntilDate } });
    // The call needs a checksum of its body. Every store knows this one; not every store the newer ones.
    command.middlewareStack.add(
      (next) => async (args) => {
        const { headers, body } = args.request as { headers: Record<string, string>; body: string | Uint8Array };
        for (const name of Object.keys(headers)) if (/^x-amz-(sdk-)?checksum-/i.test(name)) Reflect.deleteProperty(headers, name);
        headers['content-md5'] = createHash('md5').update(body).digest('base64');
        return next(args);
      },
      { step: 'build', priority: 'low', name: 'md5OfRetention' },
    );
    await this.client.send(command, sent);
  }
}

type Sent = { abortSignal?: AbortSignal };
type VersionPlace = { Bucket: string; Key: string; VersionId: string };

const DEFAULT_RETENTION =
  'the bucket locks every new object by a default retention of its own, and so also what failed attempts leave; take that away, and only whole backups are locked';

function without(obstacle: string): LockProbe {
  return { holds: false, obstacle };
}

function holds(lockedUntil: Date | null, until: Date): boolean {
  // Stores that note whole seconds may cut the rest off.
  return lockedUntil !== null && lockedUntil.getTime() >= until.getTime() - SECOND_MS;
}
