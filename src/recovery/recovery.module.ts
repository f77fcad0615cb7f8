import { Module } from '@nestjs/common';
import { BackupsModule } from '../backups/backups.module.js';
import { AdoptController } from './adopt.controller.js';
import { AdoptionService } from './adoption.js';
import { CatalogBackups } from './catalog-backups.js';
import { CatalogExport } from './catalog-export.js';
import { SettingsAdoption } from './settings-adoption.js';
import { RecoveryKitController } from './recovery-kit.controller.js';
import { RecoveryKit } from './recovery-kit.js';

/** What brings backups back when the server is lost. */
@Module({
  imports: [BackupsModule],
  controllers: [RecoveryKitController, AdoptController],
  providers: [RecoveryKit, AdoptionService, SettingsAdoption, CatalogExport, CatalogBackups],
  exports: [AdoptionService],
})
export class RecoveryModule {}
