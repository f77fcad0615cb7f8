import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { actorName } from '../http/request-context.js';
import { EventBus } from './event-bus.js';
import type { EventName } from './event-map.js';

/** The one place where domain events enter the log: same fields everywhere, under the logger of their first word. */
@Injectable()
export class EventLog implements OnModuleInit {
  private readonly loggers = {
    api: new Logger('api'),
    backup: new Logger('backup'),
    restore: new Logger('restore'),
    verification: new Logger('verification'),
  };

  constructor(private readonly bus: EventBus) {}

  onModuleInit(): void {
    this.bus.onAny((name, event) => {
      const logger = this.loggers[name.split('.')[0] as keyof typeof this.loggers];
      const line = { event: name, ...event, ...('actor' in event ? { actor: actorName(event.actor) } : {}) };
      if (isFailure(name)) logger.error(line, name);
      else logger.log(line, name);
    });
  }
}

function isFailure(name: EventName): boolean {
  return name.endsWith('.failed');
}
