import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { actorName } from '../http/request-context.js';
import { EventBus } from './event-bus.js';
import type { EventName } from './event-map.js';

/** The one place where domain events enter the log: same fields everywhere, under the logger of their first word. */
@Injectable()
export class EventLog implements OnModuleInit {
  private readonly loggers = new Map<string, Logger>();

  constructor(private readonly bus: EventBus) {}

  onModuleInit(): void {
    this.bus.onAny((name, event) => {
      const logger = this.loggerOf(name.split('.')[0] ?? 'events');
      const line = { event: name, ...event, ...('actor' in event && event.actor ? { actor: actorName(event.actor) } : {}) };
      if (isFailure(name)) logger.error(line, name);
      else logger.log(line, name);
    });
  }

  private loggerOf(word: string): Logger {
    const logger = this.loggers.get(word) ?? new Logger(word);
    this.loggers.set(word, logger);
    return logger;
  }
}

function isFailure(name: EventName): boolean {
  return name.endsWith('.failed');
}
