import { DiscoveryService } from '@nestjs/core';
import type { Db, Trx } from '../catalog/catalog.js';
import type { RunEvent } from '../common/events/event-map.js';
import type { HeldRun } from './held-run.js';
import type { RunKind } from './run.js';

/** Declares a provider as the one who does runs of a kind. */
export const RunHandlerOf = DiscoveryService.createDecorator<RunKind>();

/** Does the runs of one kind. */
export interface RunHandler {
  /** Does the run and, in a fenced transaction of its own, marks it completed; throws when it can't. */
  run(run: HeldRun): Promise<void>;
  /** True when an attempt that died did all the work, so that only the catalog doesn't say so. */
  isDone(runId: string): Promise<boolean>;
  /** Marks such a run completed; the caller has locked its row, and records the event. */
  complete(trx: Trx, runId: string): Promise<void>;
  /** Clears away what a failed, canceled or interrupted attempt has left outside the catalog. May be called twice. */
  cleanUp(runId: string): Promise<void>;
  /** What the events of the run tell about it; inside of a transaction, as the transaction sees it. */
  describe(runId: string, db?: Db | Trx): Promise<RunDescription>;
}

/** What is told of a run, whatever its kind. */
export interface RunDescription extends Omit<RunEvent, 'runId' | 'error'> {
  /** The run, and what it is about, in the shapes that the API answers with. */
  data: Record<string, object>;
}
