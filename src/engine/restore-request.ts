import type { Selection } from './archive/selection.js';
import type { Progress } from './progress.js';
import type { ArchiveSource } from './restore-archive.js';
import type { CountDifference } from './restore-check.js';
import type { RestoreTarget } from './restore-target.js';

export interface RestoreRequest extends ArchiveSource {
  runId: string;
  target: RestoreTarget;
  /** What of the backup; all of it when empty. */
  selection: Selection;
  /** Create roles that the backup knows and the target lacks; with passwords where the backup has them. */
  createRoles: boolean;
  /** Roles whose objects and rights are left out although they may exist. */
  leaveOutRoles?: ReadonlySet<string>;
  /** Entries of the archive, by dump id, that can't be made at the target; none unless given. */
  leaveOutEntries?: ReadonlySet<number>;
  /** The artifacts' stored bytes were read and found to be the manifest's just before; they are not read once more for that. */
  isChecked?: boolean;
  /** Sessions that load tables, and jobs for indexes and constraints, where the mode allows it. */
  jobs: number;
  /** Go on after errors of pg_restore, which become warnings; only for a new database. */
  continueOnErrors?: boolean;
  /** How long a restore into a database that others use waits for a lock, in milliseconds; a minute unless given. */
  lockTimeoutMs?: number;
  /** 1 for the first. */
  attempt: number;
  onProgress: (progress: Progress) => void;
  /** Called before anything is changed at the target; throws when the run is no longer ours. */
  beforeChange: () => Promise<void>;
  /** Called when the new database is whole, just before it gets its name. */
  onFinished: (outcome: RestoreOutcome & { databaseOid: number; previous?: PreviousDatabase }) => Promise<void>;
  /** Called just before the one transaction can commit; what it is told decides, after a crash, whether it did. */
  onCommitting: (transactionId: string) => Promise<void>;
}

/** The database that a swap has put aside. */
export interface PreviousDatabase {
  name: string;
  oid: number;
}

export interface RestoreOutcome {
  countsEqual: boolean;
  differences: CountDifference[];
  /** What could not be brought back as it was, as sentences. */
  warnings: string[];
}
