import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsOptional } from 'class-validator';

/** What the kit is to have in it. */
export class RecoveryKitDto {
  /** `true` puts the destinations' credentials into the kit too. */
  @IsOptional()
  @IsIn(['true', 'false'])
  @ApiPropertyOptional({ enum: ['true', 'false'], default: 'false' })
  secrets?: 'true' | 'false';
}
