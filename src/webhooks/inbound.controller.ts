import { Body, Controller, Delete, Get, Post, Req, UseGuards } from '@nestjs/common';
import { ApiHeader, ApiTags } from '@nestjs/swagger';
import { Public, RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { toBackup } from '../backups/backup-view.js';
import { Errors } from '../common/errors.js';
import { Answers } from '../common/http/answers.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { InboundGuard, type InboundRequest } from './inbound.guard.js';
import { InboundSecretDto, InboundSecretWithSecretDto, ReportBackupDto, ReportedBackupDto } from './inbound.dto.js';
import { InboundSecrets } from './inbound-secrets.js';
import { InboundService } from './inbound.service.js';
import { RotateSecretDto } from './webhook.dto.js';

@ApiTags('Webhooks')
@Controller('webhooks')
export class InboundController {
  constructor(
    private readonly inbound: InboundService,
    private readonly secrets: InboundSecrets,
  ) {}

  /** Report a backup that was made elsewhere; proven by a signature or the shared secret instead of a key. */
  @Post('backup-complete')
  @Public()
  @RateLimit('none')
  @UseGuards(InboundGuard)
  @ApiHeader({
    name: 'x-webhook-signature',
    required: false,
    description:
      '`sha256=` and the HMAC-SHA256 of the body in hexadecimal; or the secret itself; or the headers of Standard Webhooks',
  })
  @Answers(ReportedBackupDto, { public: true, errors: [401, 409] })
  async report(@Req() { inbound }: InboundRequest, @Body() dto: ReportBackupDto): Promise<ReportedBackupDto> {
    if (!inbound) throw Errors.unauthorized();
    const { backup, isNew } = await this.inbound.report(inbound, dto);
    return { ...toBackup(backup), duplicate: !isNew };
  }

  /** What is known of the organization's secret for reports. */
  @Get('inbound-secret')
  @RequirePermissions('webhook:manage')
  @Answers(InboundSecretDto)
  show(@Caller() caller: Identity): Promise<InboundSecretDto> {
    return this.secrets.show(caller.organizationId);
  }

  /** Make the organization's secret for reports, or a new one; the answer holds it, and it is not shown again. */
  @Post('inbound-secret/rotate')
  @RequirePermissions('webhook:manage')
  @Answers(InboundSecretWithSecretDto)
  rotate(@Caller() caller: Identity, @Body() dto: RotateSecretDto): Promise<InboundSecretWithSecretDto> {
    return this.secrets.rotate(caller, dto.overlapHours);
  }

  /** Remove the organization's secret for reports. */
  @Delete('inbound-secret')
  @RequirePermissions('webhook:manage')
  @Answers(InboundSecretDto, { errors: [404] })
  remove(@Caller() caller: Identity): Promise<InboundSecretDto> {
    return this.secrets.remove(caller);
  }
}
