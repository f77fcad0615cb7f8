import { Controller, Get, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers } from '../common/http/answers.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { DeliveriesService } from './deliveries.service.js';
import { DeliveryDto, ListDeliveriesDto } from './webhook.dto.js';
import { toDelivery } from './webhook-view.js';

@ApiTags('Webhooks')
@Controller('webhooks/deliveries')
export class DeliveriesController {
  constructor(private readonly deliveries: DeliveriesService) {}

  /** The deliveries of all endpoints with their attempts, the newest first. */
  @Get()
  @RequirePermissions('webhook:manage')
  @Answers(DeliveryDto, { page: true })
  async list(@Caller() caller: Identity, @Query() filter: ListDeliveriesDto): Promise<Page<DeliveryDto>> {
    const page = await this.deliveries.list(caller, filter);
    return new Page(page.items.map(toDelivery), page.meta);
  }

  /** One delivery with its attempts. */
  @Get(':id')
  @RequirePermissions('webhook:manage')
  @Answers(DeliveryDto, { errors: [404] })
  async get(@Caller() caller: Identity, @Param('id') id: string): Promise<DeliveryDto> {
    return toDelivery(await this.deliveries.get(caller.organizationId, id));
  }

  /** Send one delivery again, under the same id. */
  @Post(':id/redeliver')
  @RequirePermissions('webhook:manage')
  @Answers(DeliveryDto, { errors: [404, 409] })
  async redeliver(@Caller() caller: Identity, @Param('id') id: string): Promise<DeliveryDto> {
    return toDelivery(await this.deliveries.redeliver(caller, id));
  }
}
