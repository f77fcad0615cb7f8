import { sql, type Kysely } from 'kysely';

/** Channels by which people are told of events, and each message on its way to them. */
export const notifications = {
  name: '0009-notifications',
  async up(db: Kysely<unknown>): Promise<void> {
    const statements = [
      sql`CREATE TABLE notification_channels (
        id text PRIMARY KEY,
        organization_id text NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
        name text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('email','slack','discord','json','ping')),
        events text[] NOT NULL,
        source_ids text[] NOT NULL DEFAULT '{}',
        min_severity text NOT NULL CHECK (min_severity IN ('info','warning','error')),
        only_changes boolean NOT NULL DEFAULT false,
        enabled boolean NOT NULL DEFAULT true,
        addresses text[] NOT NULL DEFAULT '{}',
        sealed_urls text,
        host text,
        made_by_setting text UNIQUE,
        failing_since timestamptz,
        last_error text,
        last_delivered_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (organization_id, name))`,
      sql`CREATE TABLE notification_deliveries (
        id text PRIMARY KEY,
        position bigint NOT NULL,
        organization_id text NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
        channel_id text NOT NULL REFERENCES notification_channels(id) ON DELETE CASCADE,
        event_id text NOT NULL REFERENCES outbox(id) ON DELETE CASCADE,
        event_type text NOT NULL,
        subject text NOT NULL,
        status text NOT NULL CHECK (status IN ('pending','delivered','failed')),
        error text,
        tries int NOT NULL DEFAULT 0,
        next_attempt_at timestamptz NOT NULL DEFAULT now(),
        claimed_until timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        UNIQUE (channel_id, event_id))`,
      sql`CREATE INDEX notification_deliveries_due ON notification_deliveries (next_attempt_at) WHERE status = 'pending'`,
      sql`CREATE INDEX notification_deliveries_before ON notification_deliveries (channel_id, subject, position) WHERE status = 'pending'`,
      sql`CREATE INDEX notification_deliveries_of_channel ON notification_deliveries (channel_id, position DESC, id DESC)`,
      sql`CREATE INDEX notification_deliveries_of_event ON notification_deliveries (event_id)`,
      sql`CREATE TABLE notification_states (
        channel_id text NOT NULL REFERENCES notification_channels(id) ON DELETE CASCADE,
        about text NOT NULL,
        state text NOT NULL CHECK (state IN ('good','bad')),
        PRIMARY KEY (channel_id, about))`,
    ];
    for (const statement of statements) await statement.execute(db);
  },
};
