import { sql, type Kysely } from 'kysely';

/** What was noticed while a backup was made, and did not keep it from being made. */
export const spool = {
  name: '0018-spool',
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`ALTER TABLE backups ADD COLUMN warnings text[] NOT NULL DEFAULT '{}'`.execute(db);
  },
};
