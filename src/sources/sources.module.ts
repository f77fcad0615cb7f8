import { Module } from '@nestjs/common';
import { SourceTester } from './source-tester.js';
import { SourcesController } from './sources.controller.js';
import { SourcesRepository } from './sources.repository.js';
import { SourcesService } from './sources.service.js';

@Module({
  controllers: [SourcesController],
  providers: [SourcesService, SourcesRepository, SourceTester],
  exports: [SourcesService, SourceTester],
})
export class SourcesModule {}
