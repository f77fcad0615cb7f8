import { ApiProperty, ApiPropertyOptional, OmitType, PartialType } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayNotEmpty,
  IsArray,
  IsBoolean,
  IsEmail,
  IsIn,
  IsOptional,
  IsString,
  Length,
  Matches,
  MaxLength,
} from 'class-validator';
import { EVENT_PATTERN } from '../common/events/event-patterns.js';
import { SEVERITIES, type Severity } from './message.js';

/** Kinds of channels. */
const CHANNEL_KINDS = ['email', 'slack', 'discord', 'json', 'ping'] as const;
export type ChannelKind = (typeof CHANNEL_KINDS)[number];

const lowerCased = ({ value }: { value: unknown }) =>
  Array.isArray(value) ? value.map((each: unknown) => (typeof each === 'string' ? each.trim().toLowerCase() : each)) : value;

/** A new channel: `to` for email, `url` for the others. */
export class CreateChannelDto {
  /** Name, unique in the organization. */
  @IsString()
  @Length(1, 100)
  @Matches(/^[\p{L}\p{N}][\p{L}\p{N} ._-]*$/u, {
    message: 'name must begin with a letter or digit and hold only letters, digits, spaces, dots, dashes and underscores',
  })
  name!: string;

  /** email by the server's SMTP_URL; slack and discord by their incoming webhook; json posts the event; ping calls a dead-man's switch. */
  @IsIn(CHANNEL_KINDS)
  @ApiProperty({ enum: CHANNEL_KINDS })
  kind!: ChannelKind;

  /** Addresses to write to, lower-cased; for email. */
  @IsOptional()
  @Transform(lowerCased)
  @IsArray()
  @ArrayNotEmpty()
  @ArrayMaxSize(50)
  @IsEmail({ domain_specific_validation: false, require_tld: false }, { each: true })
  to?: string[];

  /** Where to post, or what to call when a backup is completed; https, unless OUTBOUND_ALLOW lists it. Never given back. */
  @IsOptional()
  @IsString()
  @MaxLength(2048)
  url?: string;

  /** Called when a backup begins; for ping. Never given back. */
  @IsOptional()
  @IsString()
  @MaxLength(2048)
  startUrl?: string;

  /** Called when a backup fails; for ping. Never given back. */
  @IsOptional()
  @IsString()
  @MaxLength(2048)
  failureUrl?: string;

  /** Names of events, or patterns such as `backup.*` and `*`. Completed and failed backups when left out; with ping, started ones too. */
  @IsOptional()
  @IsArray()
  @ArrayNotEmpty()
  @ArrayMaxSize(50)
  @IsString({ each: true })
  @MaxLength(100, { each: true })
  @Matches(EVENT_PATTERN, {
    each: true,
    message: 'events must be names such as backup.failed, or patterns such as backup.* or *',
  })
  events?: string[];

  /** Names or ids of sources whose events are told; of all when empty. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(1000)
  @IsString({ each: true })
  @MaxLength(200, { each: true })
  sources?: string[];

  /** Tell nothing that is less bad. */
  @IsOptional()
  @IsIn(SEVERITIES)
  @ApiPropertyOptional({ enum: SEVERITIES, default: 'info' })
  minSeverity?: Severity;

  /** Tell only the first failure after a success, and the first success after a failure, of each source. */
  @IsOptional()
  @IsBoolean()
  onlyChanges?: boolean;

  /** Whether it is told at all; true when left out. */
  @IsOptional()
  @IsBoolean()
  enabled?: boolean;
}

/** What is to change; fields left out stay as they are. The kind can't change. */
export class UpdateChannelDto extends PartialType(OmitType(CreateChannelDto, ['kind'] as const)) {}

/** A channel, without the URLs, which are secrets. */
export class ChannelDto {
  id!: string;
  name!: string;
  @ApiProperty({ enum: CHANNEL_KINDS })
  kind!: ChannelKind;
  to!: string[];
  /** The host of the URL, to tell channels apart; null for email. */
  @ApiProperty({ type: String, nullable: true })
  host!: string | null;
  events!: string[];
  sources!: string[];
  @ApiProperty({ enum: SEVERITIES })
  minSeverity!: Severity;
  onlyChanges!: boolean;
  enabled!: boolean;
  /** The setting that made it, such as SLACK_WEBHOOK_URL; null for those made here. */
  @ApiProperty({ type: String, nullable: true })
  madeBySetting!: string | null;
  /** Since when its messages do not get through. */
  @ApiProperty({ type: String, nullable: true })
  failingSince!: string | null;
  /** What kept the newest message from getting through. */
  @ApiProperty({ type: String, nullable: true })
  lastError!: string | null;
  @ApiProperty({ type: String, nullable: true })
  lastDeliveredAt!: string | null;
  createdAt!: string;
  updatedAt!: string;
}

/** What came of a test message. */
export class ChannelTestDto {
  ok!: boolean;
  /** What kept it from getting through, and how to mend it. */
  @ApiProperty({ type: String, nullable: true })
  error!: string | null;
  durationMs!: number;
}

const DELIVERY_STATUSES = ['pending', 'delivered', 'failed'] as const;

/** A message of a channel. */
export class NotificationDto {
  id!: string;
  channelId!: string;
  /** Name of the event. */
  event!: string;
  eventId!: string;
  @ApiProperty({ enum: DELIVERY_STATUSES })
  status!: (typeof DELIVERY_STATUSES)[number];
  /** How often it was tried. */
  tries!: number;
  /** What kept it from getting through the last time. */
  @ApiProperty({ type: String, nullable: true })
  error!: string | null;
  /** When it is tried again; null once it has ended. */
  @ApiProperty({ type: String, nullable: true })
  nextAttemptAt!: string | null;
  createdAt!: string;
  @ApiProperty({ type: String, nullable: true })
  finishedAt!: string | null;
}
