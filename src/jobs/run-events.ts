import { Injectable } from '@nestjs/common';
import type { RunErrorColumn } from '../catalog/tables.js';
import { EventBus } from '../common/events/event-bus.js';
import type { EventName } from '../common/events/event-map.js';
import type { RunHandler } from './run-handler.js';
import type { RunKind } from './run.js';

export type RunEventVerb = 'queued' | 'started' | 'completed' | 'failed' | 'canceled' | 'requeued';

/** Tells the bus what became of a run, with the same fields for every kind. */
@Injectable()
export class RunEvents {
  constructor(private readonly bus: EventBus) {}

  async tell(
    kind: RunKind,
    verb: RunEventVerb,
    runId: string,
    handler: Pick<RunHandler, 'describe'>,
    error: RunErrorColumn | null,
  ): Promise<void> {
    const name: EventName = `${kind}.${verb}`;
    this.bus.emit(name, { runId, ...(await handler.describe(runId)), error });
  }
}
