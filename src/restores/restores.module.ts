import { Module } from '@nestjs/common';
import { BackupsModule } from '../backups/backups.module.js';
import { SourcesModule } from '../sources/sources.module.js';
import { KeptDatabases } from './kept-databases.js';
import { RestorePlanner } from './restore-planner.js';
import { RestoreRunner } from './restore-runner.js';
import { RestoreTargets } from './restore-targets.js';
import { RestoresController } from './restores.controller.js';
import { RestoresRepository } from './restores.repository.js';
import { RestoresService } from './restores.service.js';
import { SafetyBackups } from './safety-backups.js';
import { StorageRestores } from './storage-restores.js';

@Module({
  imports: [BackupsModule, SourcesModule],
  controllers: [RestoresController],
  providers: [
    RestoresService,
    RestoresRepository,
    RestoreTargets,
    StorageRestores,
    RestorePlanner,
    RestoreRunner,
    SafetyBackups,
    KeptDatabases,
  ],
})
export class RestoresModule {}
