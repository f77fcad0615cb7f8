import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  IsIn,
  IsInt,
  IsObject,
  IsOptional,
  IsString,
  Length,
  Matches,
  Max,
  MaxLength,
  Min,
  ValidateNested,
} from 'class-validator';
import { BACKUP_TYPES, type BackupType } from '../backups/backup.js';
import { BackupDto } from '../backups/backup.dto.js';
import { BACKUP_ID } from '../common/identifiers.js';
import { SIGNATURE_MODES, type SignatureMode } from '../config/webhook-settings.js';

/** What is known of a backup that was made elsewhere. */
export class ReportMetadataDto {
  /** Number of tables. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(10_000_000)
  tables?: number;

  /** Number of rows. */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(Number.MAX_SAFE_INTEGER)
  records?: number;

  /** How long it took: `15s`, `1m 30s`, `00:01:30`, `PT15S`; a bare number is seconds. */
  @IsOptional()
  @ApiPropertyOptional({ oneOf: [{ type: 'string' }, { type: 'number' }], example: '15s' })
  duration?: string | number;

  /** How large it is: bytes, or a text such as `12MB` or `1.5 GiB`. */
  @IsOptional()
  @ApiPropertyOptional({ oneOf: [{ type: 'string' }, { type: 'number' }], example: 1048576 })
  size?: string | number;
}

/** A backup that was made elsewhere has ended. */
export class ReportBackupDto {
  /** `backup_2025-12-22_14-30-00` in UTC, with or without a suffix; the same id twice is done once. */
  @IsString()
  @Matches(BACKUP_ID, { message: 'backupId must be such as backup_2025-12-22_14-30-00 or backup_2025-12-22_14-30-00_k7m2qd' })
  backupId!: string;

  /** How it ended. */
  @IsIn(['completed', 'failed'])
  @ApiProperty({ enum: ['completed', 'failed'] })
  status!: 'completed' | 'failed';

  @IsOptional()
  @IsObject()
  @ValidateNested()
  @Type(() => ReportMetadataDto)
  metadata?: ReportMetadataDto;

  /** Id or name of the source that it is of, when it is one of this organization. */
  @IsOptional()
  @IsString()
  @Length(1, 100)
  source?: string;

  /** What it holds. */
  @IsOptional()
  @IsIn(BACKUP_TYPES)
  @ApiPropertyOptional({ enum: BACKUP_TYPES, default: 'full' })
  type?: BackupType;

  /** A few words for people. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  label?: string;

  /** Why it has failed. */
  @IsOptional()
  @IsString()
  @MaxLength(2000)
  error?: string;
}

/** The backup as it was recorded. */
export class ReportedBackupDto extends BackupDto {
  /** Whether this id had been reported before, so that nothing was done now. */
  duplicate!: boolean;
}

/** What is known of the secret for reports; never the secret itself. */
export class InboundSecretDto {
  /** Whether the organization has one of its own. */
  exists!: boolean;
  /** Whether `WEBHOOK_SECRET` is taken as well. */
  settingApplies!: boolean;
  /** The ways to prove a report that are taken (`WEBHOOK_SIGNATURE_MODES`). */
  @ApiProperty({ enum: SIGNATURE_MODES, isArray: true })
  modes!: SignatureMode[];
  @ApiProperty({ type: String, nullable: true })
  createdAt!: string | null;
  @ApiProperty({ type: String, nullable: true })
  rotatedAt!: string | null;
  /** Until when the secret before the last rotation is taken too. */
  @ApiProperty({ type: String, nullable: true })
  previousSecretUntil!: string | null;
}

/** With the secret, which is shown only now. */
export class InboundSecretWithSecretDto extends InboundSecretDto {
  /** Key of the HMAC, secret of Standard Webhooks, or sent as it is. */
  secret!: string;
}
