import { sql, type Kysely } from 'kysely';

/** What leaves the server: the outbox, the webhook endpoints with their deliveries, and the secrets of inbound hooks. */
export const hooks = {
  name: '0005-hooks',
  async up(db: Kysely<unknown>): Promise<void> {
    const statements = [
      sql`CREATE TABLE outbox (
        id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        organization_id text NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
        type text NOT NULL,
        subject text NOT NULL,
        body text NOT NULL,
        occurred_at timestamptz NOT NULL,
        taken_by text[] NOT NULL DEFAULT '{}',
        done_at timestamptz)`,
      sql`CREATE INDEX outbox_open ON outbox (position) WHERE done_at IS NULL`,
      sql`CREATE INDEX outbox_by_time ON outbox (occurred_at)`,
      sql`CREATE TABLE webhook_endpoints (
        id text PRIMARY KEY,
        organization_id text NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
        url text NOT NULL,
        description text,
        events text[] NOT NULL,
        enabled boolean NOT NULL DEFAULT true,
        disabled_reason text,
        sealed_secret text NOT NULL,
        sealed_previous_secret text,
        previous_secret_until timestamptz,
        sealed_headers text,
        header_names text[] NOT NULL DEFAULT '{}',
        failing_since timestamptz,
        last_delivered_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now())`,
      sql`CREATE INDEX webhook_endpoints_by_organization ON webhook_endpoints (organization_id, created_at)`,
      sql`CREATE TABLE webhook_deliveries (
        id text PRIMARY KEY,
        position bigint NOT NULL,
        organization_id text NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
        endpoint_id text NOT NULL REFERENCES webhook_endpoints(id) ON DELETE CASCADE,
        event_id text NOT NULL REFERENCES outbox(id) ON DELETE CASCADE,
        event_type text NOT NULL,
        subject text NOT NULL,
        status text NOT NULL CHECK (status IN ('pending','delivered','failed')),
        error text,
        attempts jsonb NOT NULL DEFAULT '[]',
        tries int NOT NULL DEFAULT 0,
        next_attempt_at timestamptz,
        claimed_by text,
        claimed_until timestamptz,
        occurred_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        UNIQUE (endpoint_id, event_id))`,
      // Who is next at an endpoint, and who waits for an earlier one of the same subject.
      sql`CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, next_attempt_at, position) WHERE status = 'pending'`,
      sql`CREATE INDEX webhook_deliveries_before ON webhook_deliveries (endpoint_id, subject, position) WHERE status = 'pending'`,
      sql`CREATE INDEX webhook_deliveries_listed ON webhook_deliveries (organization_id, position DESC, id DESC)`,
      sql`CREATE INDEX webhook_deliveries_of_endpoint ON webhook_deliveries (endpoint_id, position DESC, id DESC)`,
      sql`CREATE INDEX webhook_deliveries_of_event ON webhook_deliveries (event_id)`,
      sql`CREATE TABLE inbound_secrets (
        organization_id text PRIMARY KEY REFERENCES organizations(id) ON DELETE CASCADE,
        sealed_secret text NOT NULL,
        sealed_previous_secret text,
        previous_secret_until timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        rotated_at timestamptz)`,
      sql`CREATE TABLE inbound_messages (
        organization_id text NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
        id text NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, id))`,
      sql`CREATE INDEX inbound_messages_by_time ON inbound_messages (received_at)`,
    ];
    for (const statement of statements) await statement.execute(db);
  },
};
