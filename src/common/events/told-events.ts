import type { EventName } from './event-map.js';

/** Events that leave the server, by webhook and notification, each with what it says. What is not listed here can't be recorded in the outbox. */
export const TOLD_EVENTS = {
  'backup.queued': 'A backup was asked for',
  'backup.started': 'A worker has begun a backup',
  'backup.completed': 'A backup is stored, signed and read back',
  'backup.failed': 'A backup has failed',
  'backup.canceled': 'A backup was canceled',
  'restore.queued': 'A restore was asked for',
  'restore.started': 'A worker has begun a restore',
  'restore.completed': 'A restore is done and its row counts were compared',
  'restore.failed': 'A restore has failed; its target is as it was',
  'restore.canceled': 'A restore was canceled',
  'verification.queued': 'A verification was asked for',
  'verification.started': 'A worker has begun a verification',
  'verification.completed': 'A backup has passed its checks',
  'verification.failed': 'A backup has not passed its checks, or they could not be made',
  'verification.canceled': 'A verification was canceled',
  'webhook.disabled': 'The server sends nothing to a webhook endpoint any more',
  'retention.removed': 'Backups have gone to the trash by the rules of a retention policy',
  'schedule.missed': 'No server was there at the time of a schedule',
  'status.degraded': 'A status check has found a source or destination that does not answer',
  'alert.raised': 'A backup lacks tables, rows or bytes that the one before it had',
  'alert.closed': 'An alert was acknowledged, or a later backup has again what was missing',
  'status.recovered': 'What a status check had found is well again',
} as const satisfies Partial<Record<EventName, string>>;

export type ToldEvent = keyof typeof TOLD_EVENTS;
