import { Controller, Get, Query, Res } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { RequirePermissions } from '../auth/access.js';
import { actorOf, Caller, type Identity } from '../auth/identity.js';
import { Answers, AnswersRaw } from '../common/http/answers.js';
import { type CursorPage, RawAnswer } from '../common/http/envelope.interceptor.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { AuditTrail } from './audit-trail.js';
import { AuditCheckDto, AuditEntryDto, AuditFilterDto, ListAuditDto } from './audit.dto.js';
import { AuditService } from './audit.service.js';

@ApiTags('Audit')
@Controller('audit')
export class AuditController {
  constructor(
    private readonly trail: AuditTrail,
    private readonly audit: AuditService,
  ) {}

  /** The audit trail, the newest first. */
  @Get()
  @RequirePermissions('audit:read')
  @RateLimit('lenient')
  @Answers(AuditEntryDto, { cursor: true })
  list(@Caller() caller: Identity, @Query() filter: ListAuditDto): Promise<CursorPage<AuditEntryDto>> {
    return this.trail.list(caller.organizationId, filter);
  }

  /** The audit trail as lines of JSON, the oldest first; `hashed` is the text that each hash is of. */
  @Get('export')
  @RequirePermissions('audit:read')
  @RateLimit('strict')
  @RawAnswer()
  @AnswersRaw('application/x-ndjson', 'One entry a line')
  async export(@Caller() caller: Identity, @Query() filter: AuditFilterDto, @Res() response: Response): Promise<void> {
    const { organizationId } = caller;
    const resource = { kind: 'audit', id: organizationId };
    await this.audit.record(undefined, { organizationId, actor: actorOf(caller), action: 'audit.exported', resource });
    response.setHeader('Content-Type', 'application/x-ndjson; charset=utf-8');
    response.setHeader('Content-Disposition', 'attachment; filename="audit.ndjson"');
    await pipeline(Readable.from(this.trail.lines(organizationId, filter)), response);
  }

  /** Compute the chain anew, and say where it breaks. */
  @Get('check')
  @RequirePermissions('audit:read')
  @RateLimit('strict')
  @Answers(AuditCheckDto)
  check(@Caller() caller: Identity): Promise<AuditCheckDto> {
    return this.trail.check(caller.organizationId);
  }
}
