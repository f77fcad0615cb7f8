import { Injectable, Logger } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { Catalog } from '../catalog/catalog.js';
import { Settings } from '../config/settings.js';
import { JobQueue } from './job-queue.js';
import { RunEvents } from './run-events.js';
import type { RunHandler } from './run-handler.js';
import { INTERRUPTED_ERROR, MAX_INTERRUPTIONS, RUN_KINDS, type RunKind } from './run.js';
import { RunsRepository } from './runs.repository.js';
import { WORKER_ID } from './worker-id.js';

const SUPERVISE_MS = 10_000;
const WAITING_SECONDS = 60;

/** Finds runs whose worker is gone, and begins them anew or ends them. */
@Injectable()
export class RunRecovery {
  private readonly logger = new Logger('jobs');
  private readonly handlers = new Map<RunKind, RunHandler>();
  private ready = false;

  constructor(
    private readonly catalog: Catalog,
    private readonly settings: Settings,
    private readonly queue: JobQueue,
    private readonly runs: RunsRepository,
    private readonly events: RunEvents,
  ) {}

  register(kind: RunKind, handler: RunHandler): void {
    this.handlers.set(kind, handler);
  }

  handlerOf(kind: RunKind): RunHandler {
    const handler = this.handlers.get(kind);
    if (!handler) throw new Error(`Nobody does runs of kind ${kind}`);
    return handler;
  }

  @Interval(SUPERVISE_MS)
  async supervise(): Promise<void> {
    if (!this.ready || this.settings.role === 'api') return;
    try {
      await this.recover(false);
    } catch (error) {
      this.logger.error({ event: 'jobs.recovery-failed', err: error }, 'jobs.recovery-failed');
    }
  }

  /**
   * Puts abandoned runs back into the queue, or ends those that were interrupted too often, and gives a job to every waiting run
   * that lost its own.
   * @param everything true when no other process can be holding a run
   */
  async recover(everything: boolean): Promise<void> {
    for (const kind of RUN_KINDS) {
      for (const runId of await this.runs.findAbandoned(kind, WORKER_ID, everything))
        await this.takeBack(kind, runId, everything);
      for (const { id } of await this.runs.findWaiting(kind, everything ? 0 : WAITING_SECONDS))
        await this.settleWaiting(kind, id);
    }
    this.ready = true;
  }

  /** A run whose worker is gone: its attempt is closed, and it waits again. */
  private async takeBack(kind: RunKind, runId: string, everything: boolean): Promise<void> {
    const taken = await this.catalog.transaction(async (trx) => {
      const row = await this.runs.lock(trx, kind, runId);
      if (!row || row.status !== 'running' || row.worker_id === WORKER_ID || !(everything || row.stale)) return false;
      await this.runs.endAttempt(trx, kind, runId, 'interrupted', null);
      await this.runs.requeue(trx, kind, runId);
      return true;
    });
    if (!taken) return;
    this.logger.warn({ event: `${kind}.interrupted`, runId }, 'the worker of this run is gone');
    await this.handlerOf(kind).cleanUp(runId);
    await this.settleWaiting(kind, runId);
  }

  /** A waiting run: ended when it was canceled or interrupted too often, else given a job if it has none. */
  async settleWaiting(kind: RunKind, runId: string): Promise<void> {
    const handler = this.handlerOf(kind);
    const hasJob = await this.queue.hasJob(kind, runId);
    const outcome = await this.catalog.transaction(async (trx) => {
      const row = await this.runs.lock(trx, kind, runId);
      if (!row || row.status !== 'queued') return undefined;
      if (row.cancel_requested_at) {
        await this.runs.end(trx, kind, runId, 'canceled', null);
        return 'canceled' as const;
      }
      if ((await this.runs.interruptions(trx, kind, runId)) >= MAX_INTERRUPTIONS) {
        await this.runs.end(trx, kind, runId, 'failed', INTERRUPTED_ERROR);
        return 'failed' as const;
      }
      if (hasJob) return undefined;
      await this.queue.enqueue(trx, kind, runId);
      return 'requeued' as const;
    });
    if (outcome === 'requeued') this.queue.wake(kind);
    if (outcome === 'canceled' || outcome === 'failed') await handler.cleanUp(runId);
    if (outcome) await this.events.tell(kind, outcome, runId, handler, outcome === 'failed' ? INTERRUPTED_ERROR : null);
  }

  /** A job that failed every time: the run, if nobody holds it, is ended rather than left to wait for ever. */
  async abandon(runId: string): Promise<void> {
    const kind = RUN_KINDS.find((candidate) => runId.startsWith(`${candidate}_`));
    if (!kind) return;
    const error = {
      code: 'INTERNAL_ERROR',
      message: 'The run could not be begun, again and again.',
      hint: "The server's log has the causes under this run's id.",
    };
    const ended = await this.catalog.transaction(async (trx) => {
      const row = await this.runs.lock(trx, kind, runId);
      if (!row || row.status !== 'queued') return false;
      await this.runs.end(trx, kind, runId, 'failed', error);
      return true;
    });
    if (ended) await this.events.tell(kind, 'failed', runId, this.handlerOf(kind), error);
  }
}
