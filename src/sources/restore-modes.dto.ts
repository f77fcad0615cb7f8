import { ApiProperty } from '@nestjs/swagger';

/** How a restore reaches its target. */
export const RESTORE_MODES = ['new-database', 'url', 'swap', 'in-place', 'side-schema'] as const;
export type RestoreMode = (typeof RESTORE_MODES)[number];

/** A restore mode that can't be used. */
export class UnusableModeDto {
  @ApiProperty({ enum: RESTORE_MODES })
  mode!: RestoreMode;
  /** What is in the way, and how to mend it. */
  why!: string;
}

/** Which restore modes the source's role can use. */
export class RestoreModesDto {
  @ApiProperty({ enum: RESTORE_MODES, isArray: true })
  usableModes!: RestoreMode[];
  unusableModes!: UnusableModeDto[];
}
