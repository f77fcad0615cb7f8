import { Module } from '@nestjs/common';
import { BackupsModule } from '../backups/backups.module.js';
import { SourcesModule } from '../sources/sources.module.js';
import { RestoreRunner } from './restore-runner.js';
import { RestoreTargets } from './restore-targets.js';
import { RestoresController } from './restores.controller.js';
import { RestoresRepository } from './restores.repository.js';
import { RestoresService } from './restores.service.js';

@Module({
  imports: [BackupsModule, SourcesModule],
  controllers: [RestoresController],
  providers: [RestoresService, RestoresRepository, RestoreTargets, RestoreRunner],
})
export class RestoresModule {}
