import { Module } from '@nestjs/common';
import { RetentionModule } from '../retention/retention.module.js';
import { ReportsController } from './reports.controller.js';
import { ReportsRepository } from './reports.repository.js';
import { ReportsService } from './reports.service.js';

/** Evidence for those who have to show it. */
@Module({
  imports: [RetentionModule],
  controllers: [ReportsController],
  providers: [ReportsService, ReportsRepository],
})
export class ReportsModule {}
