import { Body, Controller, Delete, Get, Param, Post, Put, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers } from '../common/http/answers.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { PagingDto } from '../common/http/paging.dto.js';
import { DeliveriesService } from './deliveries.service.js';
import { EndpointsService } from './endpoints.service.js';
import {
  CreateEndpointDto,
  DeliveryDto,
  EndpointDto,
  EndpointWithSecretDto,
  ListDeliveriesDto,
  RedeliveredDto,
  RedeliverSinceDto,
  RotateSecretDto,
  UpdateEndpointDto,
} from './webhook.dto.js';
import { toDelivery, toEndpoint, toEndpointWithSecret } from './webhook-view.js';

@ApiTags('Webhooks')
@Controller('webhooks/endpoints')
export class EndpointsController {
  constructor(
    private readonly endpoints: EndpointsService,
    private readonly deliveries: DeliveriesService,
  ) {}

  /** List the webhook endpoints. */
  @Get()
  @RequirePermissions('webhook:manage')
  @Answers(EndpointDto, { page: true })
  async list(@Caller() caller: Identity, @Query() paging: PagingDto): Promise<Page<EndpointDto>> {
    const page = await this.endpoints.list(caller, paging);
    return new Page(page.items.map(toEndpoint), page.meta);
  }

  /** Create a webhook endpoint; the answer holds its secret, which is not shown again. */
  @Post()
  @RequirePermissions('webhook:manage')
  @Answers(EndpointWithSecretDto, { errors: [409] })
  async create(@Caller() caller: Identity, @Body() dto: CreateEndpointDto): Promise<EndpointWithSecretDto> {
    return toEndpointWithSecret(await this.endpoints.create(caller, dto));
  }

  /** One webhook endpoint. */
  @Get(':id')
  @RequirePermissions('webhook:manage')
  @Answers(EndpointDto, { errors: [404] })
  async get(@Caller() caller: Identity, @Param('id') id: string): Promise<EndpointDto> {
    return toEndpoint(await this.endpoints.get(caller.organizationId, id));
  }

  /** Change a webhook endpoint; fields left out stay as they are. */
  @Put(':id')
  @RequirePermissions('webhook:manage')
  @Answers(EndpointDto, { errors: [404] })
  async update(@Caller() caller: Identity, @Param('id') id: string, @Body() dto: UpdateEndpointDto): Promise<EndpointDto> {
    return toEndpoint(await this.endpoints.update(caller, id, dto));
  }

  /** Delete a webhook endpoint with its deliveries. */
  @Delete(':id')
  @RequirePermissions('webhook:manage')
  @Answers(EndpointDto, { errors: [404] })
  async delete(@Caller() caller: Identity, @Param('id') id: string): Promise<EndpointDto> {
    return toEndpoint(await this.endpoints.delete(caller, id));
  }

  /** Give an endpoint a new secret; for some hours messages carry the signatures of both. */
  @Post(':id/rotate-secret')
  @RequirePermissions('webhook:manage')
  @Answers(EndpointWithSecretDto, { errors: [404] })
  async rotate(
    @Caller() caller: Identity,
    @Param('id') id: string,
    @Body() dto: RotateSecretDto,
  ): Promise<EndpointWithSecretDto> {
    return toEndpointWithSecret(await this.endpoints.rotate(caller, id, dto.overlapHours));
  }

  /** Send a test event now and tell how it went. */
  @Post(':id/test')
  @RequirePermissions('webhook:manage')
  @Answers(DeliveryDto, { errors: [404] })
  async test(@Caller() caller: Identity, @Param('id') id: string): Promise<DeliveryDto> {
    return toDelivery(await this.deliveries.test(caller, id));
  }

  /** The deliveries of an endpoint with their attempts, the newest first. */
  @Get(':id/deliveries')
  @RequirePermissions('webhook:manage')
  @Answers(DeliveryDto, { page: true, errors: [404] })
  async listDeliveries(
    @Caller() caller: Identity,
    @Param('id') id: string,
    @Query() filter: ListDeliveriesDto,
  ): Promise<Page<DeliveryDto>> {
    const page = await this.deliveries.list(caller, filter, id);
    return new Page(page.items.map(toDelivery), page.meta);
  }

  /** Send everything since a time again, and what was missed while the endpoint was disabled. */
  @Post(':id/redeliver')
  @RequirePermissions('webhook:manage')
  @Answers(RedeliveredDto, { errors: [404, 409] })
  async redeliver(@Caller() caller: Identity, @Param('id') id: string, @Body() dto: RedeliverSinceDto): Promise<RedeliveredDto> {
    return { queued: await this.deliveries.redeliverSince(caller, id, dto) };
  }
}
