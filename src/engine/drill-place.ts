import type { PgConnection } from './postgres/connection.js';
import { EngineError } from './errors.js';

/** Where a drill restores to: a server of its own, or a database on one that was given for it. */
export interface DrillPlace {
  /** As who the restore enters, in a database to begin from. */
  server: PgConnection;
  /** Name of the database to make. */
  database: string;
  version: string;
  /** What keeps that which a dump may run from us. */
  isolation: DrillIsolation;
  /** Where all of its files are, for a server that is there for this drill alone. */
  folder: string | null;
  /** Roles whose objects and rights can't be restored there. */
  leaveOut: ReadonlySet<string>;
  /** Enters the restored database to make the role that asserts; null where the restoring role asserts itself. */
  superuser: ((database: string) => PgConnection) | null;
  /** Leaves nothing behind. */
  leave(): Promise<void>;
}

export interface DrillIsolation {
  /** The server has a user of its own, who can read none of our files. */
  ownUser: boolean;
  noNetwork: boolean;
  /** The role that restores may do nothing beyond its own database. */
  plainRole: boolean;
}

/** Something that keeps a backup from being tried here, and says nothing about the backup. */
export function impossible(message: string, hint: string, cause?: unknown): EngineError {
  return new EngineError('DRILL_IMPOSSIBLE', message, hint, { cause });
}
