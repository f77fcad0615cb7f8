import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsISO8601,
  IsOptional,
  IsString,
  Length,
  Matches,
  Max,
  MaxLength,
  Min,
} from 'class-validator';
import { COPY_STATES, type CopyState } from '../destinations/destination.js';
import { RunErrorDto } from '../common/http/answers.dto.js';
import { PagingDto } from '../common/http/paging.dto.js';
import { RunDto } from '../jobs/run.dto.js';
import { RUN_STATUSES, type RunStatus } from '../jobs/run.js';
import { BACKUP_ORIGINS, BACKUP_TYPES, type BackupOrigin, type BackupType, COMPONENTS, type Component } from './backup.js';

/** Of ISO 8601's many forms those that name one moment: weeks and days of the year do not, nor does a time without its zone. */
const TIME_OR_DATE = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/;
const TIME_OR_DATE_MESSAGE = '$property must be a date or a time with its zone, such as 2025-12-22 or 2025-12-22T14:30:00Z';

/** Which backups to list. */
export class ListBackupsDto extends PagingDto {
  /** Only those in this state. */
  @IsOptional()
  @IsIn(RUN_STATUSES)
  @ApiPropertyOptional({ enum: RUN_STATUSES })
  status?: RunStatus;

  /** Only those of this type. */
  @IsOptional()
  @IsIn(BACKUP_TYPES)
  @ApiPropertyOptional({ enum: BACKUP_TYPES })
  type?: BackupType;

  /** Only those of this source, by id or name. */
  @IsOptional()
  @IsString()
  @Length(1, 100)
  source?: string;

  /** Only those created at this time or later. */
  @IsOptional()
  @IsISO8601({ strict: true })
  @Matches(TIME_OR_DATE, { message: TIME_OR_DATE_MESSAGE })
  from?: string;

  /** Only those created before this time. */
  @IsOptional()
  @IsISO8601({ strict: true })
  @Matches(TIME_OR_DATE, { message: TIME_OR_DATE_MESSAGE })
  to?: string;

  /** Order; the newest first when left out. */
  @IsOptional()
  @IsIn(['createdAt', '-createdAt', 'sizeBytes', '-sizeBytes', 'durationMs', '-durationMs'])
  @ApiPropertyOptional({
    enum: ['createdAt', '-createdAt', 'sizeBytes', '-sizeBytes', 'durationMs', '-durationMs'],
    default: '-createdAt',
  })
  sort?: string;

  /** Whether to list what lies in the trash instead. */
  @IsOptional()
  @Transform(({ value }) => (value === 'true' ? true : value === 'false' ? false : value))
  @IsBoolean()
  trash?: boolean;
}

/** What to back up. */
export class CreateBackupDto {
  /** `full` = every component the source has. */
  @IsOptional()
  @IsIn(BACKUP_TYPES)
  @ApiPropertyOptional({ enum: BACKUP_TYPES, default: 'full' })
  type?: BackupType;

  /** Id or name of the source; may be left out when there is one. */
  @IsOptional()
  @IsString()
  @Length(1, 100)
  source?: string;

  /** Whether to compress with zstd. */
  @IsOptional()
  @IsBoolean()
  @ApiPropertyOptional({ default: true })
  compress?: boolean;

  /** The same as type `database`. */
  @IsOptional()
  @IsBoolean()
  dbOnly?: boolean;

  /**
   * Take the passwords of roles along, as the server keeps them (hashed), so that a restore with `createRoles` can set them. Needs the
   * permission source:manage, and a source whose user may read them: a superuser, as a rule. Not for type `database`, which has no roles.
   */
  @IsOptional()
  @IsBoolean()
  @ApiPropertyOptional({ default: false })
  includePasswords?: boolean;

  /** A few words for people. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  label?: string;

  /** Words to find it by. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(20)
  @IsString({ each: true })
  @Length(1, 50, { each: true })
  tags?: string[];

  /** Keep it until it is unpinned, whatever retention says. */
  @IsOptional()
  @IsBoolean()
  pinned?: boolean;

  /** Names or ids of the destinations it goes to, all at the same time; the default ones when left out. */
  @IsOptional()
  @IsArray()
  @ArrayMaxSize(10)
  @IsString({ each: true })
  @Length(1, 100, { each: true })
  destinations?: string[];

  /** How many of the destinations must hold it for it to be completed; all when left out. The others are repaired later. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(10)
  quorum?: number;
}

/** Which artifact, and in what form. */
export class DownloadDto {
  /** Which component's artifact. */
  @IsOptional()
  @IsIn(COMPONENTS)
  @ApiPropertyOptional({ enum: COMPONENTS, default: 'database' })
  component?: Component;

  /** Which artifact of the component, by its name in details; where there are several, the first is sent and `X-Artifacts` names all. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  artifact?: string;

  /** As it lies at the destination, or decrypted and decompressed. */
  @IsOptional()
  @IsIn(['stored', 'decrypted'])
  @ApiPropertyOptional({ enum: ['stored', 'decrypted'], default: 'stored' })
  form?: 'stored' | 'decrypted';
}

/** Id and name of a source. */
export class SourceRefDto {
  id!: string;
  name!: string;
}

/** Why retention moved a backup to the trash. */
export class RemovalDto {
  /** Name of the policy. */
  policy!: string;
  rule!: string;
}

/** One place where an artifact lies. */
export class CopyDto {
  /** Name of the destination. */
  destination!: string;
  /** `stored` when the destination gave the backup's manifest back; `failed` ones are copied from a stored one later. */
  @ApiProperty({ enum: COPY_STATES })
  state!: CopyState;
  /** Why it failed; of a `stored` one, why it could not be locked yet. */
  @ApiProperty({ type: RunErrorDto, nullable: true })
  error!: RunErrorDto | null;
  /** Until when the destination keeps it from being removed or replaced (object lock), read back from there; null when it does not. */
  @ApiProperty({ type: String, nullable: true })
  lockedUntil!: string | null;
}

/** One stored object of a backup. */
export class ArtifactDto {
  @ApiProperty({ enum: COMPONENTS })
  component!: Component;
  /** Name of the object; its endings tell how to open it. */
  name!: string;
  storedBytes!: number;
  storedSha256!: string;
  plainBytes!: number;
  plainSha256!: string;
  copies!: CopyDto[];
}

/** One table, as its bytes went into the archive. */
export class BackupTableDto {
  schema!: string;
  name!: string;
  rows!: number;
  bytes!: number;
  /** SHA-256 of the rows as COPY writes them, under the pinned settings. */
  sha256!: string;
}

/** A relation with storage that the dump left out. */
export class OmissionDto {
  schema!: string;
  name!: string;
  /** What kind of relation. */
  kind!: string;
  reason!: string;
}

/** One attempt at a run. */
export class AttemptDto {
  kind!: string;
  /** Id of the backup, restore or verification. */
  id!: string;
  attempt!: number;
  startedAt!: string;
  @ApiProperty({ type: String, nullable: true })
  finishedAt!: string | null;
  /** How it ended: completed, failed, canceled, given-back (the server stopped) or interrupted (its worker died); null while it runs. */
  @ApiProperty({ type: String, nullable: true })
  outcome!: string | null;
  @ApiProperty({ type: RunErrorDto, nullable: true })
  error!: RunErrorDto | null;
}

/** A backup, as in lists. */
export class BackupDto extends RunDto {
  @ApiProperty({ enum: BACKUP_TYPES })
  type!: BackupType;
  /** Null for those that were reported from outside. */
  @ApiProperty({ type: SourceRefDto, nullable: true })
  source!: SourceRefDto | null;
  @ApiProperty({ enum: BACKUP_ORIGINS })
  origin!: BackupOrigin;
  @ApiProperty({ enum: COMPONENTS, isArray: true })
  components!: Component[];
  @ApiProperty({ type: String, nullable: true })
  label!: string | null;
  tags!: string[];
  pinned!: boolean;
  /** Whether its roles come with their passwords; null where that is not known, as of adopted ones. */
  @ApiProperty({ type: Boolean, nullable: true })
  includePasswords!: boolean | null;
  /** Bytes at the destination. */
  sizeBytes!: number;
  /** Bytes before compression and encryption. */
  plainBytes!: number;
  tableCount!: number;
  rowCount!: number;
  /** What was noticed while it was made and did not keep it from being made, such as a dump that held its snapshot for long. */
  warnings!: string[];
  /** What was proven, 0 to 5; null until completed. */
  @ApiProperty({ type: Number, nullable: true })
  proofLevel!: number | null;
  @ApiProperty({ type: String, nullable: true })
  provenAt!: string | null;
  /** Whether the last check found it damaged. */
  broken!: boolean;
  /** What the check found. */
  @ApiProperty({ type: String, nullable: true })
  brokenCause!: string | null;
  /** When it was moved to the trash. */
  @ApiProperty({ type: String, nullable: true })
  deletedAt!: string | null;
  /** The policy and rule by which retention moved it there; null when a person did. */
  @ApiProperty({ type: RemovalDto, nullable: true })
  removedBy!: RemovalDto | null;
  /** The schedule that made it; null when none did. */
  @ApiProperty({ type: SourceRefDto, nullable: true })
  schedule!: SourceRefDto | null;
  /** The time slot it was made for. */
  @ApiProperty({ type: String, nullable: true })
  scheduledFor!: string | null;
}

/** What a backup holds of a Supabase project's Storage. */
export class StorageContentDto {
  buckets!: number;
  objects!: number;
  /** Of the objects, before compression and encryption. */
  bytes!: number;
}

/** A backup with all that is known of it. */
export class BackupDetailsDto extends BackupDto {
  @ApiProperty({ type: String, nullable: true })
  serverVersion!: string | null;
  artifacts!: ArtifactDto[];
  tables!: BackupTableDto[];
  /** Of the component `storage`; null without it. */
  @ApiProperty({ type: StorageContentDto, nullable: true })
  storage!: StorageContentDto | null;
  /** What the dump left out, and why; null until completed. */
  @ApiProperty({ type: [OmissionDto], nullable: true })
  omissions!: OmissionDto[] | null;
  /** Every attempt at it, its restores and its verifications. */
  runs!: AttemptDto[];
}

/** The newest backup of a source that is not broken. */
export class SourceProofDto {
  source!: SourceRefDto;
  completed!: number;
  failed!: number;
  sizeBytes!: number;
  /** Newest completed and unbroken backup. */
  @ApiProperty({ type: String, nullable: true })
  newestBackupId!: string | null;
  @ApiProperty({ type: String, nullable: true })
  newestFinishedAt!: string | null;
  /** Newest backup of the highest proof level that any of the source's backups has. */
  @ApiProperty({ type: String, nullable: true })
  newestProvenBackupId!: string | null;
  @ApiProperty({ type: Number, nullable: true })
  newestProvenLevel!: number | null;
  @ApiProperty({ type: String, nullable: true })
  newestProvenAt!: string | null;
}

/** Figures over all backups outside the trash. */
export class BackupStatsDto {
  total!: number;
  queued!: number;
  running!: number;
  completed!: number;
  failed!: number;
  canceled!: number;
  broken!: number;
  pinned!: number;
  /** Completed among completed and failed, 0 to 1; null when there is neither. */
  @ApiProperty({ type: Number, nullable: true })
  successRate!: number | null;
  /** Bytes at the destination. */
  sizeBytes!: number;
  plainBytes!: number;
  @ApiProperty({ type: Number, nullable: true })
  averageDurationMs!: number | null;
  @ApiProperty({ type: Number, nullable: true })
  longestDurationMs!: number | null;
  @ApiProperty({ type: String, nullable: true })
  lastCompletedAt!: string | null;
  sources!: SourceProofDto[];
}
