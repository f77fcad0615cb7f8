import { sql, type Kysely } from 'kysely';

/** On whose behalf a key acts: the person who made it, or who made the key that made it. */
export const keyOwners = {
  name: '0011-key-owners',
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`ALTER TABLE backstay.api_keys ADD COLUMN owner_user_id text`.execute(db);
    await sql`WITH RECURSIVE made AS (
        SELECT id, created_by->>'id' AS owner FROM backstay.api_keys WHERE created_by->>'kind' = 'user'
        UNION ALL
        SELECT k.id, m.owner FROM backstay.api_keys k JOIN made m ON k.created_by->>'kind' = 'api-key' AND k.created_by->>'id' = m.id
      )
      UPDATE backstay.api_keys k SET owner_user_id = u.id FROM made m JOIN backstay.users u ON u.id = m.owner WHERE m.id = k.id`.execute(
      db,
    );
  },
};
