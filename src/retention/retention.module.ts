import { Module } from '@nestjs/common';
import { BackupsModule } from '../backups/backups.module.js';
import { SourcesModule } from '../sources/sources.module.js';
import { RetentionController } from './retention.controller.js';
import { RetentionRepository } from './retention.repository.js';
import { RetentionRunner } from './retention-runner.js';
import { RetentionService } from './retention.service.js';

/** Which backups are kept, and the removal of the others. */
@Module({
  imports: [BackupsModule, SourcesModule],
  controllers: [RetentionController],
  providers: [RetentionService, RetentionRepository, RetentionRunner],
  exports: [RetentionService],
})
export class RetentionModule {}
