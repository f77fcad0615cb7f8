/** Kinds of destinations. */
export const DESTINATION_KINDS = ['local', 's3', 'supabase', 'rclone'] as const;
export type DestinationKind = (typeof DESTINATION_KINDS)[number];

/** Id and name of the destination that always exists: the local folder `DATA_DIR/backups`. */
export const DEFAULT_DESTINATION = 'local';

/** Where a copy of a backup stands: on its way, stored and read back, or not there (it is tried again). */
export const COPY_STATES = ['pending', 'stored', 'failed'] as const;
export type CopyState = (typeof COPY_STATES)[number];
