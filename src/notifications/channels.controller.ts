import { Body, Controller, Delete, Get, Param, Post, Put, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers } from '../common/http/answers.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { PagingDto } from '../common/http/paging.dto.js';
import { ChannelDto, ChannelTestDto, CreateChannelDto, NotificationDto, UpdateChannelDto } from './channel.dto.js';
import { ChannelTester } from './channel-tester.js';
import { toChannel, toNotification } from './channel-view.js';
import { ChannelsService } from './channels.service.js';
import { DeliveriesRepository } from './deliveries.repository.js';

@ApiTags('Notifications')
@Controller('notifications/channels')
export class ChannelsController {
  constructor(
    private readonly channels: ChannelsService,
    private readonly tester: ChannelTester,
    private readonly deliveries: DeliveriesRepository,
  ) {}

  /** List the channels. */
  @Get()
  @RequirePermissions('notification:read')
  @Answers(ChannelDto, { page: true })
  async list(@Caller() caller: Identity, @Query() paging: PagingDto): Promise<Page<ChannelDto>> {
    const page = await this.channels.list(caller, paging);
    return new Page(page.items.map(toChannel), page.meta);
  }

  /** Create a channel. */
  @Post()
  @RequirePermissions('notification:manage')
  @Answers(ChannelDto, { errors: [404, 409, 422] })
  async create(@Caller() caller: Identity, @Body() dto: CreateChannelDto): Promise<ChannelDto> {
    return toChannel(await this.channels.create(caller, dto));
  }

  /** One channel, by id or name. */
  @Get(':id')
  @RequirePermissions('notification:read')
  @Answers(ChannelDto, { errors: [404] })
  async get(@Caller() caller: Identity, @Param('id') id: string): Promise<ChannelDto> {
    return toChannel(await this.channels.get(caller.organizationId, id));
  }

  /** Change a channel; fields left out stay as they are. */
  @Put(':id')
  @RequirePermissions('notification:manage')
  @Answers(ChannelDto, { errors: [404, 409] })
  async update(@Caller() caller: Identity, @Param('id') id: string, @Body() dto: UpdateChannelDto): Promise<ChannelDto> {
    return toChannel(await this.channels.update(caller, id, dto));
  }

  /** Delete a channel, with the messages that are on their way. */
  @Delete(':id')
  @RequirePermissions('notification:manage')
  @Answers(ChannelDto, { errors: [404, 409] })
  async delete(@Caller() caller: Identity, @Param('id') id: string): Promise<ChannelDto> {
    return toChannel(await this.channels.delete(caller, id));
  }

  /** Send a test message now, and say what came of it. */
  @Post(':id/test')
  @RequirePermissions('notification:manage')
  @Answers(ChannelTestDto, { errors: [404] })
  async test(@Caller() caller: Identity, @Param('id') id: string): Promise<ChannelTestDto> {
    return this.tester.test(caller, await this.channels.get(caller.organizationId, id));
  }

  /** List the messages of a channel, the newest first: delivered, on their way, and given up. */
  @Get(':id/deliveries')
  @RequirePermissions('notification:read')
  @Answers(NotificationDto, { page: true, errors: [404] })
  async listDeliveries(
    @Caller() caller: Identity,
    @Param('id') id: string,
    @Query() { page, limit }: PagingDto,
  ): Promise<Page<NotificationDto>> {
    const channel = await this.channels.get(caller.organizationId, id);
    const { rows, total } = await this.deliveries.list(channel.id, limit, (page - 1) * limit);
    return new Page(rows.map(toNotification), { page, limit, total });
  }
}
