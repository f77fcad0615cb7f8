import { sql, type Kysely } from 'kysely';

/** Supabase projects as sources: how their Storage is reached, and what a backup holds of it. */
export const storage = {
  name: '0015-storage',
  async up(db: Kysely<unknown>): Promise<void> {
    const statements = [
      sql`ALTER TABLE sources ADD COLUMN supabase_url text, ADD COLUMN sealed_service_role_key text`,
      sql`ALTER TABLE backups ADD COLUMN storage jsonb`,
    ];
    for (const statement of statements) await statement.execute(db);
  },
};
