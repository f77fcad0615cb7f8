import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';

const HEALTH_STATES = ['healthy', 'degraded', 'unhealthy'] as const;
export type HealthState = (typeof HEALTH_STATES)[number];

/** A probe's answer. */
export class ProbeDto {
  /** Always `ok`; when it is not, the answer is an error. */
  status!: string;
}

/** One part of the server. */
export class HealthPartDto {
  @ApiProperty({ enum: HEALTH_STATES })
  status!: HealthState;
  /** What was found, and how to mend it when it is not well. */
  message!: string;
  /** Figures of this part. */
  @ApiPropertyOptional({ type: 'object', additionalProperties: true })
  details?: Record<string, unknown>;
}

/** Each part of the server. */
export class HealthPartsDto {
  catalog!: HealthPartDto;
  queue!: HealthPartDto;
  destinations!: HealthPartDto;
  tools!: HealthPartDto;
  disk!: HealthPartDto;
  sources!: HealthPartDto;
  /** Channels whose messages do not get through. */
  notifications!: HealthPartDto;
  keys!: HealthPartDto;
}

/** How the server is; the parts are shown to those with system:status. */
export class HealthDto {
  @ApiProperty({ enum: HEALTH_STATES })
  status!: HealthState;
  version!: string;
  /** Milliseconds since this process started. */
  uptimeMs!: number;
  /** When it was looked at; answers are kept for 5 seconds at most. */
  checkedAt!: string;
  @ApiPropertyOptional({ type: HealthPartsDto })
  parts?: HealthPartsDto;
}
