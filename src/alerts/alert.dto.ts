import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import { IsBoolean, IsOptional, IsString, MaxLength } from 'class-validator';
import { PagingDto } from '../common/http/paging.dto.js';
import { ALERT_RULES, type AlertRule } from './alert-rules.js';
import type { AlertRow } from './alerts.repository.js';

/** Which alerts. */
export class ListAlertsDto extends PagingDto {
  /** Only those that are open, or only those that are closed. */
  @IsOptional()
  @Transform(({ value }) => (value === 'true' ? true : value === 'false' ? false : value))
  @IsBoolean()
  @ApiPropertyOptional({ type: Boolean })
  open?: boolean;

  /** Id or name of a source. */
  @IsOptional()
  @IsString()
  @MaxLength(200)
  source?: string;
}

/** What was found on looking. */
export class AcknowledgeAlertDto {
  /** Why what is missing is not missed, for those who read it later. */
  @IsOptional()
  @IsString()
  @MaxLength(1000)
  note?: string;
}

/** Id and name of the source of an alert. */
class AlertSourceDto {
  id!: string;
  name!: string;
}

/** Something that a backup lacks and the one before it had. While one is open, retention removes nothing of its source. */
export class AlertDto {
  id!: string;
  source!: AlertSourceDto;
  @ApiProperty({ enum: ALERT_RULES })
  rule!: AlertRule;
  /** What is missing, as a sentence. */
  message!: string;
  /** Tables, rows or bytes in the earlier backup. */
  before!: number;
  after!: number;
  /** Tables that are gone or emptied; the first twenty. */
  tables!: string[];
  /** The backup that had it. */
  baseBackupId!: string;
  /** The newest backup that lacks it. */
  backupId!: string;
  raisedAt!: string;
  @ApiProperty({ type: String, nullable: true })
  closedAt!: string | null;
  /** `acknowledged` by somebody, or `recovered`: a later backup had it again. */
  @ApiProperty({ enum: ['acknowledged', 'recovered'], nullable: true })
  closedBy!: 'acknowledged' | 'recovered' | null;
  @ApiProperty({ type: String, nullable: true })
  note!: string | null;
}

export function toAlert(row: AlertRow): AlertDto {
  return {
    id: row.id,
    source: { id: row.source_id, name: row.source_name },
    rule: row.rule as AlertRule,
    message: row.detail.message,
    before: row.detail.before,
    after: row.detail.after,
    tables: row.detail.tables,
    baseBackupId: row.base_backup_id,
    backupId: row.backup_id,
    raisedAt: row.raised_at.toISOString(),
    closedAt: row.closed_at?.toISOString() ?? null,
    closedBy: row.closed_by as AlertDto['closedBy'],
    note: row.note,
  };
}
