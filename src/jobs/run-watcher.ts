import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { setTimeout as delay } from 'node:timers/promises';
import { hasEnded, type RunKind } from './run.js';
import { RunsRepository } from './runs.repository.js';

const POLL_MS = 500;

export interface RunSnapshot {
  status: string;
  progress: object | null;
}

/** Follows a run by its row, so that it works from any process. */
@Injectable()
export class RunWatcher implements OnModuleDestroy {
  private readonly stopping = new AbortController();

  constructor(private readonly runs: RunsRepository) {}

  onModuleDestroy(): void {
    this.stopping.abort();
  }

  /** Yields a run's state whenever it has changed, until it ended, the signal is aborted, or the server stops. */
  async *follow(organizationId: string, kind: RunKind, id: string, signal: AbortSignal): AsyncGenerator<RunSnapshot> {
    const either = AbortSignal.any([signal, this.stopping.signal]);
    let last = '';
    while (!either.aborted) {
      const snapshot = await this.runs.watch(organizationId, kind, id);
      if (!snapshot) return;
      const text = JSON.stringify(snapshot);
      if (text !== last) yield snapshot;
      last = text;
      if (hasEnded(snapshot.status)) return;
      await delay(POLL_MS, undefined, { signal: either }).catch(() => undefined);
    }
  }

  /** A run's progress as events for its followers: `progress` whenever it changes, then one `end` with what `show` gives. */
  async *events(
    organizationId: string,
    kind: RunKind,
    id: string,
    signal: AbortSignal,
    show: () => Promise<object>,
  ): AsyncGenerator<{ event: string; data: object }> {
    for await (const snapshot of this.follow(organizationId, kind, id, signal)) {
      yield { event: 'progress', data: snapshot };
      if (hasEnded(snapshot.status)) yield { event: 'end', data: await show() };
    }
  }

  /** Waits until the run has ended, for `seconds` at most. */
  async waitForEnd(organizationId: string, kind: RunKind, id: string, seconds: number, signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, AbortSignal.timeout(seconds * 1000)]);
    for await (const snapshot of this.follow(organizationId, kind, id, either)) if (hasEnded(snapshot.status)) return;
  }
}
