import { sql, type Kysely } from 'kysely';

/** Keys besides the server's own, what each backup is opened with, and identities that are lent to a run. */
export const keys = {
  name: '0014-keys',
  async up(db: Kysely<unknown>): Promise<void> {
    const statements = [
      // Without an organization, a key is the whole server's.
      sql`CREATE TABLE keyring (
        id text PRIMARY KEY,
        organization_id text REFERENCES organizations(id) ON DELETE CASCADE,
        kind text NOT NULL CHECK (kind IN ('age','signing')),
        public_key text NOT NULL,
        sealed_private_key text,
        wrapped_private_key text,
        origin text NOT NULL CHECK (origin IN ('made','adopted','passphrase')),
        created_at timestamptz NOT NULL DEFAULT now())`,
      sql`CREATE UNIQUE INDEX keyring_once ON keyring (coalesce(organization_id, ''), public_key)`,
      sql`ALTER TABLE organizations ADD COLUMN recipients text[]`,
      sql`ALTER TABLE backups ADD COLUMN previous_manifest_sha256 text,
        ADD COLUMN adopted_at timestamptz, ADD COLUMN pinned_manifest_sha256 text,
        ADD COLUMN key_scope text NOT NULL DEFAULT 'server' CHECK (key_scope IN ('server','organization'))`,
      sql`CREATE TABLE process_keys (
        worker_id text PRIMARY KEY,
        recipient text NOT NULL,
        seen_at timestamptz NOT NULL DEFAULT now())`,
      // Sealed to keys that exist in the memory of living processes only.
      sql`CREATE TABLE run_identities (
        run_id text PRIMARY KEY,
        sealed text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now())`,
    ];
    for (const statement of statements) await statement.execute(db);
  },
};
