import { Body, Controller, Get, Param, Post, Query, Req, Res } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { Answers, AnswersRaw } from '../common/http/answers.js';
import { Page, RawAnswer } from '../common/http/envelope.interceptor.js';
import { RateLimit } from '../common/http/rate-limit.js';
import { goneSignal, sendEvents } from '../common/http/server-sent-events.js';
import { WaitDto } from '../jobs/run.dto.js';
import { RunWatcher } from '../jobs/run-watcher.js';
import { LendsIdentity, lentBy, LentIdentity } from '../keys/lent-identity.js';
import { LentIdentityDto } from '../keys/lent-identity.dto.js';
import { CreateRestoreDto, ListRestoresDto, RestoreDto, RestorePlanDto } from './restore.dto.js';
import { toRestore, toRestorePlan } from './restore-view.js';
import { RestoresService } from './restores.service.js';

@ApiTags('Restores')
@Controller()
export class RestoresController {
  constructor(
    private readonly restores: RestoresService,
    private readonly watcher: RunWatcher,
  ) {}

  /** Queue a restore of a backup; `wait` holds the answer until it ends, `dryRun` answers with the plan and changes nothing. */
  @Post('backups/:id/restore')
  @RequirePermissions('backup:restore')
  @RateLimit('strict')
  @LendsIdentity()
  @Answers(RestoreDto, { or: RestorePlanDto, errors: [404, 409, 422] })
  async create(
    @Caller() caller: Identity,
    @Param('id') id: string,
    @Body() dto: CreateRestoreDto,
    @Query() { wait }: WaitDto,
    @LentIdentity() headers: LentIdentityDto,
    @Req() request: Request,
  ): Promise<RestoreDto | RestorePlanDto> {
    if (dto.dryRun) return toRestorePlan(await this.restores.plan(caller, id, dto, lentBy(dto, headers)));
    const restore = await this.restores.create(caller, id, dto, lentBy(dto, headers));
    if (!wait) return toRestore(restore);
    await this.watcher.waitForEnd(caller.organizationId, 'restore', restore.id, wait, goneSignal(request));
    return toRestore(await this.restores.get(caller.organizationId, restore.id));
  }

  /** List restores, the newest first. */
  @Get('restores')
  @RequirePermissions('backup:read')
  @RateLimit('lenient')
  @Answers(RestoreDto, { page: true })
  async list(@Caller() caller: Identity, @Query() filter: ListRestoresDto): Promise<Page<RestoreDto>> {
    const page = await this.restores.list(caller, filter);
    return new Page(page.items.map(toRestore), page.meta);
  }

  /** One restore. */
  @Get('restores/:id')
  @RequirePermissions('backup:read')
  @RateLimit('lenient')
  @Answers(RestoreDto, { errors: [404] })
  async get(@Caller() caller: Identity, @Param('id') id: string): Promise<RestoreDto> {
    return toRestore(await this.restores.get(caller.organizationId, id));
  }

  /** Progress as server-sent events: `progress` whenever it changes, then one `end` with the restore. */
  @Get('restores/:id/progress')
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
    await this.restores.get(caller.organizationId, id);
    const shown = async () => toRestore(await this.restores.get(caller.organizationId, id));
    await sendEvents(response, this.watcher.events(caller.organizationId, 'restore', id, goneSignal(request), shown));
  }

  /** Stop a queued or running restore; the target is left as it was. */
  @Post('restores/:id/cancel')
  @RequirePermissions('backup:restore')
  @RateLimit('lenient')
  @Answers(RestoreDto, { errors: [404, 409] })
  async cancel(@Caller() caller: Identity, @Param('id') id: string): Promise<RestoreDto> {
    return toRestore(await this.restores.cancel(caller, id));
  }

  /** Take a swap back: the database that it replaced gets its name again, and the restored one is kept in its stead. */
  @Post('restores/:id/revert')
  @RequirePermissions('backup:restore')
  @RateLimit('lenient')
  @Answers(RestoreDto, { errors: [404, 409, 422] })
  async revert(@Caller() caller: Identity, @Param('id') id: string): Promise<RestoreDto> {
    return toRestore(await this.restores.revert(caller, id));
  }
}
