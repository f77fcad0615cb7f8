import type { ChannelDto, ChannelKind, NotificationDto } from './channel.dto.js';
import type { ChannelRow } from './channels.repository.js';
import type { DeliveryRow } from './deliveries.repository.js';
import type { Severity } from './message.js';

/** The answer's fields, each named: a URL can't slip out. */
export function toChannel(row: ChannelRow): ChannelDto {
  return {
    id: row.id,
    name: row.name,
    kind: row.kind as ChannelKind,
    to: row.addresses,
    host: row.host,
    events: row.events,
    sources: row.source_names,
    minSeverity: row.min_severity as Severity,
    onlyChanges: row.only_changes,
    enabled: row.enabled,
    madeBySetting: row.made_by_setting,
    failingSince: row.failing_since?.toISOString() ?? null,
    lastError: row.last_error,
    lastDeliveredAt: row.last_delivered_at?.toISOString() ?? null,
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
  };
}

export function toNotification(row: DeliveryRow): NotificationDto {
  return {
    id: row.id,
    channelId: row.channel_id,
    event: row.event_type,
    eventId: row.event_id,
    status: row.status as NotificationDto['status'],
    tries: row.tries,
    error: row.error,
    nextAttemptAt: row.status === 'pending' ? row.next_attempt_at.toISOString() : null,
    createdAt: row.created_at.toISOString(),
    finishedAt: row.finished_at?.toISOString() ?? null,
  };
}
