import { Body, Controller, Get, Param, Post, Query, Req, Res } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { BackupsService } from '../backups/backups.service.js';
import { Answers, AnswersRaw } from '../common/http/answers.js';
import { RawAnswer } from '../common/http/envelope.interceptor.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { goneSignal, sendEvents } from '../common/http/server-sent-events.js';
import { WaitDto } from '../jobs/run.dto.js';
import { RunWatcher } from '../jobs/run-watcher.js';
import { LendsIdentity, lentBy, LentIdentity } from '../keys/lent-identity.js';
import { LentIdentityDto } from '../keys/lent-identity.dto.js';
import { Certificates } from './certificates.js';
import { CertificateDto, CreateVerificationDto, VerificationDto } from './verification.dto.js';
import { toVerification } from './verification-view.js';
import { VerificationsService } from './verifications.service.js';

@ApiTags('Verifications')
@Controller()
export class VerificationsController {
  constructor(
    private readonly verifications: VerificationsService,
    private readonly watcher: RunWatcher,
    private readonly backups: BackupsService,
    private readonly certificates: Certificates,
  ) {}

  /** Queue a verification of a backup, which reads it anew from its destination; `wait` holds the answer until it ends. */
  @Post('backups/:id/verify')
  @RequirePermissions('backup:verify')
  @RateLimit('strict')
  @LendsIdentity()
  @Answers(VerificationDto, { errors: [404, 409, 422] })
  async create(
    @Caller() caller: Identity,
    @Param('id') id: string,
    @Body() dto: CreateVerificationDto,
    @Query() { wait }: WaitDto,
    @LentIdentity() headers: LentIdentityDto,
    @Req() request: Request,
  ): Promise<VerificationDto> {
    const verification = await this.verifications.create(caller, id, dto, lentBy(dto, headers));
    if (!wait) return toVerification(verification);
    await this.watcher.waitForEnd(caller.organizationId, 'verification', verification.id, wait, goneSignal(request));
    return toVerification(await this.verifications.get(caller.organizationId, verification.id));
  }

  /** One verification with its checks. */
  @Get('verifications/:id')
  @RequirePermissions('backup:read')
  @RateLimit('lenient')
  @Answers(VerificationDto, { errors: [404] })
  async get(@Caller() caller: Identity, @Param('id') id: string): Promise<VerificationDto> {
    return toVerification(await this.verifications.get(caller.organizationId, id));
  }

  /** Progress as server-sent events: `progress` whenever it changes, then one `end` with the verification. */
  @Get('verifications/:id/progress')
  @RequirePermissions('backup:read')
  @RateLimit('lenient')
  @RawAnswer()
  @AnswersRaw('text/event-stream', 'Events until the run ends', { errors: [404] })
  async progress(
    @Caller() caller: Identity,
    @Param('id') id: string,
    @Req() request: Request,
    @Res() response: Response,
  ): Promise<void> {
    await this.verifications.get(caller.organizationId, id);
    const shown = async () => toVerification(await this.verifications.get(caller.organizationId, id));
    await sendEvents(response, this.watcher.events(caller.organizationId, 'verification', id, goneSignal(request), shown));
  }

  /** Stop a queued or running verification; its drill is taken away, and nothing is said of the backup. */
  @Post('verifications/:id/cancel')
  @RequirePermissions('backup:verify')
  @RateLimit('lenient')
  @Answers(VerificationDto, { errors: [404, 409] })
  async cancel(@Caller() caller: Identity, @Param('id') id: string): Promise<VerificationDto> {
    return toVerification(await this.verifications.cancel(caller, id));
  }

  /** The signed certificate of a verification that has ended; docs/PROOF.md shows how to check it without this server. */
  @Get('verifications/:id/certificate')
  @RequirePermissions('backup:read')
  @RateLimit('lenient')
  @Answers(CertificateDto, { errors: [404, 409] })
  async certificate(@Caller() caller: Identity, @Param('id') id: string): Promise<CertificateDto> {
    const verification = await this.verifications.get(caller.organizationId, id);
    return this.certificates.of(verification, await this.backups.get(caller.organizationId, verification.backup_id));
  }
}
