import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from '../../engine/store/local-files.js';
import type { Db } from '../catalog.js';
import { type SnapshotHeader, verifySnapshot, writeSnapshot } from './snapshot-file.js';
import { exportRows } from './snapshot-rows.js';

const KEPT = 3;
const NAME = /^(\d{4}-\d{2}-\d{2}T\d{2})-(\d{2})-(\d{2}\.\d{3}Z)\.snapshot$/;

export interface TakenSnapshot {
  file: string;
  bytes: number;
  durationMs: number;
}

/** The snapshots beside an embedded catalog: the last three. */
export class Snapshots {
  /** Why the newest attempt failed; undefined when it did not. */
  failure: string | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(private readonly folder: string) {}

  /** Names, the newest first. */
  async list(): Promise<string[]> {
    const names = await readdir(this.folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    return names
      .filter((name) => NAME.test(name))
      .sort()
      .toReversed();
  }

  pathOf(name: string): string {
    return join(this.folder, name);
  }

  /** Writes a snapshot, reads it back, and then removes all but the last three; one at a time. @throws when it can't be taken */
  take(db: Db, now = new Date()): Promise<TakenSnapshot> {
    const turn = this.#last.then(() => this.takeNow(db, now));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  private async takeNow(db: Db, now: Date): Promise<TakenSnapshot> {
    const started = performance.now();
    try {
      await mkdir(this.folder, { recursive: true, mode: 0o700 });
      await syncFolder(join(this.folder, '..'));
      const names = await this.list();
      const { header, parts } = await exportRows(db, now);
      const file = this.pathOf(nextName(now, names[0]));
      const bytes = await writeSnapshot(file, header, parts);
      await verifySnapshot(file);
      await this.prune();
      this.failure = undefined;
      return { file, bytes, durationMs: Math.round(performance.now() - started) };
    } catch (error) {
      this.failure = (error as Error).message;
      throw error;
    }
  }

  /** The newest snapshot that is whole, with those that were passed over. */
  async newestGood(): Promise<{ good: { name: string; header: SnapshotHeader } | undefined; refused: string[] }> {
    const refused: string[] = [];
    for (const name of await this.list()) {
      try {
        return { good: { name, header: await verifySnapshot(this.pathOf(name)) }, refused };
      } catch (error) {
        refused.push(`${name}: ${(error as Error).message}`);
      }
    }
    return { good: undefined, refused };
  }

  private async prune(): Promise<void> {
    const kept = new Set((await this.list()).slice(0, KEPT));
    for (const name of await readdir(this.folder)) if (!kept.has(name)) await rm(this.pathOf(name), { recursive: true });
  }
}

/** By time; later than the newest even when the clock was set back. */
export function nextName(now: Date, newest: string | undefined): string {
  const last = newest === undefined ? 0 : Date.parse(newest.replace(NAME, '$1:$2:$3'));
  return `${new Date(Math.max(now.getTime(), last + 1)).toISOString().replaceAll(':', '-')}.snapshot`;
}
