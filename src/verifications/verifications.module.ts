import { Module } from '@nestjs/common';
import { BackupsModule } from '../backups/backups.module.js';
import { Certificates } from './certificates.js';
import { DrillTurns } from './drill-turns.js';
import { SourcesModule } from '../sources/sources.module.js';
import { SamplesRepository } from './samples.repository.js';
import { Sampling } from './sampling.js';
import { VerificationRunner } from './verification-runner.js';
import { VerificationsController } from './verifications.controller.js';
import { VerificationsRepository } from './verifications.repository.js';
import { VerificationsService } from './verifications.service.js';

@Module({
  imports: [BackupsModule, SourcesModule],
  controllers: [VerificationsController],
  providers: [
    VerificationsService,
    VerificationsRepository,
    VerificationRunner,
    DrillTurns,
    Certificates,
    Sampling,
    SamplesRepository,
  ],
  exports: [VerificationsService],
})
export class VerificationsModule {}
