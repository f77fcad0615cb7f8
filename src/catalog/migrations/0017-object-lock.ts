import { sql, type Kysely } from 'kysely';

/** Until when each copy of a backup is to be locked at its destination, and until when the destination says that it is. */
export const objectLock = {
  name: '0017-object-lock',
  async up(db: Kysely<unknown>): Promise<void> {
    const statements = [
      sql`ALTER TABLE backup_copies ADD COLUMN lock_until timestamptz, ADD COLUMN locked_until timestamptz`,
      sql`CREATE INDEX backup_copies_to_lock ON backup_copies (next_try_at) WHERE lock_until IS NOT NULL AND locked_until IS NULL`,
    ];
    for (const statement of statements) await statement.execute(db);
  },
};
