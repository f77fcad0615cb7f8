import type { Actor } from '../http/request-context.js';

/** What happened to a run; the same fields for every kind, wherever it is told. */
export interface RunEvent {
  organizationId: string;
  runId: string;
  /** The backup that the run makes or uses. */
  backupId: string;
  source: { id: string; name: string } | null;
  attempt: number;
  durationMs: number | null;
  error: { code: string; message: string; hint: string } | null;
  /** Of restores: who asked for it. */
  actor?: Actor;
  /** Of restores: what they are done to. */
  target?: { mode: string; host: string; port: number; database: string };
}

/** Backups that retention has moved to the trash. */
export interface RetentionEvent {
  organizationId: string;
  backups: { id: string; source: { id: string; name: string } | null; policy: string; rule: string }[];
}

/** A write through the API. */
interface ChangeEvent {
  organizationId: string;
  actor: Actor;
  resourceKind: string;
  resourceId: string;
}

/** Something that runs by the clock. */
interface ScheduleEvent {
  organizationId: string;
  scheduleId: string;
  name: string;
}

/** What a status check found. */
interface StatusEvent {
  organizationId: string;
  scheduleId: string;
  problems: readonly string[];
}

/** What a backup lacks, or has again. */
interface AlertEvent {
  organizationId: string;
  alertId: string;
  rule: string;
}

/** Every event of the server by its name: who listens (logs, cache, later webhooks and notifications) hangs on this. */
export interface EventMap {
  'backup.queued': RunEvent;
  'backup.started': RunEvent;
  'backup.completed': RunEvent;
  'backup.failed': RunEvent;
  'backup.canceled': RunEvent;
  'backup.requeued': RunEvent;
  'restore.queued': RunEvent;
  'restore.started': RunEvent;
  'restore.completed': RunEvent;
  'restore.failed': RunEvent;
  'restore.canceled': RunEvent;
  'restore.requeued': RunEvent;
  'verification.queued': RunEvent;
  'verification.started': RunEvent;
  'verification.completed': RunEvent;
  'verification.failed': RunEvent;
  'verification.canceled': RunEvent;
  'verification.requeued': RunEvent;
  'webhook.disabled': { organizationId: string; endpointId: string; reason: string };
  'retention.removed': RetentionEvent;
  'schedule.missed': ScheduleEvent;
  'status.degraded': StatusEvent;
  'status.recovered': StatusEvent;
  'alert.raised': AlertEvent;
  'alert.closed': AlertEvent;
  'api.changed': ChangeEvent;
}

export type EventName = keyof EventMap;
