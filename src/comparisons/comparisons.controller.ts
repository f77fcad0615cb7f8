import { Controller, Get, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { CachedRead } from '../common/cache/cached-read.interceptor.js';
import { Answers } from '../common/http/answers.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { LendsIdentity, LentIdentity } from '../keys/lent-identity.js';
import { LentIdentityDto } from '../keys/lent-identity.dto.js';
import { CompareBackupsDto, ComparisonDto } from './comparison.dto.js';
import { ComparisonsService } from './comparisons.service.js';

@ApiTags('Backups')
@Controller('backups/compare')
export class ComparisonsController {
  constructor(private readonly comparisons: ComparisonsService) {}

  /** Say what differs between two backups: tables, rows, schema, settings and roles. */
  @Get()
  @RequirePermissions('backup:read')
  @RateLimit('lenient')
  @CachedRead('medium', 'backups')
  @LendsIdentity()
  @Answers(ComparisonDto, { errors: [404, 409, 422] })
  async compare(
    @Caller() caller: Identity,
    @Query() ids: CompareBackupsDto,
    @LentIdentity() lent: LentIdentityDto,
  ): Promise<ComparisonDto> {
    return this.comparisons.compare(caller, ids, lent);
  }
}
