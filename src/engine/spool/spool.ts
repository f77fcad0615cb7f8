/** How many bytes the runs of one process may have in their spools at the same time. */
export class SpoolBudget {
  private used = 0;

  constructor(readonly maxBytes: number) {}

  /** @returns false when that many are too many now */
  take(bytes: number): boolean {
    if (this.used + bytes > this.maxBytes) return false;
    this.used += bytes;
    return true;
  }

  give(bytes: number): void {
    this.used -= bytes;
  }
}

/** Where one attempt at a backup spools. */
export interface Spool {
  /** Its own folder; made when the first byte comes, removed with all that is in it at the end. */
  folder: string;
  budget: SpoolBudget;
  /** What is to stay free on that disk, which others use too. */
  leastFreeBytes: number;
}

/** Whoever waits for a change of something that several work on. */
export class Changes {
  private waiting: (() => void)[] = [];

  /** Resolves at the next change. Between looking and asking for it there must be no await, or the change may come in between. */
  next(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  notify(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}
