import { ApiProperty, ApiPropertyOptional, OmitType, PartialType } from '@nestjs/swagger';
import { IsBoolean, IsIn, IsInt, IsOptional, IsString, Length, Matches, Max, MaxLength, Min } from 'class-validator';
import { DESTINATION_KINDS, type DestinationKind, LOCAL_FOLDER, OBJECT_LOCKS, type ObjectLock } from './destination.js';

const SSE = ['AES256', 'aws:kms'] as const;

/**
 * A new destination: `bucket` and credentials for s3, `url` and `serviceRoleKey` for supabase, `remote` and
 * `rcloneConfig` for rclone, `folder` for local.
 */
export class CreateDestinationDto {
  /** Name, unique in the organization. */
  @IsString()
  @Length(1, 100)
  @Matches(/^[\p{L}\p{N}][\p{L}\p{N} ._-]*$/u, {
    message: 'name must begin with a letter or digit and hold only letters, digits, spaces, dots, dashes and underscores',
  })
  name!: string;

  /**
   * s3 is every S3-compatible bucket; supabase the Storage of a project; rclone every remote that the program rclone knows, for the
   * instance's owner; local a folder of its own below DATA_DIR/destinations, where a volume can be mounted.
   */
  @IsIn(DESTINATION_KINDS)
  @ApiProperty({ enum: DESTINATION_KINDS })
  kind!: DestinationKind;

  /** Whether backups that name no destination go there. When no destination has it, they go to `local`. */
  @IsOptional()
  @IsBoolean()
  isDefault?: boolean;

  /** Name of the folder; for local. */
  @IsOptional()
  @Matches(LOCAL_FOLDER, { message: 'folder must be lower-case letters, digits and dashes' })
  folder?: string;

  /** For s3; for supabase `backstay` when left out, and made when it is missing. */
  @IsOptional()
  @Matches(/^[A-Za-z0-9][A-Za-z0-9._-]{1,221}$/, { message: 'bucket must be the name of a bucket' })
  bucket?: string;

  /** Region of the bucket; us-east-1 when left out, `auto` for R2. */
  @IsOptional()
  @Matches(/^[a-z0-9-]{1,60}$/, { message: 'region must be such as eu-central-1' })
  region?: string;

  /** URL of the store; left out for AWS itself. https, unless OUTBOUND_ALLOW lists it. */
  @IsOptional()
  @IsString()
  @MaxLength(2048)
  endpoint?: string;

  /** URL of the project, such as https://abcdefghijklmnopqrst.supabase.co; for supabase. https, unless OUTBOUND_ALLOW lists it. */
  @IsOptional()
  @IsString()
  @MaxLength(2048)
  url?: string;

  /** Remote and folder, such as `drive:backups`; for rclone. */
  @IsOptional()
  @IsString()
  @MaxLength(1000)
  @Matches(/^[A-Za-z0-9_][A-Za-z0-9_ .+@-]*:[^\n\0]*$/, {
    message: 'remote must be the name of a remote, a colon and a folder, such as drive:backups',
  })
  remote?: string;

  /** Content of the rclone.conf that describes the remote (`rclone config show`); for rclone. Encrypted in the catalog, and never given back. */
  @IsOptional()
  @IsString()
  @Length(1, 100_000)
  rcloneConfig?: string;

  /** Service role key or secret key of the project; for supabase. Encrypted in the catalog, and never given back. */
  @IsOptional()
  @IsString()
  @Length(1, 2000)
  serviceRoleKey?: string;

  /** Folder in the bucket below which everything lies. */
  @IsOptional()
  @Matches(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$/, { message: 'prefix must be a path of letters, digits, dots and dashes' })
  prefix?: string;

  /** Whether the bucket stands in the path of URLs instead of before the host; true with an endpoint, unless set. */
  @IsOptional()
  @IsBoolean()
  forcePathStyle?: boolean;

  @IsOptional()
  @IsString()
  @Length(1, 200)
  accessKeyId?: string;

  /** Encrypted in the catalog, and never given back. */
  @IsOptional()
  @IsString()
  @Length(1, 500)
  secretAccessKey?: string;

  /** Encryption by the store, beside our own. */
  @IsOptional()
  @IsIn(SSE)
  @ApiPropertyOptional({ enum: SSE })
  serverSideEncryption?: (typeof SSE)[number];

  /** Key of `aws:kms`. */
  @IsOptional()
  @IsString()
  @Length(1, 500)
  kmsKeyId?: string;

  /** Such as STANDARD_IA; classes that have to be thawed can't be read back and are refused by the first test. */
  @IsOptional()
  @Matches(/^[A-Z0-9_]{1,40}$/, { message: 'storageClass must be such as STANDARD_IA' })
  storageClass?: string;

  /** Size of each part of an upload. Three of them are held in memory for each upload. */
  @IsOptional()
  @IsInt()
  @Min(5)
  @Max(512)
  @ApiPropertyOptional({ default: 16, minimum: 5, maximum: 512 })
  partMiB?: number;

  /**
   * Lock the objects of each completed backup in the bucket, so that nobody removes or replaces them for `objectLockDays`: `governance`
   * (but for who may bypass it) or `compliance` (nobody, no way back). null turns it off for later backups. For s3; tried on a canary, and
   * refused where locks do not hold.
   */
  @IsOptional()
  @IsIn([...OBJECT_LOCKS, null])
  @ApiPropertyOptional({ enum: OBJECT_LOCKS, nullable: true })
  objectLock?: ObjectLock | null;

  /** For how many days from its end a backup is locked; needed with `objectLock`. Existing locks stay as they are. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(365)
  @ApiPropertyOptional({ minimum: 1, maximum: 365 })
  objectLockDays?: number;
  /** Artifacts that are larger go there as several objects of this size; for s3 (a thousand parts when left out, which every store takes) and supabase (58 GiB; give it where the project's file size limit is lower). */
  @IsOptional()
  @IsInt()
  @Min(5)
  @Max(5 * 1024 * 1024)
  @ApiPropertyOptional({ type: Number, minimum: 5, maximum: 5 * 1024 * 1024 })
  segmentMiB?: number;
}

/** What is to change; fields left out stay as they are. The kind, and where it lies, can't change: backups lie there. */
export class UpdateDestinationDto extends PartialType(
  OmitType(CreateDestinationDto, ['kind', 'bucket', 'prefix', 'folder', 'remote'] as const),
) {}

/** What the last test found. */
export class CapabilitiesDto {
  /** Whether a write can be made to fail where the key is taken. */
  conditionalWrite!: boolean;
  /** Whether objects can be locked until a date: a locked canary could not be removed. */
  objectLock!: boolean;
  /** Whether a part of an object can be read. */
  range!: boolean;
  /** Whether a listing shows what was just written, and no more what was just removed. */
  strongList!: boolean;
}

/** A destination, without its secrets. */
export class DestinationDto {
  id!: string;
  name!: string;
  @ApiProperty({ enum: DESTINATION_KINDS })
  kind!: DestinationKind;
  isDefault!: boolean;
  /** Everything that is no secret, such as bucket and region. */
  @ApiProperty({ type: 'object', additionalProperties: true })
  config!: Record<string, unknown>;
  hasSecret!: boolean;
  /** The setting that made it, such as S3_BUCKET; null for those made here. */
  @ApiProperty({ type: String, nullable: true })
  madeBySetting!: string | null;
  @ApiProperty({ type: CapabilitiesDto, nullable: true })
  capabilities!: CapabilitiesDto | null;
  @ApiProperty({ type: String, nullable: true })
  testedAt!: string | null;
  @ApiProperty({ type: String, nullable: true })
  createdAt!: string | null;
  @ApiProperty({ type: String, nullable: true })
  updatedAt!: string | null;
}

/** What a test of a destination found; a canary object was written, read and removed. */
export class DestinationTestDto {
  ok!: boolean;
  /** What is wrong, and how to mend it. */
  @ApiProperty({ type: String, nullable: true })
  error!: string | null;
  @ApiProperty({ type: CapabilitiesDto, nullable: true })
  capabilities!: CapabilitiesDto | null;
  /** One small write. */
  @ApiProperty({ type: Number, nullable: true })
  latencyMs!: number | null;
  /** Writing 8 MiB. */
  @ApiProperty({ type: Number, nullable: true })
  writeBytesPerSecond!: number | null;
  @ApiProperty({ type: Number, nullable: true })
  readBytesPerSecond!: number | null;
  /** Bytes that still fit; null where that can't be known. */
  @ApiProperty({ type: Number, nullable: true })
  freeBytes!: number | null;
}
