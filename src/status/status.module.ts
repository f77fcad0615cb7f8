import { Module } from '@nestjs/common';
import { Health } from './health.js';
import { Metrics } from './metrics.js';
import { StatusController } from './status.controller.js';

@Module({ controllers: [StatusController], providers: [Health, Metrics] })
export class StatusModule {}
