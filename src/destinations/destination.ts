/** Kinds of destinations. */
export const DESTINATION_KINDS = ['local', 's3', 'supabase', 'rclone'] as const;
export type DestinationKind = (typeof DESTINATION_KINDS)[number];

/** Form of the folder of a local destination: one name, below DATA_DIR. */
export const LOCAL_FOLDER = /^[a-z0-9][a-z0-9-]{0,62}$/;

/**
 * Whether only the instance's owner may set up destinations of a kind: rclone goes wherever its configuration leads it, and may run what
 * that names, so that who writes it acts as the server.
 */
export function isForOwnerAlone(kind: string): boolean {
  return kind === 'rclone';
}

/**
 * How a bucket locks objects. `governance`: until the date nobody removes them but who holds the right to bypass it, which this server
 * never asks for. `compliance`: nobody at all, not even the account's owner.
 */
export const OBJECT_LOCKS = ['governance', 'compliance'] as const;
export type ObjectLock = (typeof OBJECT_LOCKS)[number];

/** Id and name of the destination that always exists: the local folder `DATA_DIR/backups`. */
export const DEFAULT_DESTINATION = 'local';

/** Where a copy of a backup stands: on its way, stored and read back, or not there (it is tried again). */
export const COPY_STATES = ['pending', 'stored', 'failed'] as const;
export type CopyState = (typeof COPY_STATES)[number];
