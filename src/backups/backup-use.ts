import { sql } from 'kysely';

/** A restore or verification needs the backup `b`, or a swap to it can still be taken back. */
export const NEEDED = sql<boolean>`(
  EXISTS (SELECT FROM restores r WHERE r.backup_id = b.id AND (r.status IN ('queued','running') OR r.previous_database IS NOT NULL))
  OR EXISTS (SELECT FROM restores r WHERE r.safety_backup_id = b.id AND r.status IN ('queued','running'))
  OR EXISTS (SELECT FROM verifications v WHERE v.backup_id = b.id AND v.status IN ('queued','running'))
  OR EXISTS (SELECT FROM backup_copies c WHERE c.backup_id = b.id AND c.claimed_until > now()))`;

/** Until when the backup `b` is locked at one of its destinations, or is to be; null when it is not. */
export const LOCKED_UNTIL = sql<Date | null>`(SELECT max(coalesce(c.locked_until, c.lock_until)) FROM backup_copies c
  WHERE c.backup_id = b.id)`;

/** Its objects may not be removed: something needs it, or a compare reads it just now. */
export const IN_USE = sql<boolean>`(coalesce(b.used_until > now(), false) OR ${NEEDED})`;
