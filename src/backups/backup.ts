import { Errors } from '../common/errors.js';

/** Parts of a backup. */
export const COMPONENTS = ['database', 'storage', 'config'] as const;
export type Component = (typeof COMPONENTS)[number];

export const BACKUP_TYPES = ['full', 'database', 'config'] as const;
export type BackupType = (typeof BACKUP_TYPES)[number];

export const BACKUP_ORIGINS = ['api', 'schedule', 'external', 'safety'] as const;
export type BackupOrigin = (typeof BACKUP_ORIGINS)[number];

/** The components of a type; `full` is every one that the source has. */
export function componentsOf(type: BackupType, sourceKind: string | undefined): readonly Component[] {
  switch (type) {
    case 'full':
      return sourceKind === 'supabase' ? COMPONENTS : ['database', 'config'];
    case 'database':
      return ['database'];
    case 'config':
      return ['config'];
  }
}

/** What others have made can be counted and told of, but nothing of it is here. @throws PRECONDITION_FAILED */
export function refuseExternal({ id, origin }: { id: string; origin: string }): void {
  if (origin !== 'external') return;
  throw Errors.precondition(
    `The backup ${id} was made elsewhere and only reported here: this server holds no artifact of it. Use the tool that made it.`,
  );
}

/** What a report's id is remembered by; no request can send such a key, since it holds a space. */
export function externalKey(id: string): string {
  return `external ${id}`;
}
