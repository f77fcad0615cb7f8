import { Injectable, Logger } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { Settings } from '../config/settings.js';
import { HeldRun } from './held-run.js';
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
  /** What this process is working on: however late its heartbeat, it is not gone. */
  readonly heldHere = new Set<HeldRun>();
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
      const abandoned = await this.runs.findAbandoned(kind, everything);
      await Promise.all(abandoned.map((runId) => this.attend(kind, runId, () => this.takeBack(kind, runId, everything))));
      for (const { id } of await this.runs.findWaiting(kind, everything ? 0 : WAITING_SECONDS))
        await this.attend(kind, id, () => this.settleWaiting(kind, id, everything));
    }
    this.ready = true;
  }

  /** One run that can't be recovered must neither keep the others from it nor the server from starting. */
  private async attend(kind: RunKind, runId: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.logger.error({ event: 'jobs.recovery-failed', kind, runId, err: error }, 'jobs.recovery-failed');
    }
  }

  /**
   * A run whose worker is gone: its attempt is closed, what it left is cleared away, and it waits again. It is held meanwhile, since
   * a job that comes by would begin the next attempt in the middle of the clearing.
   */
  private async takeBack(kind: RunKind, runId: string, everything: boolean): Promise<void> {
    const row = await this.catalog.transaction(async (trx) => {
      const found = await this.runs.lockUnlessLocked(trx, kind, runId);
      if (found?.status !== 'running' || this.isHeldHere(runId) || !(everything || found.stale)) return undefined;
      await this.runs.endAttempt(trx, kind, runId, 'interrupted', null);
      await this.runs.takeOver(trx, kind, runId, WORKER_ID);
      return found;
    });
    if (!row) return;
    this.logger.warn({ event: `${kind}.interrupted`, runId, attempt: row.attempt }, 'the worker of this run is gone');
    const held = this.hold(kind, runId, row.organization_id, row.attempt);
    this.heldHere.add(held);
    try {
      await this.clearAway(kind, runId);
      await this.catalog.transaction(async (trx) => {
        await held.fence(trx);
        await this.runs.requeue(trx, kind, runId);
      });
    } finally {
      await held.release();
      this.heldHere.delete(held);
    }
    await this.settleWaiting(kind, runId, true);
  }

  /** A run as its holder has it; not yet among those that are held here. */
  hold(kind: RunKind, runId: string, organizationId: string, attempt: number): HeldRun {
    const completed = (trx: Trx) => this.events.record(trx, kind, 'completed', runId, this.handlerOf(kind));
    return new HeldRun(kind, runId, organizationId, attempt, WORKER_ID, this.runs, completed);
  }

  isHeldHere(runId: string): boolean {
    return [...this.heldHere].some((run) => run.id === runId);
  }

  /** What can't be cleared away now is left to the next attempt and the sweeper: the run must go on. */
  async clearAway(kind: RunKind, runId: string): Promise<void> {
    await this.handlerOf(kind)
      .cleanUp(runId)
      .catch((error: unknown) =>
        this.logger.error({ event: `${kind}.not-cleared`, runId, err: error }, 'what a run left could not be cleared away'),
      );
  }

  /** Whether only the catalog lacks what the run has done; false where that can't be found out. */
  async isDone(kind: RunKind, runId: string): Promise<boolean> {
    return this.handlerOf(kind)
      .isDone(runId)
      .catch((error: unknown) => {
        this.logger.error({ event: `${kind}.not-looked-at`, runId, err: error }, 'what a run left could not be looked at');
        return false;
      });
  }

  /**
   * A waiting run: ended when it was canceled or interrupted too often, else given a job if it has none.
   * @param workerGone true when nobody is working on a job of it, whatever the queue says
   */
  async settleWaiting(kind: RunKind, runId: string, workerGone: boolean): Promise<void> {
    const handler = this.handlerOf(kind);
    const hasJob = await this.queue.hasJob(kind, runId, workerGone);
    const isDone = await this.isDone(kind, runId);
    const outcome = await this.catalog.transaction(async (trx) => {
      const row = await this.runs.lock(trx, kind, runId);
      if (!row || row.status !== 'queued') return undefined;
      const isOver = row.cancel_requested_at !== null || (await this.runs.interruptions(trx, kind, runId)) >= MAX_INTERRUPTIONS;
      if (isOver && isDone) {
        await handler.complete(trx, runId);
        await this.events.record(trx, kind, 'completed', runId, handler);
        return 'completed' as const;
      }
      if (isOver) {
        const outcome = row.cancel_requested_at ? 'canceled' : 'failed';
        await this.runs.end(trx, kind, runId, outcome, outcome === 'failed' ? INTERRUPTED_ERROR : null);
        await this.events.record(trx, kind, outcome, runId, handler);
        return outcome;
      }
      if (hasJob) return undefined;
      await this.queue.enqueue(trx, kind, runId);
      return 'requeued' as const;
    });
    if (outcome === 'requeued') this.queue.wake(kind);
    if (outcome === 'canceled' || outcome === 'failed') await this.clearAway(kind, runId);
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
      await this.events.record(trx, kind, 'failed', runId, this.handlerOf(kind));
      return true;
    });
    if (ended) await this.events.tell(kind, 'failed', runId, this.handlerOf(kind), error);
  }
}
