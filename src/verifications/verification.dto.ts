import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsInt, IsOptional, Max, Min } from 'class-validator';
import { RunDto } from '../jobs/run.dto.js';

/** The highest level that this version proves. */
export const HIGHEST_LEVEL = 2;

/** What to prove. */
export class CreateVerificationDto {
  /** Proof level: 0 stored, 1 intact (every stored byte is read and hashed), 2 readable (decrypted and parsed to the last byte, every table equals the manifest). */
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(HIGHEST_LEVEL)
  @ApiPropertyOptional({ default: HIGHEST_LEVEL, minimum: 0, maximum: HIGHEST_LEVEL })
  level?: number;
}

/** One thing that was looked at. */
export class CheckDto {
  level!: number;
  name!: string;
  ok!: boolean;
  /** What was found. */
  detail!: string;
}

/** One run that raises a backup's proof level. */
export class VerificationDto extends RunDto {
  backupId!: string;
  requestedLevel!: number;
  /** Highest level that was proven; null when none was, or until the end. */
  @ApiProperty({ type: Number, nullable: true })
  provenLevel!: number | null;
  checks!: CheckDto[];
}
