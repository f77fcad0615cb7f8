import { Injectable } from '@nestjs/common';
import { type RawBuilder, sql } from 'kysely';
import { Catalog, json, type Trx } from '../catalog/catalog.js';
import type { RunColumns, RunErrorColumn } from '../catalog/tables.js';
import { RUN_TABLES, type RunKind, type RunStatus, STALE_SECONDS } from './run.js';

export interface HolderOf {
  kind: RunKind;
  id: string;
  attempt: number;
  workerId: string;
}

export interface RunRow {
  id: string;
  organization_id: string;
  status: string;
  attempt: number;
  worker_id: string | null;
  stale: boolean;
  cancel_requested_at: Date | null;
  started_at: Date | null;
}

/** What all runs have in common: who holds them, since when, and how they ended. Everything a holder writes is fenced by its attempt. */
@Injectable()
export class RunsRepository {
  constructor(private readonly catalog: Catalog) {}

  /** The run, locked until the transaction ends. */
  async lock(trx: Trx, kind: RunKind, id: string): Promise<RunRow | undefined> {
    const { rows } = await lockedRun(kind, id, sql``).execute(trx);
    return rows[0];
  }

  /** As `lock`; undefined at once when another session has locked it, or its holder is in `alone`: it lives. */
  async lockUnlessLocked(trx: Trx, kind: RunKind, id: string): Promise<RunRow | undefined> {
    if (!(await this.mayBeTaken(trx, id))) return undefined;
    const { rows } = await lockedRun(kind, id, sql`SKIP LOCKED`).execute(trx);
    return rows[0];
  }

  /** Whether nobody is in `alone` with the run; until the transaction ends nobody will be. */
  mayBeTaken(trx: Trx, id: string): Promise<boolean> {
    return this.catalog.isFree(trx, aloneWith(id));
  }

  /**
   * Does what two must not do at the same time: until it has ended, nobody takes the run over, however late the holder's heartbeat is. No row is
   * locked meanwhile, so that it may wait for slow stores.
   * @param isLost called instead when another worker holds the run
   */
  alone<T>(holder: HolderOf, work: () => Promise<T>, isLost: () => never): Promise<T> {
    return this.catalog.holding(aloneWith(holder.id), async (session) => {
      if (!(await session.transaction().execute((trx) => this.holds(trx, holder)))) isLost();
      return work();
    });
  }

  /** True, and locked, when this holder still holds the run. */
  async holds(trx: Trx, holder: HolderOf): Promise<boolean> {
    const row = await this.lock(trx, holder.kind, holder.id);
    return row?.status === 'running' && row.attempt === holder.attempt && row.worker_id === holder.workerId;
  }

  async begin(trx: Trx, holder: HolderOf): Promise<void> {
    await sql`UPDATE ${sql.table(RUN_TABLES[holder.kind])}
      SET status = 'running', attempt = ${holder.attempt}, worker_id = ${holder.workerId}, heartbeat_at = now(),
          started_at = coalesce(started_at, now()), progress = NULL, error = NULL WHERE id = ${holder.id}`.execute(trx);
    await trx
      .insertInto('attempts')
      .values({ run_kind: holder.kind, run_id: holder.id, attempt: holder.attempt, worker_id: holder.workerId })
      .execute();
  }

  /** Takes a run over from a worker that is gone, as the same attempt; the caller has locked it. */
  async takeOver(trx: Trx, kind: RunKind, id: string, workerId: string): Promise<void> {
    await sql`UPDATE ${sql.table(RUN_TABLES[kind])} SET worker_id = ${workerId}, heartbeat_at = now() WHERE id = ${id}`.execute(
      trx,
    );
  }

  /** Says that the holder lives, and how far it is. @returns whether it still holds the run, and whether someone asked it to stop */
  async heartbeat(holder: HolderOf, progress: object | undefined): Promise<'held' | 'canceled' | 'lost'> {
    const { rows } = await sql<{ canceled: boolean }>`UPDATE ${sql.table(RUN_TABLES[holder.kind])}
      SET heartbeat_at = now(), progress = coalesce(${progress ? JSON.stringify(progress) : null}::jsonb, progress)
      WHERE id = ${holder.id} AND attempt = ${holder.attempt} AND worker_id = ${holder.workerId} AND status = 'running'
      RETURNING cancel_requested_at IS NOT NULL AS canceled`.execute(this.catalog.db);
    if (!rows[0]) return 'lost';
    return rows[0].canceled ? 'canceled' : 'held';
  }

  /** Ends a run; the caller has locked it. */
  async end(
    trx: Trx,
    kind: RunKind,
    id: string,
    status: Exclude<RunStatus, 'queued' | 'running'>,
    error: RunErrorColumn | null,
  ): Promise<void> {
    await sql`UPDATE ${sql.table(RUN_TABLES[kind])}
      SET status = ${status}, error = ${json(error)}::jsonb, finished_at = now(), worker_id = NULL, heartbeat_at = NULL WHERE id = ${id}`.execute(
      trx,
    );
  }

  /** Puts a run back into the queue; the caller has locked it. */
  async requeue(trx: Trx, kind: RunKind, id: string): Promise<void> {
    await sql`UPDATE ${sql.table(RUN_TABLES[kind])} SET status = 'queued', worker_id = NULL, heartbeat_at = NULL, progress = NULL WHERE id = ${id}`.execute(
      trx,
    );
  }

  async endAttempt(trx: Trx, kind: RunKind, id: string, outcome: string, error: RunErrorColumn | null): Promise<void> {
    await sql`UPDATE attempts SET finished_at = now(), outcome = ${outcome}, error = ${json(error)}::jsonb
      WHERE run_kind = ${kind} AND run_id = ${id} AND outcome IS NULL`.execute(trx);
  }

  async interruptions(trx: Trx, kind: RunKind, id: string): Promise<number> {
    const row = await trx
      .selectFrom('attempts')
      .select((e) => e.fn.countAll<number>().as('count'))
      .where('run_kind', '=', kind)
      .where('run_id', '=', id)
      .where('outcome', '=', 'interrupted')
      .executeTakeFirstOrThrow();
    return Number(row.count);
  }

  /** Runs whose worker has not been heard of; with `all`, every running one. */
  async findAbandoned(kind: RunKind, all: boolean): Promise<string[]> {
    const { rows } = await sql<{ id: string }>`SELECT id FROM ${sql.table(RUN_TABLES[kind])}
      WHERE status = 'running'
        AND (${all}::boolean OR heartbeat_at IS NULL OR heartbeat_at < now() - make_interval(secs => ${STALE_SECONDS}))
      LIMIT 1000`.execute(this.catalog.db);
    return rows.map((row) => row.id);
  }

  /** Runs that wait; `olderThanSeconds` leaves out those that were queued a moment ago. */
  async findWaiting(kind: RunKind, olderThanSeconds: number): Promise<{ id: string; organization_id: string }[]> {
    const { rows } = await sql<{
      id: string;
      organization_id: string;
    }>`SELECT id, organization_id FROM ${sql.table(RUN_TABLES[kind])}
      WHERE status = 'queued' AND created_at < now() - make_interval(secs => ${olderThanSeconds}) LIMIT 1000`.execute(
      this.catalog.db,
    );
    return rows;
  }

  /** Asks a run to stop. @returns its status before, or undefined when the organization has no such run */
  async requestCancel(trx: Trx, organizationId: string, kind: RunKind, id: string): Promise<RunRow | undefined> {
    const row = await this.lock(trx, kind, id);
    if (!row || row.organization_id !== organizationId) return undefined;
    await sql`UPDATE ${sql.table(RUN_TABLES[kind])} SET cancel_requested_at = coalesce(cancel_requested_at, now()) WHERE id = ${id}`.execute(
      trx,
    );
    return row;
  }

  /** Status and progress of one run. */
  async watch(
    organizationId: string,
    kind: RunKind,
    id: string,
  ): Promise<(Pick<RunColumns, 'status'> & { progress: object | null }) | undefined> {
    const { rows } = await sql<{
      status: string;
      progress: object | null;
    }>`SELECT status, progress FROM ${sql.table(RUN_TABLES[kind])}
      WHERE id = ${id} AND organization_id = ${organizationId}`.execute(this.catalog.db);
    return rows[0];
  }

  async attempts(runIds: readonly string[]) {
    if (runIds.length === 0) return [];
    return this.catalog.db
      .selectFrom('attempts')
      .selectAll()
      .where('run_id', 'in', [...runIds])
      .orderBy('started_at')
      .execute();
  }
}

function aloneWith(id: string): string {
  return `alone with ${id}`;
}

function lockedRun(kind: RunKind, id: string, wait: RawBuilder<unknown>): RawBuilder<RunRow> {
  return sql<RunRow>`
    SELECT id, organization_id, status, attempt, worker_id, cancel_requested_at, started_at,
           coalesce(heartbeat_at < now() - make_interval(secs => ${STALE_SECONDS}), true) AS stale
    FROM ${sql.table(RUN_TABLES[kind])} WHERE id = ${id} FOR UPDATE ${wait}`;
}
