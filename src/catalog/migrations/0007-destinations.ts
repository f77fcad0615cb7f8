import { sql, type Kysely } from 'kysely';

/** Where backups go besides the local folder, and where each copy of a backup lies. */
export const destinations = {
  name: '0007-destinations',
  async up(db: Kysely<unknown>): Promise<void> {
    const statements = [
      sql`CREATE TABLE destinations (
        id text PRIMARY KEY,
        organization_id text NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
        name text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('local','s3','supabase','rclone')),
        config jsonb NOT NULL,
        sealed_secrets text,
        is_default boolean NOT NULL DEFAULT false,
        made_by_setting text UNIQUE,
        capabilities jsonb,
        tested_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (organization_id, name))`,
      // Without a row here, a backup lies in the local folder and nowhere else.
      sql`CREATE TABLE backup_copies (
        backup_id text NOT NULL REFERENCES backups(id) ON DELETE CASCADE,
        ordinal int NOT NULL,
        destination_id text NOT NULL,
        state text NOT NULL CHECK (state IN ('pending','stored','failed')),
        error jsonb,
        tries int NOT NULL DEFAULT 0,
        next_try_at timestamptz,
        claimed_until timestamptz,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (backup_id, destination_id))`,
      sql`CREATE INDEX backup_copies_of_destination ON backup_copies (destination_id)`,
      sql`CREATE INDEX backup_copies_to_repair ON backup_copies (next_try_at) WHERE state = 'failed'`,
      sql`ALTER TABLE backups ADD COLUMN quorum int`,
    ];
    for (const statement of statements) await statement.execute(db);
  },
};
