import { sql, type Kysely } from 'kysely';

/**
 * People with their memberships and sessions, and the audit trail's chain. The chain is closed by a trigger at the commit: whatever else
 * a transaction locks it has locked by then, so the lock on the organization's head, taken last, can't meet another in a circle.
 */
export const identity = {
  name: '0002-identity',
  async up(db: Kysely<unknown>): Promise<void> {
    const statements = [
      sql`CREATE TABLE backstay.users (
        id text PRIMARY KEY,
        email text,
        name text NOT NULL,
        password_hash text,
        issuer text,
        subject text,
        password_changed_at timestamptz,
        last_login_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (issuer, subject),
        CHECK ((issuer IS NULL) = (subject IS NULL)),
        CHECK (issuer IS NOT NULL OR email IS NOT NULL))`,
      // A token's e-mail address is what an issuer says; it never leads to a local account.
      sql`CREATE UNIQUE INDEX users_email ON backstay.users (email) WHERE issuer IS NULL`,
      sql`CREATE TABLE backstay.members (
        organization_id text NOT NULL REFERENCES backstay.organizations(id) ON DELETE CASCADE,
        user_id text NOT NULL REFERENCES backstay.users(id) ON DELETE CASCADE,
        role text NOT NULL CHECK (role IN ('viewer','operator','admin','owner','auditor')),
        origin text NOT NULL DEFAULT 'owner' CHECK (origin IN ('owner','claim','auto')),
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, user_id))`,
      sql`CREATE INDEX members_by_user ON backstay.members (user_id, created_at)`,
      sql`CREATE TABLE backstay.sessions (
        id text PRIMARY KEY,
        user_id text NOT NULL REFERENCES backstay.users(id) ON DELETE CASCADE,
        token_hash bytea NOT NULL UNIQUE,
        refresh_hash bytea NOT NULL UNIQUE,
        used_refresh_hashes bytea[] NOT NULL DEFAULT '{}',
        token_expires_at timestamptz NOT NULL,
        refresh_expires_at timestamptz NOT NULL,
        ends_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now())`,
      sql`CREATE INDEX sessions_by_user ON backstay.sessions (user_id)`,
      sql`CREATE TABLE backstay.login_failures (
        account bytea PRIMARY KEY,
        failures int NOT NULL,
        blocked_until timestamptz NOT NULL,
        last_at timestamptz NOT NULL DEFAULT now())`,
      sql`ALTER TABLE backstay.api_keys ADD COLUMN created_by jsonb`,
      sql`ALTER TABLE backstay.organizations ADD COLUMN deleted_at timestamptz`,
      ...chain(),
    ];
    for (const statement of statements) await statement.execute(db);
  },
};

function chain() {
  return [
    sql`ALTER TABLE backstay.audit_entries
      ADD COLUMN user_agent text, ADD COLUMN seq bigint, ADD COLUMN previous_hash text, ADD COLUMN hash text`,
    sql`CREATE TABLE backstay.audit_heads (
      organization_id text PRIMARY KEY,
      seq bigint NOT NULL DEFAULT 0,
      hash text NOT NULL DEFAULT '',
      base_seq bigint NOT NULL DEFAULT 0,
      base_hash text NOT NULL DEFAULT '')`,
    sql`CREATE UNIQUE INDEX audit_by_seq ON backstay.audit_entries (organization_id, seq)`,
    sql`CREATE INDEX audit_by_action ON backstay.audit_entries (organization_id, action, seq DESC)`,
    sql`CREATE FUNCTION backstay.audit_text(e backstay.audit_entries) RETURNS text LANGUAGE sql STABLE AS $$
      SELECT jsonb_build_array(e.seq, e.id, e.organization_id, to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        e.actor_kind, e.actor_id, e.actor_name, e.action, e.resource_kind, e.resource_id, e.result, e.address, e.user_agent,
        e.request_id, e.changes)::text $$`,
    sql`CREATE FUNCTION backstay.audit_link(previous text, body text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
      SELECT encode(sha256(convert_to(previous || E'\n' || body, 'UTF8')), 'hex') $$`,
    sql`CREATE FUNCTION backstay.audit_close() RETURNS trigger LANGUAGE plpgsql AS $$
      DECLARE
        head backstay.audit_heads;
        entry backstay.audit_entries;
      BEGIN
        INSERT INTO backstay.audit_heads (organization_id) VALUES (NEW.organization_id) ON CONFLICT DO NOTHING;
        SELECT * INTO head FROM backstay.audit_heads WHERE organization_id = NEW.organization_id FOR UPDATE;
        SELECT * INTO entry FROM backstay.audit_entries WHERE id = NEW.id;
        entry.seq := head.seq + 1;
        entry.previous_hash := head.hash;
        entry.hash := backstay.audit_link(head.hash, backstay.audit_text(entry));
        UPDATE backstay.audit_entries SET seq = entry.seq, previous_hash = entry.previous_hash, hash = entry.hash WHERE id = NEW.id;
        UPDATE backstay.audit_heads SET seq = entry.seq, hash = entry.hash WHERE organization_id = NEW.organization_id;
        RETURN NULL;
      END $$`,
    sql`CREATE FUNCTION backstay.audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF TG_OP = 'UPDATE' AND OLD.hash IS NULL AND NEW.hash IS NOT NULL THEN RETURN NEW; END IF;
        IF TG_OP = 'DELETE' AND current_setting('backstay.audit_retention', true) = 'on' THEN RETURN OLD; END IF;
        RAISE EXCEPTION 'The audit trail is append-only.';
      END $$`,
    // What was written before there was a chain is its beginning.
    sql`DO $$
      DECLARE
        entry backstay.audit_entries;
        head backstay.audit_heads;
      BEGIN
        FOR entry IN SELECT * FROM backstay.audit_entries ORDER BY organization_id, id LOOP
          INSERT INTO backstay.audit_heads (organization_id) VALUES (entry.organization_id) ON CONFLICT DO NOTHING;
          SELECT * INTO head FROM backstay.audit_heads WHERE organization_id = entry.organization_id;
          entry.seq := head.seq + 1;
          entry.previous_hash := head.hash;
          entry.hash := backstay.audit_link(head.hash, backstay.audit_text(entry));
          UPDATE backstay.audit_entries SET seq = entry.seq, previous_hash = entry.previous_hash, hash = entry.hash WHERE id = entry.id;
          UPDATE backstay.audit_heads SET seq = entry.seq, hash = entry.hash WHERE organization_id = entry.organization_id;
        END LOOP;
      END $$`,
    sql`CREATE CONSTRAINT TRIGGER audit_close AFTER INSERT ON backstay.audit_entries
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION backstay.audit_close()`,
    sql`CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE ON backstay.audit_entries
      FOR EACH ROW EXECUTE FUNCTION backstay.audit_guard()`,
    sql`CREATE TRIGGER audit_guard_all BEFORE TRUNCATE ON backstay.audit_entries
      FOR EACH STATEMENT EXECUTE FUNCTION backstay.audit_guard()`,
  ];
}
