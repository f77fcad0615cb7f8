import { Injectable } from '@nestjs/common';
import { type Insertable, sql } from 'kysely';
import { Catalog, type Trx } from '../catalog/catalog.js';
import type { CatalogTables } from '../catalog/tables.js';
import type { ScheduleRow, ScheduleRunRow } from './schedules.repository.js';

/** A schedule that has been begun or passed over, and where it goes on. */
export interface Advanced {
  id: string;
  nextSlot: Date | null;
  dueAt: Date | null;
  lastStatus: string | null;
  isRun: boolean;
  missed: number;
  isSkipped: boolean;
}

/** A run that has ended, with what its schedule says of what follows. */
export interface EndedRun {
  id: string;
  schedule_id: string;
  organization_id: string;
  slot: Date | null;
  trigger: string;
  attempt: number;
  backup_id: string;
  backup_status: 'completed' | 'failed' | 'canceled';
  verify_level: number;
  max_attempts: number;
  retry_delay_seconds: number;
}

/** What is due; several processes share it, each taking what no other holds. */
@Injectable()
export class DueRepository {
  constructor(private readonly catalog: Catalog) {}

  /** Whether there is anything at all to do: a cheap look, since it is asked all the time. */
  async anyDue(now: Date): Promise<boolean> {
    const { rows } = await sql`SELECT 1 WHERE EXISTS (SELECT 1 FROM schedules WHERE enabled AND due_at <= ${now})
      OR EXISTS (SELECT 1 FROM schedule_runs WHERE status = 'waiting' AND due_at <= ${now})
      OR EXISTS (SELECT 1 FROM schedule_runs r JOIN backups b ON b.id = r.backup_id
                 WHERE r.status = 'queued' AND b.status IN ('completed','failed','canceled'))`.execute(this.catalog.db);
    return rows.length > 0;
  }

  /** Takes due schedules for the rest of the transaction. */
  async claim(trx: Trx, now: Date, limit: number): Promise<ScheduleRow[]> {
    return trx
      .selectFrom('schedules')
      .leftJoin('sources', 'sources.id', 'schedules.source_id')
      .selectAll('schedules')
      .select('sources.name as source_name')
      .where('enabled', '=', true)
      .where('due_at', '<=', now)
      .orderBy('due_at')
      .limit(limit)
      .forUpdate('schedules')
      .skipLocked()
      .execute();
  }

  /** Of these schedules, those whose earlier run goes on, each with how many of its slots wait for that. */
  async running(trx: Trx, scheduleIds: readonly string[]): Promise<Map<string, number>> {
    const ids = [...scheduleIds];
    const { rows } = await sql<{ id: string; waiting: number }>`SELECT id, sum(waiting)::int AS waiting FROM (
        SELECT schedule_id AS id, 0 AS waiting FROM backups WHERE schedule_id = ANY(${ids}) AND status IN ('queued','running')
        UNION ALL
        SELECT schedule_id, 1 FROM schedule_runs WHERE schedule_id = ANY(${ids}) AND status = 'waiting' AND trigger = 'schedule'
      ) AS open GROUP BY id`.execute(trx);
    return new Map(rows.map(({ id, waiting }) => [id, waiting]));
  }

  /** Schedules that have begun a slot which has not come yet, for the rest of the transaction: the clock was set back. */
  async claimAhead(
    trx: Trx,
    now: Date,
  ): Promise<Pick<ScheduleRow, 'id' | 'cron' | 'timezone' | 'jitter_seconds' | 'next_slot'>[]> {
    const { rows } = await sql<ScheduleRow>`SELECT id, cron, timezone, jitter_seconds, next_slot FROM schedules s
      WHERE enabled AND next_slot > ${now} AND EXISTS (
        SELECT 1 FROM schedule_runs r WHERE r.schedule_id = s.id AND r.trigger <> 'manual' AND r.slot > ${now})
      FOR UPDATE SKIP LOCKED`.execute(trx);
    return rows;
  }

  /** Of these slots, those that were begun or passed over before, as after the clock was set back: `<schedule id> <milliseconds>`. */
  async takenSlots(trx: Trx, slots: readonly { scheduleId: string; slot: Date }[]): Promise<Set<string>> {
    const values = JSON.stringify(slots.map(({ scheduleId, slot }) => ({ id: scheduleId, slot: slot.toISOString() })));
    const { rows } = await sql<{ id: string; slot: Date }>`SELECT r.schedule_id AS id, r.slot FROM schedule_runs r
      JOIN jsonb_to_recordset(${values}::jsonb) AS v(id text, slot timestamptz) ON v.id = r.schedule_id AND v.slot = r.slot
      WHERE r.trigger <> 'manual'`.execute(trx);
    return new Set(rows.map(({ id, slot }) => `${id} ${slot.getTime()}`));
  }

  /** What became of the schedule's last run, which nobody else can change for the rest of the transaction. */
  async lastStatus(trx: Trx, scheduleId: string): Promise<string | null> {
    const row = await trx
      .selectFrom('schedules')
      .select('last_status')
      .where('id', '=', scheduleId)
      .forUpdate()
      .executeTakeFirst();
    return row?.last_status ?? null;
  }

  /** Ended runs that are old and not among the newest of their schedule. @returns how many; as many as `limit` means there may be more */
  async prune(days: number, kept: number, limit: number): Promise<number> {
    const { rows } = await sql`DELETE FROM schedule_runs WHERE id IN (
        SELECT r.id FROM schedule_runs r WHERE r.finished_at < now() - make_interval(days => ${days}) AND EXISTS (
          SELECT 1 FROM schedule_runs n WHERE n.schedule_id = r.schedule_id AND (n.created_at, n.id) > (r.created_at, r.id)
          ORDER BY n.created_at OFFSET ${kept - 1} LIMIT 1)
        LIMIT ${limit} FOR UPDATE SKIP LOCKED) RETURNING id`.execute(this.catalog.db);
    return rows.length;
  }

  async insertRuns(trx: Trx, runs: readonly Insertable<CatalogTables['schedule_runs']>[]): Promise<void> {
    if (runs.length > 0) await trx.insertInto('schedule_runs').values(runs).execute();
  }

  /** Moves schedules on to their next slots. */
  async advance(trx: Trx, now: Date, schedules: readonly Advanced[]): Promise<void> {
    if (schedules.length === 0) return;
    const values = JSON.stringify(
      schedules.map((each) => ({ ...each, nextSlot: each.nextSlot?.toISOString(), dueAt: each.dueAt?.toISOString() })),
    );
    await sql`UPDATE schedules s SET next_slot = v."nextSlot", due_at = v."dueAt",
        last_run_at = CASE WHEN v."isRun" THEN ${now}::timestamptz ELSE s.last_run_at END,
        last_status = coalesce(v."lastStatus", s.last_status),
        run_count = s.run_count + v."isRun"::int, missed_count = s.missed_count + v.missed,
        skipped_count = s.skipped_count + v."isSkipped"::int
      FROM jsonb_to_recordset(${values}::jsonb) AS v(id text, "nextSlot" timestamptz, "dueAt" timestamptz, "lastStatus" text,
        "isRun" boolean, missed int, "isSkipped" boolean)
      WHERE s.id = v.id`.execute(trx);
  }

  /** Runs that waited and can begin: retries whose time has come, and slots whose run before them has ended; each with its schedule. */
  async claimWaiting(trx: Trx, now: Date, limit: number): Promise<{ run: ScheduleRunRow; schedule: ScheduleRow }[]> {
    const { rows: runs } = await sql<ScheduleRunRow>`SELECT r.* FROM schedule_runs r
      WHERE r.status = 'waiting' AND r.due_at <= ${now}
        AND NOT EXISTS (SELECT 1 FROM backups b WHERE b.schedule_id = r.schedule_id AND b.status IN ('queued','running'))
        AND NOT EXISTS (SELECT 1 FROM schedule_runs e WHERE e.schedule_id = r.schedule_id AND e.status = 'waiting'
                        AND e.trigger = 'schedule' AND e.slot < r.slot)
      ORDER BY r.due_at LIMIT ${limit} FOR UPDATE SKIP LOCKED`.execute(trx);
    if (runs.length === 0) return [];
    const schedules = await trx
      .selectFrom('schedules')
      .leftJoin('sources', 'sources.id', 'schedules.source_id')
      .selectAll('schedules')
      .select('sources.name as source_name')
      .where(
        'schedules.id',
        'in',
        runs.map((run) => run.schedule_id),
      )
      .execute();
    const byId = new Map(schedules.map((schedule) => [schedule.id, schedule]));
    return runs.flatMap((run) => {
      const schedule = byId.get(run.schedule_id);
      return schedule ? [{ run, schedule }] : [];
    });
  }

  /** A waiting retry has been begun. */
  async begin(trx: Trx, runId: string, backupId: string): Promise<void> {
    await trx.updateTable('schedule_runs').set({ status: 'queued', backup_id: backupId }).where('id', '=', runId).execute();
  }

  /** A waiting run is worked on, until then at the latest. */
  async lease(trx: Trx, runId: string, until: Date): Promise<void> {
    await trx.updateTable('schedule_runs').set({ due_at: until }).where('id', '=', runId).execute();
  }

  async note(trx: Trx, runId: string, note: string | null): Promise<void> {
    await trx.updateTable('schedule_runs').set({ note }).where('id', '=', runId).execute();
  }

  /** Runs whose backup has ended, taken for the rest of the transaction. */
  async claimEnded(trx: Trx, limit: number): Promise<EndedRun[]> {
    const { rows } = await sql<EndedRun>`SELECT r.id, r.schedule_id, s.organization_id, r.slot, r.trigger, r.attempt, r.backup_id,
        b.status AS backup_status, s.verify_level, s.max_attempts, s.retry_delay_seconds
      FROM schedule_runs r JOIN backups b ON b.id = r.backup_id JOIN schedules s ON s.id = r.schedule_id
      WHERE r.status = 'queued' AND b.status IN ('completed','failed','canceled')
      ORDER BY b.finished_at LIMIT ${limit} FOR UPDATE OF r SKIP LOCKED`.execute(trx);
    return rows;
  }

  /** A run has ended, and with it the schedule's last status. */
  async settle(trx: Trx, run: Pick<EndedRun, 'id' | 'schedule_id'>, status: string): Promise<void> {
    await trx
      .updateTable('schedule_runs')
      .set({ status, finished_at: sql<Date>`now()` })
      .where('id', '=', run.id)
      .execute();
    await sql`UPDATE schedules SET last_status = ${status}, failure_count = failure_count + ${status === 'failed' ? 1 : 0}
      WHERE id = ${run.schedule_id}`.execute(trx);
  }
}
