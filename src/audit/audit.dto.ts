import { ApiProperty } from '@nestjs/swagger';
import { IsInt, IsISO8601, IsOptional, IsString, Length, Matches, Max, Min } from 'class-validator';
import { QueryNumber } from '../common/http/query-number.js';

/** Which entries of the audit trail. */
export class AuditFilterDto {
  /** `api-key.created`, or `api-key.*` for all of a kind. */
  @IsOptional()
  @IsString()
  @Matches(/^[a-z][a-z-]{0,60}\.(\*|[a-z][a-z-]{0,60})$/, { message: 'action must be resource.verb, or resource.*' })
  action?: string;

  /** Id or name of whoever did it. */
  @IsOptional()
  @IsString()
  @Length(1, 255)
  actor?: string;

  /** Not before this time. */
  @IsOptional()
  @IsISO8601({ strict: true, strictSeparator: true })
  from?: string;

  /** Before this time. */
  @IsOptional()
  @IsISO8601({ strict: true, strictSeparator: true })
  to?: string;
}

/** Which entries of the audit trail, the newest first. */
export class ListAuditDto extends AuditFilterDto {
  /** `meta.nextCursor` of the page before. */
  @IsOptional()
  @IsString()
  @Matches(/^[1-9]\d{0,14}$/, { message: 'cursor must be the nextCursor of another page' })
  cursor?: string;

  /** Entries on a page. */
  @IsOptional()
  @QueryNumber()
  @IsInt()
  @Min(1)
  @Max(100)
  limit: number = 20;
}

/** Who did it. */
export class AuditActorDto {
  @ApiProperty({ enum: ['api-key', 'user', 'system'] })
  kind!: string;

  id!: string;

  name!: string;
}

/** What it was done to. */
export class AuditResourceDto {
  kind!: string;

  id!: string;
}

/** One thing that somebody did, or tried. */
export class AuditEntryDto {
  id!: string;

  /** Place in the organization's chain, from 1, without gaps. */
  seq!: number;

  @ApiProperty({ format: 'date-time' })
  at!: string;

  actor!: AuditActorDto;

  /** `resource.verb`. */
  action!: string;

  resource!: AuditResourceDto;

  @ApiProperty({ enum: ['ok', 'denied', 'failed'] })
  result!: string;

  /** Where the request came from. */
  @ApiProperty({ type: String, nullable: true })
  address!: string | null;

  @ApiProperty({ type: String, nullable: true })
  userAgent!: string | null;

  @ApiProperty({ type: String, nullable: true })
  requestId!: string | null;

  /** What changed; never a secret. */
  @ApiProperty({ type: 'object', additionalProperties: true, nullable: true })
  changes!: object | null;

  /** Hash of the entry before; empty for the first. */
  previousHash!: string;

  /** SHA-256, in hexadecimal, of `previousHash`, a line feed and the entry's `hashed` text (see the export). */
  hash!: string;
}

/** Where a chain breaks. */
export class AuditBreakDto {
  /** The first entry that is not as it was written. */
  seq!: number;

  @ApiProperty({ type: String, nullable: true })
  id!: string | null;

  /** `changed`, `missing`, or `head` when the end was cut off. */
  @ApiProperty({ enum: ['changed', 'missing', 'head'] })
  kind!: 'changed' | 'missing' | 'head';

  message!: string;
}

/** What a look at the whole chain found. */
export class AuditCheckDto {
  intact!: boolean;

  /** Entries that were looked at. */
  entries!: number;

  /** Entries that retention has removed before them. */
  removed!: number;

  /** The newest hash: kept elsewhere, it proves later that nothing before it was changed. */
  head!: string;

  @ApiProperty({ type: AuditBreakDto, nullable: true })
  brokenAt!: AuditBreakDto | null;
}
