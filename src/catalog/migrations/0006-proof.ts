import { sql, type Kysely } from 'kysely';

/** What restore drills have measured. */
export const proof = {
  name: '0006-proof',
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`ALTER TABLE verifications ADD COLUMN evidence jsonb`.execute(db);
  },
};
