import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsISO8601, IsOptional, Matches } from 'class-validator';
import { AuditCheckDto } from '../audit/audit.dto.js';

const REPORT_FORMATS = ['json', 'csv', 'pdf'] as const;
export type ReportFormat = (typeof REPORT_FORMATS)[number];

const MOMENT = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/;
const MOMENT_MESSAGE = '$property must be a date or a time with its zone, such as 2026-01-31 or 2026-01-31T14:30:00Z';

/** Of which time, and in which form. */
export class ComplianceQueryDto {
  /** Beginning of the period; 30 days before its end when left out. */
  @IsOptional()
  @IsISO8601({ strict: true })
  @Matches(MOMENT, { message: MOMENT_MESSAGE })
  from?: string;

  /** End of the period, itself not in it; now when left out or later than now. At most 366 days after `from`. */
  @IsOptional()
  @IsISO8601({ strict: true })
  @Matches(MOMENT, { message: MOMENT_MESSAGE })
  to?: string;

  /** Form of the answer; when left out, the first of these that `Accept` names, else JSON. */
  @IsOptional()
  @IsIn(REPORT_FORMATS)
  @ApiPropertyOptional({ enum: REPORT_FORMATS })
  format?: ReportFormat;
}

const VERDICTS = ['met', 'missed', 'unknown'] as const;

/** What a schedule should have done, and has. */
export class ScheduleComplianceDto {
  id!: string;
  name!: string;
  cron!: string;
  timezone!: string;
  enabled!: boolean;
  /** Slots that should have a completed backup. */
  expected!: number;
  completed!: number;
  missed!: number;
  /** The first ten of the missed ones. */
  firstMissed!: string[];
  /** Slots are counted from then on: later than the period's beginning where there are too many. */
  countedFrom!: string;
}

/** Whether what was promised to run by the clock did. */
export class SchedulesComplianceDto {
  /** Null without a schedule that should have run. */
  @ApiProperty({ type: Boolean, nullable: true })
  met!: boolean | null;
  schedules!: ScheduleComplianceDto[];
}

/** Recovery point: how much would have been lost at the worst moment. */
export class RpoComplianceDto {
  /** As declared in the source's `targets`. */
  @ApiProperty({ type: Number, nullable: true })
  targetMinutes!: number | null;
  /** Age of what the newest finished backup held, at the worst moment of the period. */
  @ApiProperty({ type: Number, nullable: true })
  measuredMs!: number | null;
  /** As of when that backup was, or since when there was none. */
  @ApiProperty({ type: String, nullable: true })
  worstFrom!: string | null;
  @ApiProperty({ type: String, nullable: true })
  worstTo!: string | null;
  /** Whole backups of the database that were finished in the period. */
  restorePoints!: number;
  @ApiProperty({ type: Boolean, nullable: true })
  met!: boolean | null;
}

/** Recovery time: how long it took to restore a whole database. */
export class RtoComplianceDto {
  @ApiProperty({ type: Number, nullable: true })
  targetMinutes!: number | null;
  /** The longest of the period; null when none was measured. */
  @ApiProperty({ type: Number, nullable: true })
  measuredMs!: number | null;
  /** The run that it was measured in: a restore, or a verification with a drill. */
  @ApiProperty({ type: String, nullable: true })
  measuredBy!: string | null;
  /** How many restores and drills of a whole database there were. */
  measurements!: number;
  @ApiProperty({ type: Boolean, nullable: true })
  met!: boolean | null;
}

/** Backups of the period. */
export class BackupCountsDto {
  completed!: number;
  failed!: number;
  canceled!: number;
  /** Found to be broken since. */
  broken!: number;
  /** Completed of those that completed or failed, 0 to 1; null when there were none. */
  @ApiProperty({ type: Number, nullable: true })
  successRate!: number | null;
}

/** Verifications of the period. */
export class VerificationCountsDto {
  completed!: number;
  failed!: number;
  /** The highest level that was proven. */
  @ApiProperty({ type: Number, nullable: true })
  highestLevel!: number | null;
  /** Restore drills, levels 3 and above. */
  drills!: number;
}

/** A backup, and how far it is proven. */
export class ProvenBackupDto {
  id!: string;
  finishedAt!: string;
  level!: number;
  @ApiProperty({ type: String, nullable: true })
  provenAt!: string | null;
  broken!: boolean;
}

/** A policy in words. */
export class RetentionRuleDto {
  name!: string;
  rules!: string;
}

/** What is kept, and what was removed by whom. */
export class RetentionComplianceDto {
  policies!: RetentionRuleDto[];
  /** Whole backups that are there now. */
  kept!: number;
  @ApiProperty({ type: String, nullable: true })
  oldestAt!: string | null;
  /** In the period, by a policy's rule. */
  removedByPolicy!: number;
  /** In the period, whole ones, by a person. */
  removedByHand!: number;
  /** Let go by the policies, and still there. */
  waitingForRemoval!: number;
  /** Whether nothing whole was removed but by a policy; null without a policy. */
  @ApiProperty({ type: Boolean, nullable: true })
  met!: boolean | null;
}

/** To whom the backups of the period are encrypted; none is ever stored otherwise. */
export class EncryptionComplianceDto {
  /** Always `age`. */
  method!: string;
  /** The age public keys. */
  recipients!: string[];
  /** Completed backups whose keys are not in the catalog, since an older version made them; their manifest names them. */
  notRecorded!: number;
}

/** Who has restored what. */
export class RestoreRecordDto {
  id!: string;
  backupId!: string;
  at!: string;
  status!: string;
  mode!: string;
  host!: string;
  database!: string;
  /** Null where the server does it by itself. */
  @ApiProperty({ type: String, nullable: true })
  by!: string | null;
  @ApiProperty({ type: Number, nullable: true })
  durationMs!: number | null;
  @ApiProperty({ type: Boolean, nullable: true })
  countsEqual!: boolean | null;
}

/** Everything about one source. */
export class SourceComplianceDto {
  id!: string;
  name!: string;
  /** It was deleted in the period, or after it. */
  deleted!: boolean;
  /** `missed` when anything that was promised was not held, or the newest backup is broken; `unknown` when nothing is promised. */
  @ApiProperty({ enum: VERDICTS })
  verdict!: (typeof VERDICTS)[number];
  schedule!: SchedulesComplianceDto;
  rpo!: RpoComplianceDto;
  rto!: RtoComplianceDto;
  backups!: BackupCountsDto;
  verifications!: VerificationCountsDto;
  /** The newest completed backup that is still there. */
  @ApiProperty({ type: ProvenBackupDto, nullable: true })
  newest!: ProvenBackupDto | null;
  /** The newest of those that are proven furthest. */
  @ApiProperty({ type: ProvenBackupDto, nullable: true })
  newestProven!: ProvenBackupDto | null;
  retention!: RetentionComplianceDto;
  encryption!: EncryptionComplianceDto;
  /** The newest 100 of the period. */
  restores!: RestoreRecordDto[];
  restoreCount!: number;
}

/** Whose report it is. */
export class ReportOrganizationDto {
  id!: string;
  name!: string;
}

/** Evidence of what was promised and what was held, in one period. */
export class ComplianceReportDto {
  organization!: ReportOrganizationDto;
  installation!: string;
  /** Version of the server. */
  backstay!: string;
  from!: string;
  /** Itself not in the period. */
  to!: string;
  createdAt!: string;
  createdBy!: string;
  /** Key that signs manifests and certificates. */
  signingKey!: string;
  /** Of the audit trail's chain, as of now. */
  audit!: AuditCheckDto;
  sources!: SourceComplianceDto[];
}
