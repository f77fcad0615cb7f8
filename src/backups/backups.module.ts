import { Module } from '@nestjs/common';
import { AlertsModule } from '../alerts/alerts.module.js';
import { SourcesModule } from '../sources/sources.module.js';
import { BackupArchives } from './backup-archives.js';
import { BackupDetails } from './backup-details.js';
import { BackupDownload } from './backup-download.js';
import { BackupRunner } from './backup-runner.js';
import { BackupSpools } from './backup-spools.js';
import { BackupStats } from './backup-stats.js';
import { BackupSweeper } from './backup-sweeper.js';
import { BackupTrash } from './backup-trash.js';
import { BackupsController } from './backups.controller.js';
import { BackupsRepository } from './backups.repository.js';
import { BackupsService } from './backups.service.js';
import { CatalogCatchUp } from './catalog-catch-up.js';
import { CopyLocks } from './copy-locks.js';
import { CopyRepair } from './copy-repair.js';
import { ExternalBackups } from './external-backups.js';
import { ManifestImport } from './manifest-import.js';
import { TrashRepository } from './trash.repository.js';

@Module({
  imports: [AlertsModule, SourcesModule],
  controllers: [BackupsController],
  providers: [
    BackupsService,
    BackupsRepository,
    BackupArchives,
    BackupDetails,
    BackupDownload,
    BackupRunner,
    BackupSpools,
    BackupStats,
    BackupSweeper,
    BackupTrash,
    TrashRepository,
    CatalogCatchUp,
    CopyLocks,
    CopyRepair,
    ManifestImport,
    ExternalBackups,
  ],
  exports: [BackupsService, BackupArchives, BackupTrash, CopyLocks, ExternalBackups, ManifestImport],
})
export class BackupsModule {}
