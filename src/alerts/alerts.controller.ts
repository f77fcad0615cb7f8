import { Body, Controller, Get, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers } from '../common/http/answers.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { AcknowledgeAlertDto, AlertDto, ListAlertsDto, toAlert } from './alert.dto.js';
import { AlertsService } from './alerts.service.js';

@ApiTags('Alerts')
@Controller('alerts')
export class AlertsController {
  constructor(private readonly alerts: AlertsService) {}

  /** List alerts of lost tables, rows and bytes, the newest first. */
  @Get()
  @RequirePermissions('backup:read')
  @RateLimit('lenient')
  @Answers(AlertDto, { page: true, errors: [404] })
  async list(@Caller() caller: Identity, @Query() filter: ListAlertsDto): Promise<Page<AlertDto>> {
    const page = await this.alerts.list(caller, filter);
    return new Page(page.items.map(toAlert), page.meta);
  }

  /** Close an alert: what is missing is not missed. Retention may remove backups of the source again. */
  @Post(':id/acknowledge')
  @RequirePermissions('source:manage')
  @Answers(AlertDto, { errors: [404, 409] })
  async acknowledge(@Caller() caller: Identity, @Param('id') id: string, @Body() dto: AcknowledgeAlertDto): Promise<AlertDto> {
    return toAlert(await this.alerts.acknowledge(caller, id, dto.note));
  }
}
