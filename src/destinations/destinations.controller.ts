import { Body, Controller, Delete, Get, Param, Post, Put, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { CachedRead } from '../common/cache/cached-read.interceptor.js';
import { Answers } from '../common/http/answers.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { PagingDto } from '../common/http/paging.dto.js';
import { DEFAULT_DESTINATION } from './destination.js';
import { CreateDestinationDto, DestinationDto, DestinationTestDto, UpdateDestinationDto } from './destination.dto.js';
import { DestinationTester } from './destination-tester.js';
import { localDestination, toDestination } from './destination-view.js';
import { DestinationsService } from './destinations.service.js';

@ApiTags('Destinations')
@Controller('destinations')
export class DestinationsController {
  constructor(
    private readonly destinations: DestinationsService,
    private readonly tester: DestinationTester,
  ) {}

  /** List the destinations; the local folder always exists and comes first. */
  @Get()
  @RequirePermissions('destination:read')
  @CachedRead('short', 'destinations')
  @Answers(DestinationDto, { page: true })
  async list(@Caller() caller: Identity, @Query() { page, limit }: PagingDto): Promise<Page<DestinationDto>> {
    const rows = await this.destinations.list(caller.organizationId);
    const all = [localDestination(!rows.some((row) => row.is_default)), ...rows.map(toDestination)];
    return new Page(all.slice((page - 1) * limit, page * limit), { page, limit, total: all.length });
  }

  /** Create a destination. */
  @Post()
  @RequirePermissions('destination:manage')
  @Answers(DestinationDto, { errors: [409] })
  async create(@Caller() caller: Identity, @Body() dto: CreateDestinationDto): Promise<DestinationDto> {
    return toDestination(await this.destinations.create(caller, dto));
  }

  /** One destination, by id or name. */
  @Get(':id')
  @RequirePermissions('destination:read')
  @CachedRead('short', 'destinations')
  @Answers(DestinationDto, { errors: [404] })
  async get(@Caller() caller: Identity, @Param('id') id: string): Promise<DestinationDto> {
    if (id === DEFAULT_DESTINATION) {
      const rows = await this.destinations.list(caller.organizationId);
      return localDestination(!rows.some((row) => row.is_default));
    }
    return toDestination(await this.destinations.get(caller.organizationId, id));
  }

  /** Change a destination; fields left out stay as they are. */
  @Put(':id')
  @RequirePermissions('destination:manage')
  @Answers(DestinationDto, { errors: [404, 409] })
  async update(@Caller() caller: Identity, @Param('id') id: string, @Body() dto: UpdateDestinationDto): Promise<DestinationDto> {
    return toDestination(await this.destinations.update(caller, id, dto));
  }

  /** Delete a destination that no backup lies at; nothing there is touched. */
  @Delete(':id')
  @RequirePermissions('destination:manage')
  @Answers(DestinationDto, { errors: [404, 409] })
  async delete(@Caller() caller: Identity, @Param('id') id: string): Promise<DestinationDto> {
    return toDestination(await this.destinations.delete(caller, id));
  }

  /** Write, read and remove a canary there, and say what the destination can do and how fast it is. */
  @Post(':id/test')
  @RequirePermissions('destination:manage')
  @Answers(DestinationTestDto, { errors: [404] })
  async test(@Caller() caller: Identity, @Param('id') id: string): Promise<DestinationTestDto> {
    return this.tester.test(caller, id);
  }
}
