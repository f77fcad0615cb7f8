import { Global, Module } from '@nestjs/common';
import { join } from 'node:path';
import { Settings } from '../config/settings.js';
import { ArtifactStore } from '../engine/store/artifact-store.js';
import { LocalStore } from '../engine/store/local-store.js';

/** Name of the destination that always exists: the local folder. */
export const DEFAULT_DESTINATION = 'local';

/** Where artifacts go: for now the local folder `DATA_DIR/backups`. */
@Global()
@Module({
  providers: [
    {
      provide: ArtifactStore,
      inject: [Settings],
      useFactory: (settings: Settings) => new LocalStore(join(settings.dataDir, 'backups')),
    },
  ],
  exports: [ArtifactStore],
})
export class DestinationsModule {}
