import { sql, type Kysely } from 'kysely';

/** Which backups are kept, and how far the removal of the others has come. */
export const retention = {
  name: '0004-retention',
  async up(db: Kysely<unknown>): Promise<void> {
    const statements = [
      sql`CREATE TABLE retention_policies (
        id text PRIMARY KEY,
        organization_id text NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
        name text NOT NULL,
        keep_last int NOT NULL,
        keep_days int CHECK (keep_days BETWEEN 1 AND 365),
        keep_hourly int NOT NULL,
        keep_daily int NOT NULL,
        keep_weekly int NOT NULL,
        keep_monthly int NOT NULL,
        keep_yearly int NOT NULL,
        max_bytes bigint,
        minimum_count int NOT NULL,
        per_type boolean NOT NULL,
        proof_level int NOT NULL CHECK (proof_level BETWEEN 0 AND 5),
        grace_minutes int NOT NULL,
        timezone text NOT NULL,
        source_ids text[] NOT NULL,
        schedule_ids text[] NOT NULL,
        tags text[] NOT NULL,
        only_named boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (organization_id, name))`,
      sql`ALTER TABLE backups ADD COLUMN removal_rule text, ADD COLUMN removal_policy text, ADD COLUMN brought_back_at timestamptz,
        ADD COLUMN used_until timestamptz, ADD COLUMN purge_attempts int NOT NULL DEFAULT 0, ADD COLUMN purge_error text`,
      sql`CREATE INDEX backups_to_purge ON backups (id) WHERE deleted_at IS NOT NULL`,
      sql`CREATE INDEX restores_by_safety_backup ON restores (safety_backup_id) WHERE safety_backup_id IS NOT NULL`,
    ];
    for (const statement of statements) await statement.execute(db);
  },
};
