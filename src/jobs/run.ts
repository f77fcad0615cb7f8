import type { RunErrorColumn } from '../catalog/tables.js';

/** What a worker can be given to do. */
export const RUN_KINDS = ['backup', 'restore', 'verification'] as const;
export type RunKind = (typeof RUN_KINDS)[number];

export const RUN_STATUSES = ['queued', 'running', 'completed', 'failed', 'canceled'] as const;
export type RunStatus = (typeof RUN_STATUSES)[number];

export const RUN_TABLES = { backup: 'backups', restore: 'restores', verification: 'verifications' } as const satisfies Record<
  RunKind,
  string
>;

/** How often a run is begun anew after its server died under it. */
export const MAX_INTERRUPTIONS = 3;

/** A worker says this often that it still holds a run; unheard for STALE_SECONDS, the run is somebody else's. */
export const HEARTBEAT_MS = 5_000;
export const STALE_SECONDS = 20;

export function hasEnded(status: string): boolean {
  return status === 'completed' || status === 'failed' || status === 'canceled';
}

/** Why a run's signal was aborted. */
export type StopReason = 'canceled' | 'lost' | 'shutdown';

/** The reason that `signal.reason` carries. */
export class RunStopped extends Error {
  override readonly name = 'RunStopped';

  constructor(readonly reason: StopReason) {
    super(
      { canceled: 'The run was canceled', lost: 'The run is held by another worker', shutdown: 'The server is stopping' }[reason],
    );
  }
}

export const INTERRUPTED_ERROR: RunErrorColumn = {
  code: 'INTERRUPTED',
  message: `The server ended ${MAX_INTERRUPTIONS} times in the middle of this run.`,
  hint: "Look into the server's log and the machine's memory for what ends it, then start the run again.",
};
