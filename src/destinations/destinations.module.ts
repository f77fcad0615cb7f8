import { Global, Module } from '@nestjs/common';
import { join } from 'node:path';
import { Settings } from '../config/settings.js';
import { ArtifactStore } from '../engine/store/artifact-store.js';
import { LocalStore } from '../engine/store/local-store.js';
import { BackupCopies } from './backup-copies.js';
import { DestinationTester } from './destination-tester.js';
import { DestinationsController } from './destinations.controller.js';
import { DestinationsRepository } from './destinations.repository.js';
import { DestinationsService } from './destinations.service.js';
import { SettingDestinations } from './setting-destinations.js';
import { Stores } from './stores.js';

/** Where artifacts go: the local folder `DATA_DIR/backups`, and whatever else was set up. */
@Global()
@Module({
  controllers: [DestinationsController],
  providers: [
    {
      provide: ArtifactStore,
      inject: [Settings],
      useFactory: (settings: Settings) => new LocalStore(join(settings.dataDir, 'backups')),
    },
    Stores,
    BackupCopies,
    DestinationsService,
    DestinationsRepository,
    DestinationTester,
    SettingDestinations,
  ],
  exports: [Stores, BackupCopies, DestinationsService],
})
export class DestinationsModule {}
