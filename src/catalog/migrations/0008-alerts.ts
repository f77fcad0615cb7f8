import { sql, type Kysely } from 'kysely';

/** What was missing in a backup that the one before it had. */
export const alerts = {
  name: '0008-alerts',
  async up(db: Kysely<unknown>): Promise<void> {
    const statements = [
      sql`CREATE TABLE alerts (
        id text PRIMARY KEY,
        organization_id text NOT NULL REFERENCES organizations(id),
        source_id text NOT NULL REFERENCES sources(id),
        rule text NOT NULL CHECK (rule IN ('table-lost','rows-dropped','size-dropped')),
        base_backup_id text NOT NULL,
        backup_id text NOT NULL,
        detail jsonb NOT NULL,
        raised_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        closed_at timestamptz,
        closed_by text CHECK (closed_by IN ('acknowledged','recovered')),
        note text,
        CHECK ((closed_at IS NULL) = (closed_by IS NULL)))`,
      sql`CREATE UNIQUE INDEX alerts_open ON alerts (source_id, rule) WHERE closed_at IS NULL`,
      sql`CREATE INDEX alerts_by_time ON alerts (organization_id, raised_at DESC, id DESC)`,
    ];
    for (const statement of statements) await statement.execute(db);
  },
};
