import { Module } from '@nestjs/common';
import { BackupsModule } from '../backups/backups.module.js';
import { Health } from './health.js';
import { Metrics } from './metrics.js';
import { StatusController } from './status.controller.js';

@Module({ imports: [BackupsModule], controllers: [StatusController], providers: [Health, Metrics] })
export class StatusModule {}
