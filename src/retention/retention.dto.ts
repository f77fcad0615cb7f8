import { ApiProperty, ApiPropertyOptional, PartialType } from '@nestjs/swagger';
import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsInt,
  IsOptional,
  IsString,
  Length,
  Matches,
  Max,
  MaxLength,
  Min,
} from 'class-validator';
import { RULES, type Rule } from './choose-kept.js';

const MOST = 10_000;

/** A new retention policy. A rule left out is not used; a backup stays as long as one of the rules keeps it. */
export class CreateRetentionPolicyDto {
  /** Name, unique in the organization. */
  @IsString()
  @Length(1, 100)
  @Matches(/^[\p{L}\p{N}][\p{L}\p{N} ._-]*$/u, {
    message: 'name must begin with a letter or digit and hold only letters, digits, spaces, dots, dashes and underscores',
  })
  name!: string;

  /** Keep the last so many. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(MOST)
  @ApiPropertyOptional({ default: 0 })
  keepLast?: number;

  /** Keep those younger than so many days. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(365)
  @ApiPropertyOptional({ type: Number, nullable: true, minimum: 1, maximum: 365 })
  keepDays?: number | null;

  /** Keep the newest of each of the last so many hours in which there is one. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(MOST)
  @ApiPropertyOptional({ default: 0 })
  keepHourly?: number;

  /** The same with days. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(MOST)
  @ApiPropertyOptional({ default: 0 })
  keepDaily?: number;

  /** The same with weeks, from Monday. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(MOST)
  @ApiPropertyOptional({ default: 0 })
  keepWeekly?: number;

  /** The same with months. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(MOST)
  @ApiPropertyOptional({ default: 0 })
  keepMonthly?: number;

  /** The same with years. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(MOST)
  @ApiPropertyOptional({ default: 0 })
  keepYearly?: number;

  /** Of what the other rules keep, remove the oldest of a source until the rest has no more stored bytes than this. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(Number.MAX_SAFE_INTEGER)
  @ApiPropertyOptional({ type: Number, nullable: true })
  maxBytes?: number | null;

  /** So many completed ones stay whatever the other rules say. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(MOST)
  @ApiPropertyOptional({ default: 0 })
  minimumCount?: number;

  /** Count the backups of each type for themselves, so that backups of the configuration push out no full ones. */
  @IsOptional()
  @IsBoolean()
  @ApiPropertyOptional({ default: true })
  perType?: boolean;

  /** The newest backup that is proven to this level or above stays. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(5)
  @ApiPropertyOptional({ default: 2 })
  proofLevel?: number;

  /** Younger ones stay. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(525_600)
  @ApiPropertyOptional({ default: 0 })
  graceMinutes?: number;

  /** Zone of the IANA database in which days, weeks, months and years are meant. */
  @IsOptional()
  @IsString()
  @MaxLength(100)
  @ApiPropertyOptional({ default: 'UTC' })
  timezone?: string;

  /** Ids or names of the sources whose backups it is about; all when empty. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(500)
  @IsString({ each: true })
  @Length(1, 200, { each: true })
  sources?: string[];

  /** Ids or names of schedules: only the backups that they make. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(500)
  @IsString({ each: true })
  @Length(1, 200, { each: true })
  schedules?: string[];

  /** Only backups with one of these tags. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(20)
  @IsString({ each: true })
  @Length(1, 50, { each: true })
  tags?: string[];
}

/** What is to change; fields left out stay as they are. */
export class UpdateRetentionPolicyDto extends PartialType(CreateRetentionPolicyDto) {}

/** A retention policy. */
export class RetentionPolicyDto {
  id!: string;
  name!: string;
  keepLast!: number;
  @ApiProperty({ type: Number, nullable: true })
  keepDays!: number | null;
  keepHourly!: number;
  keepDaily!: number;
  keepWeekly!: number;
  keepMonthly!: number;
  keepYearly!: number;
  @ApiProperty({ type: Number, nullable: true })
  maxBytes!: number | null;
  minimumCount!: number;
  perType!: boolean;
  proofLevel!: number;
  graceMinutes!: number;
  timezone!: string;
  /** Names of the sources that it is about; all when empty. */
  sources!: string[];
  /** Names of the schedules that it is about; all when empty. */
  schedules!: string[];
  tags!: string[];
  createdAt!: string;
  updatedAt!: string;
}

/** What would become of a backup. */
export class RetentionDecisionDto {
  backupId!: string;
  /** Name of its source. */
  @ApiProperty({ type: String, nullable: true })
  source!: string | null;
  type!: string;
  status!: string;
  createdAt!: string;
  sizeBytes!: number;
  kept!: boolean;
  /** By which rule. */
  @ApiProperty({ enum: Object.keys(RULES) })
  rule!: Rule;
  /** Name of the policy whose rule it is; null for what holds without one. */
  @ApiProperty({ type: String, nullable: true })
  policy!: string | null;
  /** The rule in words. */
  reason!: string;
}
