import { Body, Controller, Delete, Get, Param, Post, Put, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { CachedRead } from '../common/cache/cached-read.interceptor.js';
import { Answers } from '../common/http/answers.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { PagingDto } from '../common/http/paging.dto.js';
import { CreateSourceDto, SourceDto, SourceTestDto, UpdateSourceDto } from './source.dto.js';
import { SourceTester } from './source-tester.js';
import { toSource } from './source-view.js';
import { SourcesService } from './sources.service.js';

@ApiTags('Sources')
@Controller('sources')
export class SourcesController {
  constructor(
    private readonly sources: SourcesService,
    private readonly tester: SourceTester,
  ) {}

  /** List the sources. */
  @Get()
  @RequirePermissions('source:read')
  @CachedRead('medium', 'sources')
  @Answers(SourceDto, { page: true })
  async list(@Caller() caller: Identity, @Query() paging: PagingDto): Promise<Page<SourceDto>> {
    const page = await this.sources.list(caller, paging);
    return new Page(page.items.map(toSource), page.meta);
  }

  /** Create a source. */
  @Post()
  @RequirePermissions('source:manage')
  @Answers(SourceDto, { errors: [409] })
  async create(@Caller() caller: Identity, @Body() dto: CreateSourceDto): Promise<SourceDto> {
    return toSource(await this.sources.create(caller, dto));
  }

  /** One source, by id or name. */
  @Get(':id')
  @RequirePermissions('source:read')
  @CachedRead('medium', 'sources')
  @Answers(SourceDto, { errors: [404] })
  async get(@Caller() caller: Identity, @Param('id') id: string): Promise<SourceDto> {
    return toSource(await this.sources.get(caller.organizationId, id));
  }

  /** Change a source; fields left out stay as they are. */
  @Put(':id')
  @RequirePermissions('source:manage')
  @Answers(SourceDto, { errors: [404, 409] })
  async update(@Caller() caller: Identity, @Param('id') id: string, @Body() dto: UpdateSourceDto): Promise<SourceDto> {
    return toSource(await this.sources.update(caller, id, dto));
  }

  /** Delete a source and its stored credentials; its backups stay. */
  @Delete(':id')
  @RequirePermissions('source:manage')
  @Answers(SourceDto, { errors: [404, 409] })
  async delete(@Caller() caller: Identity, @Param('id') id: string): Promise<SourceDto> {
    return toSource(await this.sources.delete(caller, id));
  }

  /** Reach the database and say whether a backup can be made, with what, and what is missing. */
  @Post(':id/test')
  @RequirePermissions('source:manage')
  @Answers(SourceTestDto, { errors: [404, 422] })
  async test(@Caller() caller: Identity, @Param('id') id: string): Promise<SourceTestDto> {
    return this.tester.test(await this.sources.get(caller.organizationId, id));
  }
}
