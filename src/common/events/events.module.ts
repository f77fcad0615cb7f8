import { Global, Module } from '@nestjs/common';
import { EventBus } from './event-bus.js';
import { EventLog } from './event-log.js';

/** The bus, and the log that listens to all of it. */
@Global()
@Module({ providers: [EventBus, EventLog], exports: [EventBus] })
export class EventsModule {}
