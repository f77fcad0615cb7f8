import { sql } from 'kysely';

/** What a run's row is set to when it is completed, in a fenced transaction; its repository adds what is its own. */
export const COMPLETED_RUN = {
  status: 'completed',
  finished_at: sql<Date>`now()`,
  worker_id: null,
  heartbeat_at: null,
  progress: null,
  error: null,
} as const;
