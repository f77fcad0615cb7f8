import type { Selectable } from 'kysely';
import type { CatalogTables } from '../catalog/tables.js';
import type { DeliveryDto, DeliveryStatus, EndpointDto, EndpointWithSecretDto } from './webhook.dto.js';

export type EndpointRow = Selectable<CatalogTables['webhook_endpoints']>;
export type DeliveryRow = Selectable<CatalogTables['webhook_deliveries']>;

/** The answer's fields, each named: neither the secret nor a header's value can slip out. */
export function toEndpoint(row: EndpointRow): EndpointDto {
  return {
    id: row.id,
    url: row.url,
    description: row.description,
    events: row.events,
    enabled: row.enabled,
    disabledReason: row.disabled_reason,
    headerNames: row.header_names,
    previousSecretUntil: row.previous_secret_until?.toISOString() ?? null,
    failingSince: row.failing_since?.toISOString() ?? null,
    lastDeliveredAt: row.last_delivered_at?.toISOString() ?? null,
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
  };
}

/** For the answers to create and rotate alone. */
export function toEndpointWithSecret({ row, secret }: { row: EndpointRow; secret: string }): EndpointWithSecretDto {
  return { ...toEndpoint(row), secret };
}

export function toDelivery(row: DeliveryRow): DeliveryDto {
  return {
    id: row.id,
    endpointId: row.endpoint_id,
    eventId: row.event_id,
    event: row.event_type,
    status: row.status as DeliveryStatus,
    error: row.error,
    attempts: row.attempts,
    nextAttemptAt: row.status === 'pending' ? (row.next_attempt_at?.toISOString() ?? null) : null,
    occurredAt: row.occurred_at.toISOString(),
    finishedAt: row.finished_at?.toISOString() ?? null,
  };
}
