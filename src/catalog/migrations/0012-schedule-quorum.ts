import { sql, type Kysely } from 'kysely';

/** How many of its destinations must hold a schedule's backup for it to be completed; null for all of them. */
export const scheduleQuorum = {
  name: '0012-schedule-quorum',
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`ALTER TABLE backstay.schedules ADD COLUMN quorum int CHECK (quorum BETWEEN 1 AND 20)`.execute(db);
  },
};
