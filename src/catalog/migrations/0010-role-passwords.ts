import { sql, type Kysely } from 'kysely';

/** Whether a backup was to take the passwords of roles along; not known of those that are adopted. */
export const rolePasswords = {
  name: '0010-role-passwords',
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`ALTER TABLE backups ADD COLUMN include_passwords boolean DEFAULT false`.execute(db);
    await sql`ALTER TABLE backups ALTER COLUMN include_passwords DROP DEFAULT`.execute(db);
  },
};
