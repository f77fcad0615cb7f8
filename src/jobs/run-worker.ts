import { type BeforeApplicationShutdown, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { DiscoveryService } from '@nestjs/core';
import { Catalog } from '../catalog/catalog.js';
import { Settings } from '../config/settings.js';
import type { HeldRun } from './held-run.js';
import { JobQueue } from './job-queue.js';
import { MAX_INTERRUPTIONS, RUN_KINDS, type RunKind, RunStopped } from './run.js';
import { RunEvents } from './run-events.js';
import { RunRecovery } from './run-recovery.js';
import { toRunError } from './run-error.js';
import { RunsRepository } from './runs.repository.js';
import { RunHandlerOf, type RunHandler } from './run-handler.js';

/** Takes queued runs, holds them by heartbeat, and writes down how they ended. */
@Injectable()
export class RunWorker implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('jobs');
  private readonly busy = new Set<Promise<void>>();
  private graceIsOver = false;

  constructor(
    private readonly catalog: Catalog,
    private readonly settings: Settings,
    private readonly queue: JobQueue,
    private readonly runs: RunsRepository,
    private readonly recovery: RunRecovery,
    private readonly events: RunEvents,
    private readonly discovery: DiscoveryService,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    for (const provider of this.discovery.getProviders({ metadataKey: RunHandlerOf.KEY })) {
      this.recovery.register(
        this.discovery.getMetadataByDecorator(RunHandlerOf, provider) as RunKind,
        provider.instance as RunHandler,
      );
    }
    if (this.settings.role === 'api') return;
    await this.queue.start();
    // The embedded catalog has one process: whatever is running there was left by one that is gone.
    await this.recovery.recover(this.catalog.embedded);
    for (const kind of RUN_KINDS) {
      await this.queue.work(kind, this.settings.workerConcurrency, (runId) => this.track(this.take(kind, runId)));
    }
    await this.queue.workDead((runId) => this.recovery.abandon(runId));
  }

  /** Runs in progress get the grace time; after it they are given back to the queue. */
  async beforeApplicationShutdown(): Promise<void> {
    await this.queue.stopWorking();
    const grace = setTimeout(() => {
      this.graceIsOver = true;
      for (const run of this.recovery.heldHere) run.stop('shutdown');
    }, this.settings.shutdownGraceSeconds * 1000);
    while (this.busy.size > 0) await Promise.allSettled(this.busy);
    clearTimeout(grace);
    await this.queue.stop();
  }

  private track(work: Promise<void>): Promise<void> {
    this.busy.add(work);
    return work.finally(() => this.busy.delete(work));
  }

  private async take(kind: RunKind, runId: string): Promise<void> {
    const run = await this.claim(kind, runId);
    if (!run) return;
    this.recovery.heldHere.add(run);
    if (this.graceIsOver) run.stop('shutdown');
    const handler = this.recovery.handlerOf(kind);
    try {
      await this.events.tell(kind, 'started', runId, handler, null);
      await handler.run(run);
      await this.catalog.transaction((trx) => this.runs.endAttempt(trx, kind, runId, 'completed', null));
      await this.events.tell(kind, 'completed', runId, handler, null);
    } catch (error) {
      await this.endBadly(run, handler, error);
    } finally {
      await run.release();
      this.recovery.heldHere.delete(run);
    }
  }

  /** Takes the run, unless someone alive has it, it has ended, or it should not begin any more. */
  private async claim(kind: RunKind, runId: string): Promise<HeldRun | undefined> {
    return this.catalog.transaction(async (trx) => {
      const row = await this.runs.lock(trx, kind, runId);
      if (!row || (row.status !== 'queued' && !(row.status === 'running' && row.stale))) return undefined;
      if (this.recovery.isHeldHere(runId)) return undefined;
      if (row.status === 'running' && !(await this.runs.mayBeTaken(trx, runId))) return undefined;
      if (row.status === 'running') await this.runs.endAttempt(trx, kind, runId, 'interrupted', null);
      if (row.cancel_requested_at || (await this.runs.interruptions(trx, kind, runId)) >= MAX_INTERRUPTIONS) {
        // Recovery ends these, with their objects.
        await this.runs.requeue(trx, kind, runId);
        setImmediate(
          () =>
            void this.recovery
              .settleWaiting(kind, runId, false)
              .catch((error: unknown) => this.logger.error({ err: error, runId }, 'run.not-settled')),
        );
        return undefined;
      }
      const run = this.recovery.hold(kind, runId, row.organization_id, row.attempt + 1);
      try {
        await this.runs.begin(trx, run);
        await this.events.record(trx, kind, 'started', runId, this.recovery.handlerOf(kind));
      } catch (error) {
        await run.release();
        throw error;
      }
      return run;
    });
  }

  private async endBadly(run: HeldRun, handler: RunHandler, thrown: unknown): Promise<void> {
    const stopped = run.signal.reason instanceof RunStopped ? run.signal.reason.reason : undefined;
    if (stopped === 'lost') {
      this.logger.warn({ event: `${run.kind}.lost`, runId: run.id, attempt: run.attempt }, 'another worker holds this run now');
      return;
    }
    const error = stopped ? null : toRunError(thrown);
    if (error?.code === 'INTERNAL_ERROR')
      this.logger.error(
        { event: `${run.kind}.error`, runId: run.id, err: thrown },
        'a run failed for a reason that is not ours to explain',
      );
    // Whatever went wrong after the work was done: begun anew, the run finds it done and says so.
    const isDone = await this.recovery.isDone(run.kind, run.id);
    if (!isDone) await this.recovery.clearAway(run.kind, run.id);
    const outcome = isDone || stopped === 'shutdown' ? 'given-back' : stopped === 'canceled' ? 'canceled' : 'failed';
    const written = await this.catalog.transaction(async (trx) => {
      if (!(await this.runs.holds(trx, run))) return false;
      await this.runs.endAttempt(trx, run.kind, run.id, outcome, error);
      if (outcome === 'given-back') {
        await this.runs.requeue(trx, run.kind, run.id);
        await this.queue.enqueue(trx, run.kind, run.id);
      } else {
        await this.runs.end(trx, run.kind, run.id, outcome, outcome === 'canceled' ? null : error);
        await this.events.record(trx, run.kind, outcome, run.id, handler);
      }
      return true;
    });
    if (written) await this.events.tell(run.kind, outcome === 'given-back' ? 'requeued' : outcome, run.id, handler, error);
  }
}
