import { randomBytes, randomInt } from 'node:crypto';

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';

function suffix(length: number): string {
  return Array.from({ length }, () => LETTERS[randomInt(LETTERS.length)]).join('');
}

/** `backup_2025-12-22_14-30-00_k7m2qd`: UTC time to the second; the suffix keeps two in one second apart. */
export function newTimedId(prefix: 'backup' | 'restore' | 'verification', now: Date): string {
  const [date = '', time = ''] = now.toISOString().split('T');
  return `${prefix}_${date}_${time.slice(0, 8).replaceAll(':', '-')}_${suffix(6)}`;
}

/** The exact form of a timed id, for one kind. */
export function timedIdPattern(prefix: string): RegExp {
  return new RegExp(`^${prefix}_\\d{4}-\\d{2}-\\d{2}_\\d{2}-\\d{2}-\\d{2}_[a-z0-9]{6}$`);
}

/** A backup's id; those that are reported from outside may lack the suffix. */
export const BACKUP_ID = /^backup_\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}(_[a-z0-9]{6})?$/;

/** A short random id with a prefix that tells its kind, such as `src_…`; 80 random bits. */
export function newId(prefix: string): string {
  return `${prefix}_${randomBytes(10).toString('hex')}`;
}
