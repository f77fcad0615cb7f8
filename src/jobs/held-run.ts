import type { Trx } from '../catalog/catalog.js';
import { HEARTBEAT_MS, RunStopped } from './run.js';
import type { HolderOf, RunsRepository } from './runs.repository.js';

const PROGRESS_MS = 1_000;

/** A run that this worker holds: its signal, its progress, and the fence that keeps a worker which lost it from committing. */
export class HeldRun implements HolderOf {
  private readonly controller = new AbortController();
  private readonly timer: NodeJS.Timeout;
  private latest: object | undefined;
  private lastBeat = Date.now();
  private beating: Promise<void> | undefined;

  constructor(
    readonly kind: HolderOf['kind'],
    readonly id: string,
    readonly organizationId: string,
    readonly attempt: number,
    readonly workerId: string,
    private readonly runs: RunsRepository,
    /** Records the event of its completion; call it in the transaction that marks the run completed, after that. */
    readonly completed: (trx: Trx) => Promise<void>,
  ) {
    this.timer = setInterval(() => this.beat(), PROGRESS_MS);
  }

  /** Aborted, with a RunStopped, when the run is canceled, lost, or the server stops. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Where the run stands; written to the catalog once a second at most. */
  report(progress: object): void {
    this.latest = progress;
  }

  stop(reason: RunStopped['reason']): void {
    this.controller.abort(new RunStopped(reason));
  }

  /**
   * Locks the run's row for the rest of the transaction and makes sure that it is still ours.
   * @throws RunStopped when another worker has taken it over
   */
  async fence(trx: Trx): Promise<void> {
    if (!(await this.runs.holds(trx, this))) this.lose();
  }

  /**
   * Does what no two workers must do at the same time, and what may take long: until it has ended, nobody takes the run over.
   * @throws RunStopped when another worker has taken it over
   */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.runs.alone(this, work, () => this.lose());
  }

  private lose(): never {
    this.stop('lost');
    throw new RunStopped('lost');
  }

  /** Ends the heartbeat, and waits for the one on its way. */
  async release(): Promise<void> {
    clearInterval(this.timer);
    await this.beating;
  }

  private beat(): void {
    if (this.beating || (this.latest === undefined && Date.now() - this.lastBeat < HEARTBEAT_MS)) return;
    const progress = this.latest;
    this.latest = undefined;
    this.beating = this.runs
      .heartbeat(this, progress)
      .then((state) => {
        this.lastBeat = Date.now();
        if (state !== 'held') this.stop(state);
      })
      // The catalog may be away for a moment; if it stays away, the fence decides.
      .catch(() => undefined)
      .finally(() => (this.beating = undefined));
  }
}
