import { Injectable } from '@nestjs/common';
import type { Trx } from '../catalog/catalog.js';
import { Errors } from '../common/errors.js';
import { JobQueue } from './job-queue.js';
import { type QueuedRun, RunEvents, type RunEventVerb } from './run-events.js';
import { RunRecovery } from './run-recovery.js';
import { hasEnded, type RunKind } from './run.js';
import { type RunRow, RunsRepository } from './runs.repository.js';

/** What services may do with runs: queue, lock and cancel them, and read how they went. */
@Injectable()
export class RunControl {
  constructor(
    private readonly runs: RunsRepository,
    private readonly queue: JobQueue,
    private readonly recovery: RunRecovery,
    private readonly events: RunEvents,
  ) {}

  /** Queues a run in the transaction that wrote its row, and records that; call `queued` when it has committed. */
  async enqueue(trx: Trx, kind: RunKind, id: string): Promise<void> {
    await this.queue.enqueue(trx, kind, id);
    await this.events.record(trx, kind, 'queued', id, this.recovery.handlerOf(kind));
  }

  /** As `enqueue`, for many runs at once; call `allQueued` when it has committed. */
  async enqueueAll(trx: Trx, kind: RunKind, runs: readonly QueuedRun[]): Promise<void> {
    await this.queue.enqueueAll(
      trx,
      kind,
      runs.map(({ id }) => id),
    );
    await this.events.recordAll(trx, kind, 'queued', runs);
  }

  /** As `queued`, for many runs at once. */
  async allQueued(kind: RunKind, runs: readonly QueuedRun[]): Promise<void> {
    if (runs.length === 0) return;
    this.queue.wake(kind);
    await this.events.tellQueued(kind, runs);
  }

  /** After the commit: listeners hear of the run, and a worker here need not wait for its next poll. */
  async queued(kind: RunKind, id: string): Promise<void> {
    this.queue.wake(kind);
    await this.tell(kind, 'queued', id);
  }

  /** Tells the listeners what became of a run. */
  tell(kind: RunKind, verb: RunEventVerb, id: string): Promise<void> {
    return this.events.tell(kind, verb, id, this.recovery.handlerOf(kind), null);
  }

  /** The run, locked until the transaction ends; undefined when there is none. */
  lock(trx: Trx, kind: RunKind, id: string): Promise<RunRow | undefined> {
    return this.runs.lock(trx, kind, id);
  }

  /**
   * Ends a queued run at once, and asks a running one to stop; call `canceled` when that has committed.
   * @returns whether it has ended now
   * @throws NOT_FOUND, CONFLICT when it has ended already
   */
  async cancel(trx: Trx, organizationId: string, kind: RunKind, id: string): Promise<boolean> {
    const run = await this.runs.requestCancel(trx, organizationId, kind, id);
    if (!run) throw Errors.notFound(kind, id);
    if (hasEnded(run.status)) throw Errors.conflict(`The ${kind} has ended already (${run.status}); there is nothing to cancel.`);
    if (run.status !== 'queued') return false;
    await this.runs.end(trx, kind, id, 'canceled', null);
    await this.events.record(trx, kind, 'canceled', id, this.recovery.handlerOf(kind));
    return true;
  }

  /** After the commit of `cancel`: a run in this process hears of it now, one in another by its next heartbeat. @param ended what `cancel` gave */
  async canceled(kind: RunKind, id: string, ended: boolean): Promise<void> {
    if (ended) await this.tell(kind, 'canceled', id);
    for (const run of this.recovery.heldHere) if (run.id === id) run.stop('canceled');
  }

  /** Every attempt at these runs, the oldest first. */
  attempts(runIds: readonly string[]) {
    return this.runs.attempts(runIds);
  }
}
