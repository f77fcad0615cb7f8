import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsISO8601,
  IsObject,
  IsOptional,
  IsString,
  Length,
  Matches,
  Max,
  MaxLength,
  Min,
  Validate,
  ValidatorConstraint,
  type ValidatorConstraintInterface,
} from 'class-validator';
import { meansSomething } from '../common/events/event-patterns.js';
import { TOLD_EVENTS } from '../common/events/told-events.js';
import { PagingDto } from '../common/http/paging.dto.js';

const DELIVERY_STATUSES = ['pending', 'delivered', 'failed'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

const EVENTS_HELP = `Names of events, \`backup.*\` for all of a kind, or \`*\`: ${Object.keys(TOLD_EVENTS).join(', ')}`;

/** Each entry has to mean an event that there is. */
@ValidatorConstraint({ name: 'eventPatterns' })
class EventPatterns implements ValidatorConstraintInterface {
  validate(value: unknown): boolean {
    return typeof value === 'string' && meansSomething(value);
  }

  defaultMessage(): string {
    return `each of $property must be one of ${Object.keys(TOLD_EVENTS).join(', ')}, or a pattern such as backup.* or *`;
  }
}

/** An endpoint to create. */
export class CreateEndpointDto {
  /** Where to POST the events: https, at a public address (see OUTBOUND_ALLOW). */
  @IsString()
  @Length(1, 2048)
  url!: string;

  @ApiProperty({ type: [String], description: EVENTS_HELP, example: ['backup.*'] })
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @Validate(EventPatterns, { each: true })
  events!: string[];

  /** A few words for people. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  description?: string;

  /** Whether events are sent. */
  @IsOptional()
  @IsBoolean()
  @ApiPropertyOptional({ default: true })
  enabled?: boolean;

  /** Headers of your own that are sent along, such as `Authorization`; kept encrypted and never shown again. */
  @IsOptional()
  @IsObject()
  @ApiPropertyOptional({ type: 'object', additionalProperties: { type: 'string' } })
  headers?: Record<string, string>;

  /** The signing secret, when you bring your own: `whsec_` and 24 to 64 bytes in base64. One is made otherwise. */
  @IsOptional()
  @IsString()
  @Matches(/^whsec_[A-Za-z0-9+/]{32,88}={0,2}$/, { message: 'secret must be whsec_ and 24 to 64 bytes in base64' })
  secret?: string;
}

/** Changes of an endpoint; fields left out stay as they are. */
export class UpdateEndpointDto {
  /** Where to POST the events. */
  @IsOptional()
  @IsString()
  @Length(1, 2048)
  url?: string;

  @ApiPropertyOptional({ type: [String], description: EVENTS_HELP })
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(50)
  @Validate(EventPatterns, { each: true })
  events?: string[];

  /** A few words for people; an empty text removes them. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  description?: string;

  /** Whether events are sent. What waits when it is disabled counts as failed; `redeliver` sends what was missed. */
  @IsOptional()
  @IsBoolean()
  enabled?: boolean;

  /** Headers of your own, instead of all earlier ones. */
  @IsOptional()
  @IsObject()
  @ApiPropertyOptional({ type: 'object', additionalProperties: { type: 'string' } })
  headers?: Record<string, string>;
}

/** How to rotate a secret. */
export class RotateSecretDto {
  /** Hours in which messages carry the signatures of both secrets. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(168)
  @ApiPropertyOptional({ default: 24 })
  overlapHours?: number;
}

/** What to send again. */
export class RedeliverSinceDto {
  /** Events that happened at this time or later. */
  @IsISO8601({ strict: true })
  since!: string;

  /** Only deliveries in this state; all of them when left out, and events that were missed while the endpoint was disabled. */
  @IsOptional()
  @IsIn(DELIVERY_STATUSES)
  @ApiPropertyOptional({ enum: DELIVERY_STATUSES })
  status?: DeliveryStatus;
}

/** Which deliveries to list. */
export class ListDeliveriesDto extends PagingDto {
  /** Only those in this state. */
  @IsOptional()
  @IsIn(DELIVERY_STATUSES)
  @ApiPropertyOptional({ enum: DELIVERY_STATUSES })
  status?: DeliveryStatus;

  /** Only those of this event. */
  @IsOptional()
  @IsString()
  @Length(1, 100)
  event?: string;
}

/** A subscriber of events. */
export class EndpointDto {
  id!: string;
  url!: string;
  @ApiProperty({ type: String, nullable: true })
  description!: string | null;
  events!: string[];
  enabled!: boolean;
  /** Why the server has disabled it; null when it did not. */
  @ApiProperty({ type: String, nullable: true })
  disabledReason!: string | null;
  /** Names of the headers that are sent along; their values are not shown. */
  headerNames!: string[];
  /** Until when the secret before the last rotation signs too. */
  @ApiProperty({ type: String, nullable: true })
  previousSecretUntil!: string | null;
  /** Since when no delivery has succeeded; null when the last one did. */
  @ApiProperty({ type: String, nullable: true })
  failingSince!: string | null;
  @ApiProperty({ type: String, nullable: true })
  lastDeliveredAt!: string | null;
  createdAt!: string;
  updatedAt!: string;
}

/** An endpoint with its secret, which is shown only now. */
export class EndpointWithSecretDto extends EndpointDto {
  /** Signs every message (Standard Webhooks); keep it, it is not shown again. */
  secret!: string;
}

/** One attempt at a delivery. */
export class DeliveryAttemptDto {
  at!: string;
  /** HTTP status of the answer; null when there was none. */
  @ApiProperty({ type: Number, nullable: true })
  status!: number | null;
  durationMs!: number;
  /** The first kilobyte of the answer. */
  @ApiProperty({ type: String, nullable: true })
  response!: string | null;
  /** Why it does not count as delivered. */
  @ApiProperty({ type: String, nullable: true })
  error!: string | null;
}

/** One event on its way to one endpoint. */
export class DeliveryDto {
  id!: string;
  endpointId!: string;
  /** The header `webhook-id`, the same at every attempt and every endpoint. */
  eventId!: string;
  event!: string;
  @ApiProperty({ enum: DELIVERY_STATUSES })
  status!: DeliveryStatus;
  /** Why it was given up. */
  @ApiProperty({ type: String, nullable: true })
  error!: string | null;
  attempts!: DeliveryAttemptDto[];
  /** When it is tried next; null unless pending. */
  @ApiProperty({ type: String, nullable: true })
  nextAttemptAt!: string | null;
  /** When the event happened. */
  occurredAt!: string;
  @ApiProperty({ type: String, nullable: true })
  finishedAt!: string | null;
}

/** How many deliveries were queued. */
export class RedeliveredDto {
  queued!: number;
}
