import type { ColumnType, Generated } from 'kysely';

/** The catalog's tables, schema `backstay`. Columns are snake_case; times are timestamptz. */
export interface CatalogTables {
  installation: InstallationTable;
  organizations: OrganizationsTable;
  api_keys: ApiKeysTable;
  server_keys: ServerKeysTable;
  sources: SourcesTable;
  backups: BackupsTable;
  artifacts: ArtifactsTable;
  backup_tables: BackupTablesTable;
  restores: RestoresTable;
  verifications: VerificationsTable;
  attempts: AttemptsTable;
  audit_entries: AuditEntriesTable;
  audit_heads: AuditHeadsTable;
  users: UsersTable;
  members: MembersTable;
  sessions: SessionsTable;
  login_failures: LoginFailuresTable;
  alerts: AlertsTable;
  schedules: SchedulesTable;
  schedule_runs: ScheduleRunsTable;
  notification_channels: NotificationChannelsTable;
  notification_deliveries: NotificationDeliveriesTable;
  notification_states: NotificationStatesTable;
  migrations: MigrationsTable;
  outbox: OutboxTable;
  webhook_endpoints: WebhookEndpointsTable;
  webhook_deliveries: WebhookDeliveriesTable;
  inbound_secrets: InboundSecretsTable;
  inbound_messages: InboundMessagesTable;
  retention_policies: RetentionPoliciesTable;
  destinations: DestinationsTable;
  backup_copies: BackupCopiesTable;
  run_history: RunHistoryTable;
  sampled_days: SampledDaysTable;
  keyring: KeyringTable;
  process_keys: ProcessKeysTable;
  run_identities: RunIdentitiesTable;
}

/** A jsonb column: objects come out, text of JSON goes in. */
type JsonColumn<T> = ColumnType<T, string | null | undefined, string | null>;
type NullableTimestamp = ColumnType<Date | null, Date | string | null | undefined, Date | string | null>;

interface MigrationsTable {
  name: string;
  applied_at: Generated<Date>;
}

interface InstallationTable {
  id: string;
  created_at: Generated<Date>;
  /** When an operator said that the decryption key is kept elsewhere too. */
  keys_saved_at: NullableTimestamp;
  /** When the default schedules were made; never again after that. */
  schedules_made_at: NullableTimestamp;
}

interface OrganizationsTable {
  id: string;
  name: string;
  /** Age public keys that its backups are encrypted to; null for the server's. */
  recipients: Generated<string[] | null>;
  created_at: Generated<Date>;
  deleted_at: NullableTimestamp;
}

interface ApiKeysTable {
  id: string;
  organization_id: string;
  name: string;
  /** SHA-256 of the whole key: it has 256 random bits, so a slow hash would add nothing. */
  key_hash: Buffer;
  permissions: string[];
  /** The bootstrap key: owner of the instance. */
  is_bootstrap: Generated<boolean>;
  expires_at: NullableTimestamp;
  last_used_at: NullableTimestamp;
  revoked_at: NullableTimestamp;
  /** Who made it, as an actor. */
  created_by: JsonColumn<object | null>;
  /** The person on whose behalf it acts, also through keys that made keys: it can do no more than they can. */
  owner_user_id: string | null;
  created_at: Generated<Date>;
}

interface ServerKeysTable {
  /** `age` or `signing`. */
  kind: string;
  public_key: string;
  /** Encrypted by `SECRET_KEY`. */
  sealed_private_key: string;
  created_at: Generated<Date>;
}

interface SourcesTable {
  id: string;
  organization_id: string;
  name: string;
  kind: string;
  host: string;
  port: number;
  database: string;
  username: string;
  /** The password, encrypted; null when there is none. */
  sealed_password: string | null;
  tls: JsonColumn<{ mode: string; ca?: string }>;
  options: JsonColumn<SourceOptions>;
  server_version: string | null;
  /** The URL of a Supabase project; null for other kinds. */
  supabase_url: string | null;
  /** Its service role key, encrypted. */
  sealed_service_role_key: string | null;
  created_at: Generated<Date>;
  updated_at: Generated<Date>;
  deleted_at: NullableTimestamp;
}

export interface SourceOptions {
  /** Age public keys that its backups are encrypted to, instead of the organization's. */
  recipients?: string[];
  configPaths: string[];
  excludeSchemas: string[];
  excludeTables: string[];
  lockTimeoutMs: number;
  statementTimeoutMs: number;
  maxRunMs: number;
  /** Whether its backups wait on a disk of the server for slow destinations. */
  spool?: boolean;
  /** Exact names of buckets to leave out; for Supabase projects. */
  excludeBuckets?: string[];
  /** What it wants to be told of; the usual limits where it doesn't say. */
  alerts?: { tableLost?: boolean; rowsDroppedPercent?: number | null; sizeDroppedPercent?: number | null };
  /** What it promises: the longest time between backups, and the longest restore, in minutes. */
  targets?: { rpoMinutes?: number | null; rtoMinutes?: number | null };
  /** What must hold in it when it is restored. */
  assertions?: { name: string; query: string; expectation: string | number | boolean | null; timeoutSeconds: number }[];
}

/** What every kind of run has in common. */
export interface RunColumns {
  id: string;
  organization_id: string;
  status: string;
  /** How often the run was begun; also the fence: only the holder of the newest attempt may commit. */
  attempt: Generated<number>;
  worker_id: string | null;
  heartbeat_at: NullableTimestamp;
  cancel_requested_at: NullableTimestamp;
  progress: JsonColumn<object | null>;
  error: JsonColumn<RunErrorColumn | null>;
  /** Who asked for it: id, kind and name of the actor. */
  requested_by: JsonColumn<object | null>;
  created_at: Generated<Date>;
  started_at: NullableTimestamp;
  finished_at: NullableTimestamp;
}

export interface RunErrorColumn {
  code: string;
  message: string;
  hint: string;
}

interface BackupsTable extends RunColumns {
  source_id: string | null;
  source_name: string | null;
  type: string;
  origin: string;
  components: string[];
  compress: boolean;
  /** null where it is not known, as of adopted backups. */
  include_passwords: ColumnType<boolean | null, boolean | null | undefined, boolean | null>;
  /** What was noticed while it was made, and did not keep it from being made. */
  warnings: Generated<string[]>;
  label: string | null;
  tags: string[];
  pinned: Generated<boolean>;
  idempotency_key: string | null;
  /** Hash of the request that the idempotency key came with. */
  request_hash: string | null;
  stored_bytes: Generated<number>;
  plain_bytes: Generated<number>;
  table_count: Generated<number>;
  row_count: Generated<number>;
  proof_level: number | null;
  proven_at: NullableTimestamp;
  broken: Generated<boolean>;
  broken_cause: string | null;
  server_version: string | null;
  omissions: JsonColumn<object[] | null>;
  large_objects: JsonColumn<object | null>;
  /** What the component `storage` holds. */
  storage: JsonColumn<{ buckets: number; objects: number; bytes: number } | null>;
  /** The schedule that made it, which may be gone by now. */
  schedule_id: string | null;
  schedule_name: string | null;
  /** The time slot it was made for; null when it was started by hand. */
  scheduled_for: NullableTimestamp;
  /** Key of the folder at the destination, from its root. */
  prefix: string;
  /** SHA-256 of the exact bytes of the manifest, known before the manifest is written. */
  manifest_sha256: string | null;
  /** When it was moved to the trash. */
  deleted_at: NullableTimestamp;
  /** When removal of its objects began; it can't be brought back after that. */
  purge_started_at: NullableTimestamp;
  /** By what rule of which policy retention moved it there; null when a person did. */
  removal_rule: string | null;
  removal_policy: string | null;
  /** When somebody took it out of the trash. */
  brought_back_at: NullableTimestamp;
  /** Somebody reads its objects until then, at the latest. */
  used_until: NullableTimestamp;
  /** How often the removal of its objects did not come to its end, and why the last time. */
  purge_attempts: Generated<number>;
  purge_error: string | null;
  /** SHA-256 of the source's manifest before this one's, as this one's says. */
  previous_manifest_sha256: Generated<string | null>;
  /** When it was taken in from a destination. */
  adopted_at: Generated<Date | null>;
  /** The manifest that somebody said to trust although its signing key is lost. */
  pinned_manifest_sha256: Generated<string | null>;
  /** Whose keys open it: one that only an organization's own key vouches for is never opened with the server's. */
  key_scope: Generated<string>;
  /** How many destinations must hold it for it to be completed; null for all of them. */
  quorum: number | null;
  /** The age public keys that it is encrypted to; null for those made before this was noted. */
  recipients: string[] | null;
}

interface ArtifactsTable {
  backup_id: string;
  ordinal: number;
  component: string;
  name: string;
  stored_bytes: number;
  stored_sha256: string;
  plain_bytes: number;
  plain_sha256: string;
}

interface BackupTablesTable {
  backup_id: string;
  ordinal: number;
  schema_name: string;
  table_name: string;
  row_count: number;
  byte_count: number;
  sha256: string;
}

interface RestoresTable extends RunColumns {
  backup_id: string;
  target: JsonColumn<RestoreTargetColumn>;
  /** The target's URL, encrypted, as it may hold a password. */
  sealed_target_url: string | null;
  components: string[];
  counts_equal: boolean | null;
  differences: JsonColumn<object[] | null>;
  warnings: JsonColumn<string[] | null>;
  /** OID of the finished database, noted just before it gets its name. */
  finished_oid: number | null;
  /** Full id of the transaction that holds the whole restore, noted just before it could commit. */
  transaction_id: string | null;
  /** The backup that an in-place restore made first. */
  safety_backup_id: string | null;
  /** What a swap put aside, or what a revert did: dropped when its time is over, if it is still that database. */
  previous_database: string | null;
  previous_oid: number | null;
  previous_until: NullableTimestamp;
  reverted_at: NullableTimestamp;
}

export interface RestoreTargetColumn {
  mode: 'new-database' | 'url' | 'swap' | 'in-place' | 'side-schema';
  /** The new schema; for mode side-schema. */
  schema?: string;
  host: string;
  port: number;
  database: string;
  jobs: number;
  createRoles: boolean;
  continueOnErrors?: boolean;
  keepPreviousHours: number;
  selection: { schemas?: string[]; tables?: { schema: string; name: string }[]; schemaOnly?: boolean; dataOnly?: boolean };
}

interface VerificationsTable extends RunColumns {
  backup_id: string;
  requested_level: number;
  proven_level: number | null;
  checks: JsonColumn<object[] | null>;
  /** What a restore drill has measured; null when there was none. */
  evidence: JsonColumn<object | null>;
}

interface AttemptsTable {
  run_kind: string;
  run_id: string;
  attempt: number;
  worker_id: string;
  started_at: Generated<Date>;
  finished_at: NullableTimestamp;
  outcome: string | null;
  error: JsonColumn<RunErrorColumn | null>;
}

interface AuditEntriesTable {
  id: Generated<string>;
  organization_id: string;
  at: Generated<Date>;
  actor_kind: string;
  actor_id: string;
  actor_name: string;
  action: string;
  resource_kind: string;
  resource_id: string;
  result: string;
  address: string | null;
  request_id: string | null;
  changes: JsonColumn<object | null>;
  user_agent: string | null;
  /** Place in the organization's chain, from 1; the three are filled in by the database when the entry commits. */
  seq: ColumnType<number | null, never, never>;
  previous_hash: ColumnType<string | null, never, never>;
  hash: ColumnType<string | null, never, never>;
}

/** The end of each organization's chain, and what retention has cut off before its beginning. */
interface AuditHeadsTable {
  organization_id: string;
  seq: Generated<number>;
  hash: Generated<string>;
  base_seq: Generated<number>;
  base_hash: Generated<string>;
}

interface UsersTable {
  id: string;
  /** Lower-cased. */
  email: string | null;
  name: string;
  /** argon2id; null for those of an issuer. */
  password_hash: string | null;
  issuer: string | null;
  subject: string | null;
  password_changed_at: NullableTimestamp;
  last_login_at: NullableTimestamp;
  created_at: Generated<Date>;
}

interface MembersTable {
  organization_id: string;
  user_id: string;
  role: 'viewer' | 'operator' | 'admin' | 'owner' | 'auditor';
  /** Who put them there: an owner, a claim of their token, or the issuer's `autoJoinRole`. */
  origin: Generated<'owner' | 'claim' | 'auto'>;
  created_at: Generated<Date>;
}

interface SessionsTable {
  id: string;
  user_id: string;
  /** SHA-256 of the tokens: they have 256 random bits. */
  token_hash: Buffer;
  refresh_hash: Buffer;
  /** Refresh tokens that were used up; whoever shows one again has stolen it, or was stolen from. */
  used_refresh_hashes: Generated<Buffer[]>;
  token_expires_at: ColumnType<Date, Date, Date>;
  refresh_expires_at: ColumnType<Date, Date, Date>;
  /** However often it is refreshed, it ends here. */
  ends_at: ColumnType<Date, Date, Date>;
  created_at: Generated<Date>;
}

interface LoginFailuresTable {
  /** SHA-256 of the e-mail address, whether there is such an account or not. */
  account: Buffer;
  failures: number;
  blocked_until: ColumnType<Date, Date, Date>;
  last_at: Generated<Date>;
}

interface AlertsTable {
  id: string;
  organization_id: string;
  source_id: string;
  rule: string;
  /** The backup that had what is missing. */
  base_backup_id: string;
  /** The newest backup that lacks it. */
  backup_id: string;
  detail: JsonColumn<AlertDetail>;
  raised_at: Generated<Date>;
  updated_at: Generated<Date>;
  closed_at: NullableTimestamp;
  closed_by: string | null;
  note: string | null;
}

export interface AlertDetail {
  message: string;
  before: number;
  after: number;
  tables: string[];
}

interface OutboxTable {
  /** Constant over all deliveries of the event. */
  id: string;
  position: Generated<number>;
  organization_id: string;
  type: string;
  /** What the event is about; events of one subject are delivered in their order. */
  subject: string;
  /** The exact text that goes out. */
  body: string;
  occurred_at: Date;
  /** The consumers that have taken it. */
  taken_by: Generated<string[]>;
  /** When the last of them did. */
  done_at: NullableTimestamp;
}

interface WebhookEndpointsTable {
  id: string;
  organization_id: string;
  url: string;
  description: string | null;
  /** Names of events, or patterns such as `backup.*`. */
  events: string[];
  enabled: Generated<boolean>;
  /** Why the server disabled it; null when a person did. */
  disabled_reason: string | null;
  sealed_secret: string;
  /** The secret before the last rotation, which signs too until its time is over. */
  sealed_previous_secret: string | null;
  previous_secret_until: NullableTimestamp;
  /** Headers of the owner's own, as sealed JSON. */
  sealed_headers: string | null;
  header_names: Generated<string[]>;
  /** Since when nothing has been delivered; null when the last delivery went well. */
  failing_since: NullableTimestamp;
  last_delivered_at: NullableTimestamp;
  created_at: Generated<Date>;
  updated_at: Generated<Date>;
}

interface WebhookDeliveriesTable {
  id: string;
  /** Of the event in the outbox. */
  position: number;
  organization_id: string;
  endpoint_id: string;
  event_id: string;
  event_type: string;
  subject: string;
  status: string;
  /** Why it has failed for good. */
  error: string | null;
  attempts: JsonColumn<WebhookAttempt[]>;
  /** Attempts since it was last queued: the place in the retry plan. */
  tries: Generated<number>;
  next_attempt_at: NullableTimestamp;
  claimed_by: string | null;
  claimed_until: NullableTimestamp;
  occurred_at: Date;
  created_at: Generated<Date>;
  finished_at: NullableTimestamp;
}

export interface WebhookAttempt {
  at: string;
  /** HTTP status; null when there was no answer. */
  status: number | null;
  durationMs: number;
  /** The first kilobyte of the answer. */
  response: string | null;
  /** Why it does not count as delivered. */
  error: string | null;
}

interface InboundSecretsTable {
  organization_id: string;
  sealed_secret: string;
  sealed_previous_secret: string | null;
  previous_secret_until: NullableTimestamp;
  created_at: Generated<Date>;
  rotated_at: NullableTimestamp;
}

/** Messages that were taken in, so that none is taken twice. */
interface InboundMessagesTable {
  organization_id: string;
  id: string;
  received_at: Generated<Date>;
}

interface NotificationChannelsTable {
  id: string;
  organization_id: string;
  name: string;
  kind: string;
  /** Names of events, or patterns with a star. */
  events: string[];
  /** Of the sources whose events are told; empty stands for all. */
  source_ids: string[];
  min_severity: string;
  /** Tell only when what was well no longer is, and when it is again. */
  only_changes: Generated<boolean>;
  enabled: Generated<boolean>;
  /** Of mail. */
  addresses: string[];
  /** Where it posts to, encrypted: such URLs are secrets. */
  sealed_urls: string | null;
  /** The host of the URL, to tell channels apart. */
  host: string | null;
  /** Name of the setting that made it, and knows where it leads. */
  made_by_setting: string | null;
  failing_since: NullableTimestamp;
  last_error: string | null;
  last_delivered_at: NullableTimestamp;
  created_at: Generated<Date>;
  updated_at: Generated<Date>;
}

interface NotificationDeliveriesTable {
  id: string;
  /** The event's place in the outbox. */
  position: number;
  organization_id: string;
  channel_id: string;
  event_id: string;
  event_type: string;
  subject: string;
  status: string;
  error: string | null;
  tries: Generated<number>;
  next_attempt_at: Generated<Date>;
  claimed_until: NullableTimestamp;
  created_at: Generated<Date>;
  finished_at: NullableTimestamp;
}

interface NotificationStatesTable {
  channel_id: string;
  /** What all is well with, or not: such as backup:<source id>. */
  about: string;
  state: string;
}

interface SchedulesTable {
  id: string;
  organization_id: string;
  name: string;
  /** Null for status checks of every source. */
  source_id: string | null;
  action: string;
  type: string;
  compress: boolean;
  label: string | null;
  tags: string[];
  destinations: string[];
  /** How many of the destinations must hold a backup for it to be completed; null for all of them. */
  quorum: number | null;
  cron: string;
  timezone: string;
  enabled: boolean;
  jitter_seconds: number;
  missed_runs: string;
  overlap: string;
  verify_level: number;
  /** Name or id of a retention policy. */
  retention_policy: string | null;
  max_attempts: number;
  retry_delay_seconds: number;
  /** The next time by the cron expression; null when there is none. */
  next_slot: NullableTimestamp;
  /** When that slot begins: jitter is added. */
  due_at: NullableTimestamp;
  last_run_at: NullableTimestamp;
  last_status: string | null;
  run_count: Generated<number>;
  failure_count: Generated<number>;
  missed_count: Generated<number>;
  skipped_count: Generated<number>;
  created_at: Generated<Date>;
  updated_at: Generated<Date>;
}

interface ScheduleRunsTable {
  id: string;
  schedule_id: string;
  /** The time slot; null for one that was started by hand. */
  slot: NullableTimestamp;
  trigger: string;
  attempt: Generated<number>;
  status: string;
  /** When a waiting retry begins. */
  due_at: NullableTimestamp;
  backup_id: string | null;
  /** Slots before this one that nobody ran. */
  missed: Generated<number>;
  note: string | null;
  created_at: Generated<Date>;
  finished_at: NullableTimestamp;
}

interface RetentionPoliciesTable {
  id: string;
  organization_id: string;
  name: string;
  keep_last: number;
  keep_days: number | null;
  keep_hourly: number;
  keep_daily: number;
  keep_weekly: number;
  keep_monthly: number;
  keep_yearly: number;
  max_bytes: number | null;
  minimum_count: number;
  per_type: boolean;
  proof_level: number;
  grace_minutes: number;
  timezone: string;
  source_ids: string[];
  schedule_ids: string[];
  tags: string[];
  /** A schedule has named it once while it was bound to nothing: it never grows to be about everything again. */
  only_named: Generated<boolean>;
  created_at: Generated<Date>;
  updated_at: Generated<Date>;
}
interface DestinationsTable {
  id: string;
  organization_id: string;
  name: string;
  /** `local`, `s3`, `supabase` or `rclone`. */
  kind: string;
  /** Everything that is no secret. */
  config: JsonColumn<Record<string, string | number | boolean | null>>;
  sealed_secrets: string | null;
  /** Whether backups that name no destination go there. */
  is_default: Generated<boolean>;
  /** The setting that made it, such as `S3_BUCKET`. */
  made_by_setting: string | null;
  /** What the last test found. */
  capabilities: JsonColumn<object | null>;
  tested_at: NullableTimestamp;
  created_at: Generated<Date>;
  updated_at: Generated<Date>;
}

/** One copy of a backup; a backup without any lies in the local folder. */
interface BackupCopiesTable {
  backup_id: string;
  ordinal: number;
  destination_id: string;
  state: string;
  error: JsonColumn<RunErrorColumn | null>;
  tries: Generated<number>;
  next_try_at: NullableTimestamp;
  claimed_until: NullableTimestamp;
  updated_at: Generated<Date>;
  /** Until when it is to be locked. */
  lock_until: NullableTimestamp;
  /** Until when the destination has said that it is. */
  locked_until: NullableTimestamp;
}

/** Runs whose backup was removed for good, as reports need them. */
interface RunHistoryTable {
  id: string;
  kind: string;
  organization_id: string;
  source_id: string | null;
  backup_id: string;
  status: string;
  origin: string | null;
  components: string[] | null;
  broken: Generated<boolean>;
  recipients: string[] | null;
  schedule_id: string | null;
  scheduled_for: NullableTimestamp;
  requested_by: JsonColumn<object | null>;
  /** Of restores the target and what came of it, of verifications the level and what a drill has measured. */
  detail: JsonColumn<object | null>;
  created_at: Date;
  started_at: NullableTimestamp;
  finished_at: NullableTimestamp;
  deleted_at: NullableTimestamp;
  removal_rule: string | null;
}

/** Days whose old backups were drawn for verification. */
interface SampledDaysTable {
  day: string;
  queued: Generated<number>;
  sampled_at: Generated<Date>;
}

/** Keys besides the server's own. */
interface KeyringTable {
  id: string;
  /** Null for the whole server. */
  organization_id: string | null;
  kind: 'age' | 'signing';
  public_key: string;
  /** Null where only the public half is known, or only somebody's passphrase opens it. */
  sealed_private_key: string | null;
  /** An age file that a passphrase opens. */
  wrapped_private_key: string | null;
  origin: 'made' | 'adopted' | 'passphrase';
  created_at: Generated<Date>;
}

/** The key of each process's memory. */
interface ProcessKeysTable {
  worker_id: string;
  recipient: string;
  seen_at: Generated<Date>;
}

/** What was lent to a run, for the processes alone that lived then. */
interface RunIdentitiesTable {
  run_id: string;
  sealed: string;
  created_at: Generated<Date>;
}
