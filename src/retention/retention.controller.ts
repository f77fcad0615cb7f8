import { Body, Controller, Delete, Get, Param, Post, Put, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { CachedRead } from '../common/cache/cached-read.interceptor.js';
import { Answers } from '../common/http/answers.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { PagingDto } from '../common/http/paging.dto.js';
import { CreateRetentionPolicyDto, RetentionDecisionDto, RetentionPolicyDto, UpdateRetentionPolicyDto } from './retention.dto.js';
import type { PolicyRow } from './retention.repository.js';
import { reasonOf, toRetentionPolicy } from './retention-view.js';
import { RetentionService } from './retention.service.js';

@ApiTags('Retention')
@Controller('retention-policies')
export class RetentionController {
  constructor(private readonly retention: RetentionService) {}

  /** List the retention policies. Nothing is removed until there is one. */
  @Get()
  @RequirePermissions('schedule:read')
  @CachedRead('medium', 'retention', 'sources')
  @Answers(RetentionPolicyDto, { page: true })
  async list(@Caller() caller: Identity, @Query() paging: PagingDto): Promise<Page<RetentionPolicyDto>> {
    const page = await this.retention.list(caller, paging);
    const names = await this.retention.names(caller.organizationId);
    return new Page(
      page.items.map((row) => toRetentionPolicy(row, names)),
      page.meta,
    );
  }

  /** Create a retention policy. It removes nothing at once: after the next backup, or within an hour. */
  @Post()
  @RequirePermissions('schedule:manage')
  @Answers(RetentionPolicyDto, { errors: [404, 409] })
  async create(@Caller() caller: Identity, @Body() dto: CreateRetentionPolicyDto): Promise<RetentionPolicyDto> {
    return this.shown(caller, await this.retention.create(caller, dto));
  }

  /** One retention policy, by id or name. */
  @Get(':id')
  @RequirePermissions('schedule:read')
  @CachedRead('medium', 'retention', 'sources')
  @Answers(RetentionPolicyDto, { errors: [404] })
  async get(@Caller() caller: Identity, @Param('id') id: string): Promise<RetentionPolicyDto> {
    return this.shown(caller, await this.retention.get(caller.organizationId, id));
  }

  /** Change a retention policy; fields left out stay as they are. */
  @Put(':id')
  @RequirePermissions('schedule:manage')
  @Answers(RetentionPolicyDto, { errors: [404, 409] })
  async update(
    @Caller() caller: Identity,
    @Param('id') id: string,
    @Body() dto: UpdateRetentionPolicyDto,
  ): Promise<RetentionPolicyDto> {
    return this.shown(caller, await this.retention.update(caller, id, dto));
  }

  /** Delete a retention policy; its backups stay. */
  @Delete(':id')
  @RequirePermissions('schedule:manage')
  @Answers(RetentionPolicyDto, { errors: [404] })
  async delete(@Caller() caller: Identity, @Param('id') id: string): Promise<RetentionPolicyDto> {
    return this.shown(caller, await this.retention.delete(caller, id));
  }

  /** Say for each backup that the policy is about whether it would be kept now, and by which rule. Changes nothing. */
  @Get(':id/preview')
  @RequirePermissions('schedule:read')
  @Answers(RetentionDecisionDto, { list: true, errors: [404] })
  async preview(@Caller() caller: Identity, @Param('id') id: string): Promise<RetentionDecisionDto[]> {
    const decisions = await this.retention.preview(caller, id, new Date());
    return decisions.map(({ backup, decision }) => ({
      backupId: backup.id,
      source: backup.sourceName,
      type: backup.type,
      status: backup.status,
      createdAt: backup.createdAt.toISOString(),
      sizeBytes: Number(backup.storedBytes),
      kept: decision.kept,
      rule: decision.rule,
      policy: decision.policy,
      reason: reasonOf(decision, backup),
    }));
  }

  private async shown(caller: Identity, row: PolicyRow): Promise<RetentionPolicyDto> {
    return toRetentionPolicy(row, await this.retention.names(caller.organizationId));
  }
}
