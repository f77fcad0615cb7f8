/** Parts of a backup. */
export const COMPONENTS = ['database', 'config'] as const;
export type Component = (typeof COMPONENTS)[number];

export const BACKUP_TYPES = ['full', 'database', 'config'] as const;
export type BackupType = (typeof BACKUP_TYPES)[number];

export const BACKUP_ORIGINS = ['api', 'schedule', 'external', 'safety'] as const;
export type BackupOrigin = (typeof BACKUP_ORIGINS)[number];

/** The components of each type; `full` is every one that a PostgreSQL source has. */
export const COMPONENTS_OF_TYPE: Readonly<Record<BackupType, readonly Component[]>> = {
  full: COMPONENTS,
  database: ['database'],
  config: ['config'],
};
