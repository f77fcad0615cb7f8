import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayNotEmpty,
  IsArray,
  IsBoolean,
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
import { PagingDto } from '../common/http/paging.dto.js';
import { LentIdentityDto } from '../keys/lent-identity.dto.js';
import { RunDto } from '../jobs/run.dto.js';
import { RUN_STATUSES, type RunStatus } from '../jobs/run.js';
import { RESTORE_MODES, type RestoreMode, RestoreModesDto } from '../sources/restore-modes.dto.js';

/** Components that can be restored. */
const RESTORABLE_COMPONENTS = ['database', 'storage'] as const;
export type RestorableComponent = (typeof RESTORABLE_COMPONENTS)[number];

/** Where to restore to. */
export class RestoreTargetDto {
  /**
   * `new-database`: a database that does not exist yet, on the source's server. `url`: an empty database anywhere. `swap`: the source's
   * database, replaced by one that is built beside it and checked first. `in-place`: the source's database itself, in one transaction,
   * after a safety backup. `side-schema`: chosen tables in a new schema of the source's database, beside the living ones.
   * The component `storage` goes by `in-place` into the source's own project, and by `url` into any other.
   */
  @IsIn(RESTORE_MODES)
  @ApiProperty({ enum: RESTORE_MODES })
  mode!: RestoreMode;

  /** Name of the new database; for mode new-database. */
  @ValidateIf((target: RestoreTargetDto) => target.mode === 'new-database' || target.database !== undefined)
  @IsString()
  @Length(1, 63)
  @ApiPropertyOptional()
  database?: string;

  /**
   * postgresql://user:password@host:5432/database of an empty database, or, for the component `storage`, the URL of a Supabase project;
   * for mode url; never given back.
   */
  @ValidateIf((target: RestoreTargetDto) => target.mode === 'url' || target.url !== undefined)
  @IsString()
  @MaxLength(2000)
  @ApiPropertyOptional()
  url?: string;

  /** Service role key of the project; for the component `storage` in mode url; never given back. */
  @IsOptional()
  @IsString()
  @Length(1, 2000)
  serviceRoleKey?: string;

  /** Hours that the replaced database is kept under another name; for mode swap. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(720)
  @ApiPropertyOptional({ default: 24 })
  keepPreviousHours?: number;

  /** Name of the source, typed by the one who knows that its database is overwritten; for mode in-place. */
  @IsOptional()
  @IsString()
  @MaxLength(100)
  confirm?: string;
}

/** What to restore, and where to. A part of a backup brings along what it needs: keys, indexes, sequences, types, policies, rights. */
export class CreateRestoreDto extends LentIdentityDto {
  @IsDefined()
  @ValidateNested()
  @Type(() => RestoreTargetDto)
  target!: RestoreTargetDto;

  /** Which component: `database` (when left out) or `storage`; one restore takes one of them. */
  @IsOptional()
  @IsArray()
  @ArrayNotEmpty()
  @ArrayMaxSize(1, { message: 'components must name one component; restore the other by a restore of its own' })
  @IsIn(RESTORABLE_COMPONENTS, { each: true })
  @ApiPropertyOptional({ enum: RESTORABLE_COMPONENTS, isArray: true })
  components?: RestorableComponent[];

  /** Exact names of schemas: only these. */
  @IsOptional()
  @IsArray()
  @ArrayNotEmpty()
  @ArrayMaxSize(1000)
  @IsString({ each: true })
  @Length(1, 63, { each: true })
  schemas?: string[];

  /** Only these tables or views, as `schema.table` or `table` (in `public`); quote a part with a dot in it. */
  @IsOptional()
  @IsArray()
  @ArrayNotEmpty()
  @ArrayMaxSize(1000)
  @IsString({ each: true })
  @Length(1, 140, { each: true })
  tables?: string[];

  /** No rows; modes new-database and url. */
  @IsOptional()
  @IsBoolean()
  schemaOnly?: boolean;

  /** Rows alone, into tables that are there; mode url. */
  @IsOptional()
  @IsBoolean()
  dataOnly?: boolean;

  /** Create roles that the backup knows and the target lacks; with their passwords where the backup was made with `includePasswords`. */
  @IsOptional()
  @IsBoolean()
  createRoles?: boolean;

  /**
   * Go on after errors of pg_restore, and list every one in `warnings`; mode new-database. For backups that restore no other way: what
   * comes out is not the whole backup.
   */
  @IsOptional()
  @IsBoolean()
  @ApiPropertyOptional({ default: false })
  continueOnErrors?: boolean;

  /** Answer with the plan, and change nothing. */
  @IsOptional()
  @IsBoolean()
  dryRun?: boolean;

  /**
   * How much is done at the same time, in modes new-database and swap: tables are loaded over as many sessions (four at most, each of
   * which reads the archive for itself), then indexes and constraints are made by as many jobs. The other modes work in one transaction,
   * and so in one session. 1 reads the archive once.
   */
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
  /** The new schema; for mode side-schema. */
  @ApiPropertyOptional()
  schema?: string;
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

/** Locks that a restore in one transaction takes, and what the target's server has room for. */
export class LocksDto {
  needed!: number;
  capacity!: number;
}

/** Disk that a restore takes, and what is free. */
export class RestoreSpaceDto {
  /** A rough estimate: the rows, and half as much for indexes and row headers. */
  neededBytes!: number;
  /** Null where the target's server is on another machine, or does not tell. */
  @ApiProperty({ type: Number, nullable: true })
  freeBytes!: number | null;
}

/** What a restore would do, and what stands against it. */
export class RestorePlanDto extends RestoreModesDto {
  /** Whether the restore can be done as asked for. */
  ok!: boolean;
  /** Objects that would be made, by kind; for the component `storage`, its buckets and objects. */
  @ApiProperty({ type: 'object', additionalProperties: { type: 'integer' } })
  objects!: Record<string, number>;
  tables!: number;
  rows!: number;
  /** Bytes of the dump that would be read. */
  plainBytes!: number;
  /** Bytes of rows that would be loaded. */
  dataBytes!: number;
  space!: RestoreSpaceDto;
  /** A rough estimate by the size alone. */
  estimatedMs!: number;
  clientProgram!: string;
  archiveServerVersion!: string;
  targetServerVersion!: string;
  missingRoles!: string[];
  missingExtensions!: string[];
  /** Tablespaces of the source; what lay in them goes to the default one. */
  tablespaces!: string[];
  /** Only for the modes that work in one transaction. */
  @ApiProperty({ type: LocksDto, nullable: true })
  locks!: LocksDto | null;
  /** Relations that would be dropped and made anew, a hundred at most. */
  wouldReplace!: string[];
  /** What depends on these and is not in the backup. */
  dependents!: string[];
  /** Sessions in the target's database: a swap ends them, a restore in place waits for what they hold. */
  sessions!: string[];
  /** What keeps the restore from being done, each with how to mend it. */
  problems!: string[];
  warnings!: string[];
}

/** One run that brings a backup into a target. */
export class RestoreDto extends RunDto {
  backupId!: string;
  target!: RestoreTargetViewDto;
  components!: string[];
  /** Whether every table has as many rows as the manifest says; null until checked. */
  @ApiProperty({ type: Boolean, nullable: true })
  countsEqual!: boolean | null;
  differences!: DifferenceDto[];
  /** What could not be brought back as it was, such as owners whose roles do not exist. */
  warnings!: string[];
  /** The backup that was made before an in-place restore changed anything. */
  @ApiProperty({ type: String, nullable: true })
  safetyBackupId!: string | null;
  /** Name of the database that a swap replaced, while it is kept. */
  @ApiProperty({ type: String, nullable: true })
  previousDatabase!: string | null;
  /** When that database will be dropped. */
  @ApiProperty({ type: String, nullable: true })
  previousUntil!: string | null;
  /** When the swap was taken back. */
  @ApiProperty({ type: String, nullable: true })
  revertedAt!: string | null;
}
