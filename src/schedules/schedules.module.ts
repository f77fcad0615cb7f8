import { Module } from '@nestjs/common';
import { BackupsModule } from '../backups/backups.module.js';
import { Clock } from '../common/clock.js';
import { SourcesModule } from '../sources/sources.module.js';
import { VerificationsModule } from '../verifications/verifications.module.js';
import { DefaultSchedules } from './default-schedules.js';
import { DueRepository } from './due.repository.js';
import { ScheduleSettler } from './schedule-settler.js';
import { ScheduleTicker } from './schedule-ticker.js';
import { SchedulesController } from './schedules.controller.js';
import { SchedulesRepository } from './schedules.repository.js';
import { SchedulesService } from './schedules.service.js';
import { StatusChecks } from './status-checks.js';

/** What runs by the clock. */
@Module({
  imports: [BackupsModule, SourcesModule, VerificationsModule],
  controllers: [SchedulesController],
  providers: [
    Clock,
    SchedulesService,
    SchedulesRepository,
    DueRepository,
    ScheduleTicker,
    ScheduleSettler,
    StatusChecks,
    DefaultSchedules,
  ],
})
export class SchedulesModule {}
