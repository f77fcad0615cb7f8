import { ApiProperty } from '@nestjs/swagger';
import { IsNumber, IsOptional, Max, Min } from 'class-validator';
import { RunErrorDto } from '../common/http/answers.dto.js';
import { QueryNumber } from '../common/http/query-number.js';
import { RUN_STATUSES, type RunStatus } from './run.js';

/** How long an answer may wait for the end of the run. */
export class WaitDto {
  /** Seconds to hold the answer until the run ends; 0 answers at once. */
  @IsOptional()
  @QueryNumber()
  @IsNumber({ allowNaN: false })
  @Min(0)
  @Max(240)
  wait?: number;
}

/** How far a run is. */
export class ProgressDto {
  /** What is being done: preflight, dump, config, manifest, check, data, post-data, analyze, compare … */
  phase!: string;
  /** 0 to 100, by the best estimate of the size. */
  percent!: number;
  /** Plain bytes of this phase so far. */
  bytes!: number;
  tablesDone!: number;
  tablesTotal!: number;
  bytesPerSecond!: number;
  /** Seconds that are left, or null when it can't be told. */
  @ApiProperty({ type: Number, nullable: true })
  etaSeconds!: number | null;
}

/** What backups, restores and verifications have in common. */
export class RunDto {
  id!: string;
  @ApiProperty({ enum: RUN_STATUSES })
  status!: RunStatus;
  createdAt!: string;
  @ApiProperty({ type: String, nullable: true })
  startedAt!: string | null;
  @ApiProperty({ type: String, nullable: true })
  finishedAt!: string | null;
  /** From the first start to the end, in milliseconds; null until then. */
  @ApiProperty({ type: Number, nullable: true })
  durationMs!: number | null;
  /** Times it was begun. */
  attempt!: number;
  @ApiProperty({ type: RunErrorDto, nullable: true })
  error!: RunErrorDto | null;
  @ApiProperty({ type: ProgressDto, nullable: true })
  progress!: ProgressDto | null;
}
