import { Module } from '@nestjs/common';
import { SourcesModule } from '../sources/sources.module.js';
import { BackupDetails } from './backup-details.js';
import { BackupDownload } from './backup-download.js';
import { BackupRunner } from './backup-runner.js';
import { BackupStats } from './backup-stats.js';
import { BackupSweeper } from './backup-sweeper.js';
import { BackupsController } from './backups.controller.js';
import { BackupsRepository } from './backups.repository.js';
import { BackupsService } from './backups.service.js';

@Module({
  imports: [SourcesModule],
  controllers: [BackupsController],
  providers: [BackupsService, BackupsRepository, BackupDetails, BackupDownload, BackupRunner, BackupStats, BackupSweeper],
  exports: [BackupsService],
})
export class BackupsModule {}
