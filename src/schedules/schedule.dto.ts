import { ApiProperty, ApiPropertyOptional, PartialType } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsOptional,
  IsString,
  Length,
  Matches,
  Max,
  MaxLength,
  Min,
  ValidateIf,
} from 'class-validator';
import { BACKUP_TYPES, type BackupType } from '../backups/backup.js';
import { PagingDto } from '../common/http/paging.dto.js';
import {
  DEFAULT_VERIFY_LEVEL,
  MISSED_RUNS,
  type MissedRuns,
  type Overlap,
  OVERLAPS,
  SCHEDULE_ACTIONS,
  type ScheduleAction,
  SCHEDULE_RUN_STATUSES,
  type ScheduleRunStatus,
} from './schedule.js';

const DAY_SECONDS = 86_400;

/** A new schedule. */
export class CreateScheduleDto {
  /** Name, unique in the organization. */
  @IsString()
  @Length(1, 100)
  @Matches(/^[\p{L}\p{N}][\p{L}\p{N} ._-]*$/u, {
    message: 'name must begin with a letter or digit and hold only letters, digits, spaces, dots, dashes and underscores',
  })
  name!: string;

  /** Id or name of the source; may be left out when there is one, and by status checks, which then look at all sources. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  source?: string;

  /** Five fields: minute, hour, day of the month, month, day of the week; names and ranges are taken. */
  @IsString()
  @MaxLength(200)
  cron!: string;

  /** Zone of the IANA database in which the times are meant, such as Europe/Berlin; UTC when left out. */
  @IsOptional()
  @IsString()
  @MaxLength(100)
  timezone?: string;

  /** What to do: a backup, or a check whether sources and destinations answer. */
  @IsOptional()
  @IsIn(SCHEDULE_ACTIONS)
  @ApiPropertyOptional({ enum: SCHEDULE_ACTIONS, default: 'backup' })
  action?: ScheduleAction;

  /** `full` is every component that the source has. */
  @IsOptional()
  @IsIn(BACKUP_TYPES)
  @ApiPropertyOptional({ enum: BACKUP_TYPES, default: 'full' })
  type?: BackupType;

  /** Whether to compress with zstd. */
  @IsOptional()
  @IsBoolean()
  @ApiPropertyOptional({ default: true })
  compress?: boolean;

  /** Label of its backups. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  label?: string;

  /** Tags of its backups. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(20)
  @IsString({ each: true })
  @Length(1, 50, { each: true })
  tags?: string[];

  /** Names of the destinations of its backups; the default destination when empty. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(20)
  @IsString({ each: true })
  @Length(1, 200, { each: true })
  destinations?: string[];

  /** How many of the destinations must hold a backup for it to be completed: a number, or `all`. The others are repaired later. */
  @ValidateIf(({ quorum }: CreateScheduleDto) => quorum !== undefined && quorum !== 'all')
  @IsInt()
  @Min(1)
  @Max(20)
  @ApiPropertyOptional({
    oneOf: [
      { type: 'integer', minimum: 1, maximum: 20 },
      { type: 'string', enum: ['all'] },
    ],
    default: 'all',
  })
  quorum?: number | 'all';

  /** Whether it runs at all. */
  @IsOptional()
  @IsBoolean()
  @ApiPropertyOptional({ default: true })
  enabled?: boolean;

  /** Begin at a random moment within so many seconds of the slot. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(3600)
  @ApiPropertyOptional({ default: 0 })
  jitterSeconds?: number;

  /** Slots at which no server was there: `run-once` makes up for the last of them, `skip` for none. */
  @IsOptional()
  @IsIn(MISSED_RUNS)
  @ApiPropertyOptional({ enum: MISSED_RUNS, default: 'run-once' })
  missedRuns?: MissedRuns;

  /** A slot while the backup before it goes on: `skip` it, or `queue` another. */
  @IsOptional()
  @IsIn(OVERLAPS)
  @ApiPropertyOptional({ enum: OVERLAPS, default: 'skip' })
  overlap?: Overlap;

  /** Proof level to verify each backup to once it is completed; 0 leaves that out. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(5)
  @ApiPropertyOptional({ default: DEFAULT_VERIFY_LEVEL })
  verifyLevel?: number;

  /** Name of the retention policy that its backups are kept by, besides those that name their source. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  @ApiPropertyOptional({ type: String, nullable: true })
  retentionPolicy?: string | null;

  /** How often a slot is tried in all, when its backup fails. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(10)
  @ApiPropertyOptional({ default: 1 })
  maxAttempts?: number;

  /** Seconds before the second try; doubled before each further one, up to an hour. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(DAY_SECONDS)
  @ApiPropertyOptional({ default: 60 })
  retryDelaySeconds?: number;
}

/** What is to change; fields left out stay as they are. */
export class UpdateScheduleDto extends PartialType(CreateScheduleDto) {
  /** Id or name of the schedule. */
  @IsString()
  @MaxLength(200)
  id!: string;
}

/** Which schedule. */
export class ScheduleIdDto {
  /** Id or name of the schedule. */
  @IsString()
  @MaxLength(200)
  id!: string;
}

const toBoolean = ({ value }: { value: unknown }) => (value === 'true' ? true : value === 'false' ? false : value);

/** Which schedules; with `id`, that one and its history. */
export class ListSchedulesDto extends PagingDto {
  /** Id or name: the answer is then this schedule with its history. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  id?: string;

  /** Id or name of a source. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  source?: string;

  @IsOptional()
  @IsIn(SCHEDULE_ACTIONS)
  @ApiPropertyOptional({ enum: SCHEDULE_ACTIONS })
  action?: ScheduleAction;

  /** Only those that run, or only those that are stopped. */
  @IsOptional()
  @Transform(toBoolean)
  @IsBoolean()
  @ApiPropertyOptional({ type: Boolean })
  enabled?: boolean;
}

/** What became of a slot, or of a start by hand. */
export class ScheduleRunDto {
  id!: string;
  /** The slot; null for a start by hand. */
  @ApiProperty({ type: String, nullable: true })
  scheduledFor!: string | null;
  @ApiProperty({ enum: ['schedule', 'manual', 'retry'] })
  trigger!: string;
  /** Which try at the slot. */
  attempt!: number;
  /** `waiting` for another try; `queued` until its backup has ended; `missed`: no server was there; `skipped`: the backup before went on. */
  @ApiProperty({ enum: SCHEDULE_RUN_STATUSES })
  status!: ScheduleRunStatus;
  @ApiProperty({ type: String, nullable: true })
  backupId!: string | null;
  /** How many slots before this one were missed. */
  missed!: number;
  /** What there is to say of it. */
  @ApiProperty({ type: String, nullable: true })
  note!: string | null;
  createdAt!: string;
  @ApiProperty({ type: String, nullable: true })
  finishedAt!: string | null;
}

/** A schedule. */
export class ScheduleDto {
  id!: string;
  name!: string;
  /** Name of the source; null for checks of all sources. */
  @ApiProperty({ type: String, nullable: true })
  source!: string | null;
  cron!: string;
  timezone!: string;
  @ApiProperty({ enum: SCHEDULE_ACTIONS })
  action!: ScheduleAction;
  @ApiProperty({ enum: BACKUP_TYPES })
  type!: BackupType;
  compress!: boolean;
  @ApiProperty({ type: String, nullable: true })
  label!: string | null;
  tags!: string[];
  destinations!: string[];
  @ApiProperty({ oneOf: [{ type: 'integer' }, { type: 'string', enum: ['all'] }] })
  quorum!: number | 'all';
  enabled!: boolean;
  jitterSeconds!: number;
  @ApiProperty({ enum: MISSED_RUNS })
  missedRuns!: MissedRuns;
  @ApiProperty({ enum: OVERLAPS })
  overlap!: Overlap;
  verifyLevel!: number;
  @ApiProperty({ type: String, nullable: true })
  retentionPolicy!: string | null;
  maxAttempts!: number;
  retryDelaySeconds!: number;
  @ApiProperty({ type: String, nullable: true })
  lastRunAt!: string | null;
  /** What became of the last run: queued, completed, failed, canceled, missed, skipped; healthy or degraded for checks. */
  @ApiProperty({ type: String, nullable: true })
  lastStatus!: string | null;
  /** The next slot; null while it is stopped. */
  @ApiProperty({ type: String, nullable: true })
  nextRunAt!: string | null;
  /** The next five slots; none while it is stopped. */
  nextRuns!: string[];
  runCount!: number;
  failureCount!: number;
  missedCount!: number;
  skippedCount!: number;
  createdAt!: string;
  updatedAt!: string;
}

/** A schedule with what became of its slots. */
export class ScheduleDetailsDto extends ScheduleDto {
  /** The last hundred, the newest first. */
  history!: ScheduleRunDto[];
}
