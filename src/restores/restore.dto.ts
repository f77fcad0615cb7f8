import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  ArrayNotEmpty,
  ArrayUnique,
  IsArray,
  IsDefined,
  IsIn,
  IsInt,
  IsOptional,
  IsString,
  Length,
  Max,
  MaxLength,
  Min,
  ValidateIf,
  ValidateNested,
} from 'class-validator';
import { ProgressDto } from '../backups/backup.dto.js';
import { RunErrorDto } from '../common/http/answers.dto.js';
import { PagingDto } from '../common/http/paging.dto.js';
import { RUN_STATUSES, type RunStatus } from '../jobs/run.js';

/** How a restore reaches its target. */
const RESTORE_MODES = ['new-database', 'url'] as const;
export type RestoreMode = (typeof RESTORE_MODES)[number];

/** Components that can be restored into a database. */
const RESTORABLE_COMPONENTS = ['database'] as const;

/** Where to restore to. */
export class RestoreTargetDto {
  /** `new-database`: a database that does not exist yet, on the source's server. `url`: an empty database anywhere. */
  @IsIn(RESTORE_MODES)
  @ApiProperty({ enum: RESTORE_MODES })
  mode!: RestoreMode;

  /** Name of the new database; for mode new-database. */
  @ValidateIf((target: RestoreTargetDto) => target.mode === 'new-database' || target.database !== undefined)
  @IsString()
  @Length(1, 63)
  @ApiPropertyOptional()
  database?: string;

  /** postgresql://user:password@host:5432/database of an empty database; for mode url; never given back. */
  @ValidateIf((target: RestoreTargetDto) => target.mode === 'url' || target.url !== undefined)
  @IsString()
  @MaxLength(2000)
  @ApiPropertyOptional()
  url?: string;
}

/** What to restore, and where to. */
export class CreateRestoreDto {
  @IsDefined()
  @ValidateNested()
  @Type(() => RestoreTargetDto)
  target!: RestoreTargetDto;

  /** Which components; `database` when left out. */
  @IsOptional()
  @IsArray()
  @ArrayNotEmpty()
  @ArrayUnique()
  @IsIn(RESTORABLE_COMPONENTS, { each: true })
  @ApiPropertyOptional({ enum: RESTORABLE_COMPONENTS, isArray: true })
  components?: 'database'[];

  /** Parallel jobs for indexes and constraints; mode new-database only. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(32)
  @ApiPropertyOptional({ default: 2 })
  jobs?: number;
}

/** Which restores to list. */
export class ListRestoresDto extends PagingDto {
  /** Only those in this state. */
  @IsOptional()
  @IsIn(RUN_STATUSES)
  @ApiPropertyOptional({ enum: RUN_STATUSES })
  status?: RunStatus;

  /** Only those of this backup. */
  @IsOptional()
  @IsString()
  @MaxLength(100)
  backup?: string;
}

/** Where a restore goes, without credentials. */
export class RestoreTargetViewDto {
  @ApiProperty({ enum: RESTORE_MODES })
  mode!: RestoreMode;
  host!: string;
  port!: number;
  database!: string;
}

/** A table whose rows differ from the manifest. */
export class DifferenceDto {
  schema!: string;
  table!: string;
  expectedRows!: number;
  /** Null when the table is not there. */
  @ApiProperty({ type: Number, nullable: true })
  actualRows!: number | null;
}

/** One run that brings a backup into a target. */
export class RestoreDto {
  id!: string;
  backupId!: string;
  @ApiProperty({ enum: RUN_STATUSES })
  status!: RunStatus;
  target!: RestoreTargetViewDto;
  components!: string[];
  /** Whether every table has as many rows as the manifest says; null until checked. */
  @ApiProperty({ type: Boolean, nullable: true })
  countsEqual!: boolean | null;
  differences!: DifferenceDto[];
  /** What could not be brought back as it was, such as owners whose roles do not exist. */
  warnings!: string[];
  createdAt!: string;
  @ApiProperty({ type: String, nullable: true })
  startedAt!: string | null;
  @ApiProperty({ type: String, nullable: true })
  finishedAt!: string | null;
  @ApiProperty({ type: Number, nullable: true })
  durationMs!: number | null;
  attempt!: number;
  @ApiProperty({ type: RunErrorDto, nullable: true })
  error!: RunErrorDto | null;
  @ApiProperty({ type: ProgressDto, nullable: true })
  progress!: ProgressDto | null;
}
