import { Body, Controller, Param, Post } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers } from '../common/http/answers.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { AdoptDto, AdoptionDto } from './adopt.dto.js';
import { AdoptionService } from './adoption.js';

@ApiTags('Destinations')
@Controller('destinations')
export class AdoptController {
  constructor(private readonly adoption: AdoptionService) {}

  /** Take in the backups that lie there, also those of a server that is lost; answers when it is done, and can be repeated. */
  @Post(':id/adopt')
  @RequirePermissions('destination:manage')
  @RateLimit('strict')
  @Answers(AdoptionDto, { errors: [404, 409, 422, 503] })
  adopt(@Caller() caller: Identity, @Param('id') id: string, @Body() dto: AdoptDto): Promise<AdoptionDto> {
    return this.adoption.adopt(caller, id, dto);
  }
}
