import { Body, Controller, Delete, Get, Param, Post, Put, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { RequirePermissions } from '../auth/access.js';
import { Caller, type Identity } from '../auth/identity.js';
import { toBackup } from '../backups/backup-view.js';
import { BackupDto } from '../backups/backup.dto.js';
import { BackupsService } from '../backups/backups.service.js';
import { Clock } from '../common/clock.js';
import { Answers } from '../common/http/answers.js';
import { Page } from '../common/http/envelope.interceptor.js';
import { RateLimit } from '../common/http/rate-limit.js';
import {
  CreateScheduleDto,
  ListSchedulesDto,
  ScheduleDetailsDto,
  ScheduleDto,
  ScheduleIdDto,
  UpdateScheduleDto,
} from './schedule.dto.js';
import { toSchedule, toScheduleRun } from './schedule-view.js';
import type { ScheduleRow } from './schedules.repository.js';
import { SchedulesService } from './schedules.service.js';

@ApiTags('Schedules')
@Controller('backups/schedule')
export class SchedulesController {
  constructor(
    private readonly schedules: SchedulesService,
    private readonly backups: BackupsService,
    private readonly clock: Clock,
  ) {}

  /** List the schedules; with `id`, one schedule and what became of its slots. */
  @Get()
  @RequirePermissions('schedule:read')
  @Answers(ScheduleDto, { page: true, orOne: ScheduleDetailsDto, errors: [404] })
  async list(@Caller() caller: Identity, @Query() filter: ListSchedulesDto): Promise<Page<ScheduleDto> | ScheduleDetailsDto> {
    if (filter.id !== undefined) return this.details(await this.schedules.get(caller.organizationId, filter.id));
    const page = await this.schedules.list(caller, filter);
    return new Page(
      page.items.map((row) => toSchedule(row, this.clock.now())),
      page.meta,
    );
  }

  /** Create a schedule. */
  @Post()
  @RequirePermissions('schedule:manage')
  @Answers(ScheduleDto, { errors: [404, 409] })
  async create(@Caller() caller: Identity, @Body() dto: CreateScheduleDto): Promise<ScheduleDto> {
    return toSchedule(await this.schedules.create(caller, dto), this.clock.now());
  }

  /** Change a schedule; `enabled` stops and starts it. Fields left out stay as they are. */
  @Put()
  @RequirePermissions('schedule:manage')
  @Answers(ScheduleDto, { errors: [404, 409] })
  async update(@Caller() caller: Identity, @Body() dto: UpdateScheduleDto): Promise<ScheduleDto> {
    return toSchedule(await this.schedules.update(caller, dto), this.clock.now());
  }

  /** Delete a schedule; its backups stay. */
  @Delete()
  @RequirePermissions('schedule:manage')
  @Answers(ScheduleDto, { errors: [404] })
  async delete(@Caller() caller: Identity, @Query() { id }: ScheduleIdDto): Promise<ScheduleDto> {
    return toSchedule(await this.schedules.delete(caller, id), this.clock.now());
  }

  /** Begin a schedule's work now: the queued backup, or of a status check the schedule with its history. */
  @Post(':id/run')
  @RequirePermissions('schedule:manage')
  @RateLimit('strict')
  @Answers(BackupDto, { or: ScheduleDetailsDto, errors: [404] })
  async run(@Caller() caller: Identity, @Param('id') id: string): Promise<BackupDto | ScheduleDetailsDto> {
    const { schedule, backupId } = await this.schedules.runNow(caller, id);
    if (backupId === null) return this.details(await this.schedules.get(caller.organizationId, schedule.id));
    return toBackup(await this.backups.get(caller.organizationId, backupId));
  }

  private async details(row: ScheduleRow): Promise<ScheduleDetailsDto> {
    const history = await this.schedules.history(row);
    return { ...toSchedule(row, this.clock.now()), history: history.map(toScheduleRun) };
  }
}
