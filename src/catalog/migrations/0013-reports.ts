import { sql, type Kysely } from 'kysely';

/** What reports need of runs whose backup is gone, to whom backups are encrypted, and which days were sampled. */
export const reports = {
  name: '0013-reports',
  async up(db: Kysely<unknown>): Promise<void> {
    const statements = [
      sql`ALTER TABLE backups ADD COLUMN recipients text[]`,
      // A backup that is removed for good takes its restores and verifications along; that they took place must not be forgotten with them.
      sql`CREATE TABLE run_history (
        id text PRIMARY KEY,
        kind text NOT NULL CHECK (kind IN ('backup','restore','verification')),
        organization_id text NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
        source_id text,
        backup_id text NOT NULL,
        status text NOT NULL,
        origin text,
        components text[],
        broken boolean NOT NULL DEFAULT false,
        recipients text[],
        schedule_id text,
        scheduled_for timestamptz,
        requested_by jsonb,
        detail jsonb,
        created_at timestamptz NOT NULL,
        started_at timestamptz,
        finished_at timestamptz,
        deleted_at timestamptz,
        removal_rule text)`,
      sql`CREATE INDEX run_history_by_time ON run_history (organization_id, created_at)`,
      sql`CREATE TABLE sampled_days (
        day date PRIMARY KEY,
        queued int NOT NULL DEFAULT 0,
        sampled_at timestamptz NOT NULL DEFAULT now())`,
    ];
    for (const statement of statements) await statement.execute(db);
  },
};
