import { randomUUID } from 'node:crypto';
import { Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { fromKysely, PgBoss } from 'pg-boss';
import { Catalog, type Trx } from '../catalog/catalog.js';
import { RUN_KINDS, type RunKind } from './run.js';

interface RunJob {
  runId: string;
}

const DEAD = 'dead';
const DAY_SECONDS = 86_400;
/** A job is only a wake-up: the run's own row says who holds it, so a job may come twice or late. */
const QUEUE_OPTIONS = {
  retryLimit: 5,
  retryDelay: 2,
  retryBackoff: true,
  retryDelayMax: 60,
  heartbeatSeconds: 30,
  expireInSeconds: DAY_SECONDS - 1,
  deleteAfterSeconds: DAY_SECONDS,
  deadLetter: DEAD,
};

/** pg-boss on the catalog: jobs are queued in the transaction that writes their row. */
@Injectable()
export class JobQueue implements OnApplicationBootstrap {
  private readonly logger = new Logger('jobs');
  private readonly boss: PgBoss;
  private readonly workers = new Map<RunKind, string>();
  private started: Promise<void> | undefined;

  constructor(catalog: Catalog) {
    this.boss = new PgBoss({
      db: catalog.rawSql,
      backend: catalog.embedded ? 'pglite' : 'postgres',
      schema: 'backstay_jobs',
      schedule: false,
      superviseIntervalSeconds: 15,
      monitorIntervalSeconds: 15,
    });
    this.boss.on('error', (error) => this.logger.error({ event: 'jobs.error', err: error }, 'jobs.error'));
  }

  async onApplicationBootstrap(): Promise<void> {
    await this.start();
  }

  /** Makes the queues; further calls wait for the first. */
  start(): Promise<void> {
    this.started ??= (async () => {
      await this.boss.start();
      await this.boss.createQueue(DEAD, { retryLimit: 0, deleteAfterSeconds: 30 * DAY_SECONDS });
      for (const kind of RUN_KINDS) {
        await this.boss.createQueue(kind, QUEUE_OPTIONS);
        // pg-boss looks a queue up at its first use, with a connection of its own; inside a transaction of the embedded catalog, which has one, that would wait for ever.
        await this.boss.findJobs(kind, { id: randomUUID() });
      }
    })();
    return this.started;
  }

  /** Queues a run in the transaction that wrote its row. */
  async enqueue(trx: Trx, kind: RunKind, runId: string): Promise<void> {
    await this.start();
    await this.boss.send(kind, { runId } satisfies RunJob, { db: fromKysely(trx) });
  }

  /** Queues many runs at once, in the transaction that wrote their rows. */
  async enqueueAll(trx: Trx, kind: RunKind, runIds: readonly string[]): Promise<void> {
    await this.start();
    const jobs = runIds.map((runId) => ({ data: { runId } satisfies RunJob }));
    await this.boss.insert(kind, jobs, { db: fromKysely(trx) });
  }

  /** Wakes this process's worker, so that a job just committed doesn't wait for the next poll. */
  wake(kind: RunKind): void {
    const worker = this.workers.get(kind);
    if (worker) this.boss.notifyWorker(worker);
  }

  /** True when a job for this run waits or, unless `waitingOnly`, is being worked on. */
  async hasJob(kind: RunKind, runId: string, waitingOnly: boolean): Promise<boolean> {
    await this.start();
    const jobs = await this.boss.findJobs(kind, { data: { runId } satisfies RunJob });
    return jobs.some((job) => job.state === 'created' || job.state === 'retry' || (job.state === 'active' && !waitingOnly));
  }

  /** Lets `handle` work on jobs of a kind. */
  async work(kind: RunKind, concurrency: number, handle: (runId: string) => Promise<void>): Promise<void> {
    await this.start();
    const options = { localConcurrency: concurrency, pollingIntervalSeconds: 1, batchSize: 1 };
    this.workers.set(
      kind,
      await this.boss.work<RunJob>(kind, options, async ([job]) => (job ? handle(job.data.runId) : undefined)),
    );
  }

  /** Lets `handle` look at jobs that failed every time. */
  async workDead(handle: (runId: string) => Promise<void>): Promise<void> {
    await this.start();
    await this.boss.work<RunJob>(DEAD, { pollingIntervalSeconds: 30 }, async ([job]) =>
      job ? handle(job.data.runId) : undefined,
    );
  }

  /** Jobs by queue: waiting and active. */
  async depths(): Promise<{ name: string; waiting: number; active: number }[]> {
    await this.start();
    const queues = await this.boss.getQueues();
    return queues.map((queue) => ({ name: queue.name, waiting: queue.queuedCount, active: queue.activeCount }));
  }

  /** Takes no further job. */
  async stopWorking(): Promise<void> {
    await Promise.all([...this.workers.keys()].map((kind) => this.boss.offWork(kind, { wait: false })));
    this.workers.clear();
  }

  async stop(): Promise<void> {
    if (!this.started) return;
    await this.started.catch(() => undefined);
    await this.boss.stop({ graceful: false, close: false });
  }
}
