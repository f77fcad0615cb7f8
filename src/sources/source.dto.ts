import { ApiProperty, ApiPropertyOptional, PartialType } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsNumber,
  IsOptional,
  IsString,
  Length,
  Matches,
  Max,
  MaxLength,
  Min,
  ValidateNested,
} from 'class-validator';
import { IsExpectation } from './is-expectation.js';
import { RestoreModesDto } from './restore-modes.dto.js';
import { AGE_RECIPIENT } from '../engine/artifact/keys.js';
import { TLS_MODES, type TlsMode } from '../engine/postgres/connection.js';

/** Kinds of sources. */
const SOURCE_KINDS = ['postgres', 'supabase'] as const;
export type SourceKind = (typeof SOURCE_KINDS)[number];

const HOUR_MS = 3_600_000;
const MAX_RUN_MS = 23 * HOUR_MS;

/** How the connection to a database is secured. */
export class SourceTlsDto {
  /** As libpq's sslmode; `verify-full` checks the certificate and the host name. */
  @IsIn(TLS_MODES)
  @ApiProperty({ enum: TLS_MODES })
  mode!: TlsMode;

  /** CA certificates in PEM, for verify-ca and verify-full; without them the system's are used. */
  @IsOptional()
  @IsString()
  @MaxLength(200_000)
  @Matches(/-----BEGIN CERTIFICATE-----/, { message: 'ca must be a certificate in PEM (-----BEGIN CERTIFICATE-----)' })
  ca?: string;
}

/** When a backup that lacks what the one before it had raises an alert. */
export class SourceAlertsDto {
  /** A table of the backup before is gone. */
  @IsOptional()
  @IsBoolean()
  tableLost?: boolean;

  /** The rows of all tables fell by more than this many percent, or a table of 1,000 rows or more was emptied; null turns it off. */
  @IsOptional()
  @IsNumber()
  @Min(1)
  @Max(100)
  @ApiPropertyOptional({ type: Number, nullable: true })
  rowsDroppedPercent?: number | null;

  /** The bytes of the dump fell by more than this many percent; null turns it off. */
  @IsOptional()
  @IsNumber()
  @Min(1)
  @Max(100)
  @ApiPropertyOptional({ type: Number, nullable: true })
  sizeDroppedPercent?: number | null;
}

/** What is promised for a source; the compliance report holds it against what was measured. */
export class SourceTargetsDto {
  /** Recovery point objective, in minutes: the longest time whose changes may be lost, from what a finished backup holds to the end of the next; null promises nothing. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(525_600)
  @ApiPropertyOptional({ type: Number, nullable: true })
  rpoMinutes?: number | null;

  /** Recovery time objective, in minutes: the longest that a restore of the whole database may take; null promises nothing. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(525_600)
  @ApiPropertyOptional({ type: Number, nullable: true })
  rtoMinutes?: number | null;
}

/** Something that must hold in a restored database: proof level 5. */
export class SourceAssertionDto {
  /** Unique in the source. */
  @IsString()
  @Length(1, 100)
  name!: string;

  /** One SELECT, VALUES or WITH … SELECT; it is run read-only, with every value as PostgreSQL writes it. */
  @IsString()
  @Length(1, 10_000)
  query!: string;

  /** What it must give; true when left out. A boolean, a number or null: exactly one row whose first column is that. Text: `rows` or `no rows`, a comparison with a number such as `>= 1000`, else exactly one row whose first column is that text. */
  @IsOptional()
  @IsExpectation()
  @ApiPropertyOptional({ oneOf: [{ type: 'string' }, { type: 'number' }, { type: 'boolean' }], nullable: true, default: true })
  expectation?: string | number | boolean | null;

  /** How long the query may take. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(3600)
  @ApiPropertyOptional({ default: 30 })
  timeoutSeconds?: number;
}

/** A new source: either `url`, or the fields `host`, `database` and `user` with what else is needed. */
export class CreateSourceDto {
  /** Name, unique in the organization. */
  @IsString()
  @Length(1, 100)
  @Matches(/^[\p{L}\p{N}][\p{L}\p{N} ._-]*$/u, {
    message: 'name must begin with a letter or digit and hold only letters, digits, spaces, dots, dashes and underscores',
  })
  name!: string;

  /** `supabase` is a project: its database, and its Storage with `supabaseUrl` and `serviceRoleKey`. */
  @IsOptional()
  @IsIn(SOURCE_KINDS)
  @ApiProperty({ enum: SOURCE_KINDS, required: false, default: 'postgres' })
  kind?: SourceKind;

  /** postgresql://user:password@host:5432/database?sslmode=require; never given back. */
  @IsOptional()
  @IsString()
  @MaxLength(2000)
  url?: string;

  /** Host name or address. */
  @IsOptional()
  @IsString()
  @MaxLength(255)
  host?: string;

  /** TCP port; 5432 when left out. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(65_535)
  port?: number;

  /** Name of the database. */
  @IsOptional()
  @IsString()
  @Length(1, 63)
  database?: string;

  /** Role to connect as. */
  @IsOptional()
  @IsString()
  @Length(1, 63)
  user?: string;

  /** The role's password; never given back. */
  @IsOptional()
  @IsString()
  @MaxLength(1000)
  password?: string;

  /** URL of the project, such as https://abcdefghijklmnopqrst.supabase.co; for kind supabase. https, unless OUTBOUND_ALLOW lists it. */
  @IsOptional()
  @IsString()
  @MaxLength(2048)
  supabaseUrl?: string;

  /** Service role key or secret key of the project; for kind supabase; never given back. */
  @IsOptional()
  @IsString()
  @Length(1, 2000)
  serviceRoleKey?: string;

  /** Exact names of buckets to leave out; for kind supabase. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(1000)
  @IsString({ each: true })
  @Length(1, 100, { each: true })
  excludeBuckets?: string[];

  /** How the connection is secured; `prefer` when left out. */
  @IsOptional()
  @ValidateNested()
  @Type(() => SourceTlsDto)
  tls?: SourceTlsDto;

  /** Files or folders on the server, under CONFIG_ROOTS, that the component `config` takes along. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(100)
  @IsString({ each: true })
  @MaxLength(4096, { each: true })
  configPaths?: string[];

  /** Exact names of schemas to leave out. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(1000)
  @IsString({ each: true })
  @Length(1, 63, { each: true })
  excludeSchemas?: string[];

  /** Exact names of tables to leave out, as `schema.table` or `table` (in `public`); quote a part with a dot in it, as `"a.b".c`. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(1000)
  @IsString({ each: true })
  @Length(1, 140, { each: true })
  excludeTables?: string[];

  /** Age public keys that this source's backups are encrypted to, instead of the organization's; an empty list takes the organization's. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(20)
  @Matches(AGE_RECIPIENT, { each: true, message: 'each of $property must be an age public key (age1…, 62 characters)' })
  recipients?: string[];

  /** How long pg_dump, and a restore into the source's own database, waits for a table's lock, in milliseconds. */
  @IsOptional()
  @IsInt()
  @Min(100)
  @Max(HOUR_MS)
  lockTimeoutMs?: number;

  /** Longest single statement while dumping, in milliseconds; 0 sets no limit. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(MAX_RUN_MS)
  statementTimeoutMs?: number;

  /** Longest run of a backup, in milliseconds. */
  @IsOptional()
  @IsInt()
  @Min(1000)
  @Max(MAX_RUN_MS)
  maxRunMs?: number;

  /** Let its dumps go through an encrypted folder on the server at full speed (SPOOL_DIR), and to their destinations from there: a slow one then does not hold the database's snapshot. */
  @IsOptional()
  @IsBoolean()
  @ApiPropertyOptional({ type: Boolean, default: false })
  spool?: boolean;

  /** When to raise an alert; by default for each lost table, 40 % of the rows and 50 % of the bytes. */
  @IsOptional()
  @ValidateNested()
  @Type(() => SourceAlertsDto)
  alerts?: SourceAlertsDto;

  /** Recovery objectives. */
  @IsOptional()
  @ValidateNested()
  @Type(() => SourceTargetsDto)
  targets?: SourceTargetsDto;

  /** What must hold in a restored database; all of them, in the place of those that are there. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(50)
  @ValidateNested({ each: true })
  @Type(() => SourceAssertionDto)
  assertions?: SourceAssertionDto[];
}

/** What is to change; fields left out stay as they are. */
export class UpdateSourceDto extends PartialType(CreateSourceDto) {}

/** A source, without its credentials. */
export class SourceDto {
  id!: string;
  name!: string;
  @ApiProperty({ enum: SOURCE_KINDS })
  kind!: string;
  host!: string;
  port!: number;
  database!: string;
  user!: string;
  /** Whether a password is stored. */
  hasPassword!: boolean;
  /** URL of the Supabase project; null for other kinds. */
  @ApiProperty({ type: String, nullable: true })
  supabaseUrl!: string | null;
  /** Whether a service role key is stored. */
  hasServiceRoleKey!: boolean;
  excludeBuckets!: string[];
  tls!: SourceTlsDto;
  configPaths!: string[];
  excludeSchemas!: string[];
  excludeTables!: string[];
  recipients!: string[];
  lockTimeoutMs!: number;
  statementTimeoutMs!: number;
  maxRunMs!: number;
  /** Whether its dumps go through an encrypted folder on the server. */
  spool!: boolean;
  alerts!: SourceAlertsDto;
  targets!: SourceTargetsDto;
  assertions!: SourceAssertionDto[];
  /** As the server last said it; null before the first contact. */
  @ApiProperty({ type: String, nullable: true })
  serverVersion!: string | null;
  createdAt!: string;
  updatedAt!: string;
}

/** An extension of a database. */
export class ExtensionDto {
  name!: string;
  version!: string;
}

/** What a test of a source found. */
export class SourceTestDto extends RestoreModesDto {
  /** Whether a backup can be made now. */
  ok!: boolean;
  serverVersion!: string;
  /** Size of the database on the server's disk, in bytes. */
  sizeBytes!: number;
  tableCount!: number;
  /** Buckets of the project's Storage; null for other kinds, and where they could not be listed. */
  @ApiProperty({ type: Number, nullable: true })
  bucketCount!: number | null;
  extensions!: ExtensionDto[];
  /** The client program that a backup would use, such as `pg_dump 15.20`. */
  @ApiProperty({ type: String, nullable: true })
  clientProgram!: string | null;
  /** What the role may not read, each named. */
  missingPrivileges!: string[];
  /** Why a connection pooler is in the way, or null. */
  @ApiProperty({ type: String, nullable: true })
  pooler!: string | null;
  /** What keeps a backup from being made, as sentences with how to mend it. */
  problems!: string[];
  /** What does not keep a backup from being made, yet should be known. */
  warnings!: string[];
  durationMs!: number;
}
