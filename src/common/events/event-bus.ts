import { EventEmitter } from 'node:events';
import { Injectable, Logger } from '@nestjs/common';
import type { EventMap, EventName } from './event-map.js';

type AnyListener = <N extends EventName>(name: N, event: EventMap[N]) => void | Promise<void>;

/** The in-process bus. A listener's failure is logged and hurts neither the one who tells nor the other listeners. */
@Injectable()
export class EventBus {
  private readonly emitter = new EventEmitter().setMaxListeners(100);
  private readonly logger = new Logger('events');

  /** Tells everyone who listens; call it after the transaction that made it true has committed. */
  emit<N extends EventName>(name: N, event: EventMap[N]): void {
    this.emitter.emit('event', name, event);
  }

  /** Listens to every event. @returns how to stop listening */
  onAny(listener: AnyListener): () => void {
    const guarded = async (name: EventName, event: EventMap[EventName]) => {
      try {
        await listener(name, event as never);
      } catch (error) {
        this.logger.error({ event: name, err: error }, 'a listener failed');
      }
    };
    this.emitter.on('event', guarded);
    return () => this.emitter.off('event', guarded);
  }

  /** Listens to one event. @returns how to stop listening */
  on<N extends EventName>(name: N, listener: (event: EventMap[N]) => void | Promise<void>): () => void {
    return this.onAny((told, event) => ((told as EventName) === name ? listener(event as unknown as EventMap[N]) : undefined));
  }
}
