import { beforeAll, describe, expect, it } from '@jest/globals';
import { sql } from 'kysely';
import type { BackupDetailsDto, BackupDto } from '../../src/backups/backup.dto.js';
import { Clock } from '../../src/common/clock.js';
import { ScheduleTicker } from '../../src/schedules/schedule-ticker.js';
import type { ScheduleDetailsDto, ScheduleDto } from '../../src/schedules/schedule.dto.js';
import { usePostgres } from '../support/postgres.js';
import { good } from '../support/runs.js';
import { urlOf, useServer } from '../support/server.js';
import { until } from '../support/until.js';

const MINUTE_MS = 60_000;
const postgres = usePostgres();
const server = useServer(() => ({ SOURCE_DATABASE_URL: urlOf(postgres.current.connection()) }));

const path = '/api/backups/schedule';
const create = (body: object) => server.current.api<ScheduleDto>('POST', path, body);
const change = (body: object) => server.current.api<ScheduleDto>('PUT', path, body);
const show = (id: string) => good(server.current.api<ScheduleDetailsDto>('GET', `${path}?id=${id}`));
const list = (query = '') => server.current.api<ScheduleDto[]>('GET', path + query);
const details = (id: string) => good(server.current.api<BackupDetailsDto>('GET', `/api/backups/${id}/details`));
/** Sets when a schedule is due, as if the clock had come so far. */
async function setSlot(id: string, slot: Date): Promise<void> {
  await server.current.foundation.catalog.db
    .updateTable('schedules')
    .set({ next_slot: slot, due_at: slot })
    .where('id', '=', id)
    .execute();
}
const tick = () => server.current.running.app.get(ScheduleTicker, { strict: false }).tick();
/** Ticks until the newest entry of the history is what it is to be. */
async function untilStatus(id: string, status: string): Promise<ScheduleDetailsDto> {
  let shown!: ScheduleDetailsDto;
  try {
    await until(async () => {
      await tick();
      shown = await show(id);
      return shown.history[0]?.status === status;
    });
  } catch (error) {
    throw new Error(`${(error as Error).message}: ${JSON.stringify(shown)}`, { cause: error });
  }
  return shown;
}
/** A moment that is hardly over, another one each time: a slot is begun once. */
const justNow = () => new Date(Date.now() - 1000);

describe('the schedules of a first start with a source', () => {
  it('are a daily and a weekly backup and an hourly check', async () => {
    const { body } = await list();
    expect(body.meta).toEqual({ page: 1, limit: 20, total: 3 });
    expect(body.data.map(({ name, cron, action, type, source, enabled }) => [name, cron, action, type, source, enabled])).toEqual(
      [
        ['daily-backup', '0 2 * * *', 'backup', 'full', 'default', true],
        ['hourly-status-check', '0 * * * *', 'status-check', 'full', null, true],
        ['weekly-db-backup', '0 3 * * 0', 'backup', 'database', 'default', true],
      ],
    );
    expect(body.data[0]?.nextRuns).toHaveLength(5);
    expect(body.data[0]?.nextRunAt).toBe(body.data[0]?.nextRuns[0]);
  });
});

describe('a schedule', () => {
  let schedule: ScheduleDto;

  beforeAll(async () => {
    schedule = await good(
      create({
        name: 'nightly',
        cron: ' 30  2 * * mon-fri ',
        timezone: 'Europe/Berlin',
        type: 'database',
        label: 'night',
        tags: ['auto'],
        verifyLevel: 1,
      }),
    );
  });

  it('has every promised field, and takes the only source', async () => {
    expect(schedule).toEqual({
      id: expect.stringMatching(/^sched_[0-9a-f]{20}$/),
      name: 'nightly',
      source: 'default',
      cron: '30 2 * * mon-fri',
      timezone: 'Europe/Berlin',
      action: 'backup',
      type: 'database',
      compress: true,
      label: 'night',
      tags: ['auto'],
      destinations: [],
      enabled: true,
      jitterSeconds: 0,
      missedRuns: 'run-once',
      overlap: 'skip',
      verifyLevel: 1,
      quorum: 'all',
      retentionPolicy: null,
      maxAttempts: 1,
      retryDelaySeconds: 60,
      lastRunAt: null,
      lastStatus: null,
      nextRunAt: schedule.nextRuns[0],
      nextRuns: Array.from({ length: 5 }, () => expect.stringMatching(/T0[01]:30:00\.000Z$/)),
      runCount: 0,
      failureCount: 0,
      missedCount: 0,
      skippedCount: 0,
      createdAt: expect.any(String),
      updatedAt: expect.any(String),
    });
  });

  it('is stopped and started by enabled, and found by name', async () => {
    expect(await good(change({ id: 'nightly', enabled: false }))).toMatchObject({
      enabled: false,
      nextRunAt: null,
      nextRuns: [],
    });
    expect((await list('?enabled=false')).body.data.map(({ name }) => name)).toEqual(['nightly']);
    await setSlot(schedule.id, justNow());
    await tick();
    expect((await show('nightly')).history).toEqual([]);
    expect(await good(change({ id: schedule.id, enabled: true }))).toMatchObject({
      enabled: true,
      nextRunAt: schedule.nextRunAt,
    });
  });

  it('makes a backup at its time, tells which slot it is for, and verifies it', async () => {
    const slot = justNow();
    await setSlot(schedule.id, slot);
    const { history, lastStatus, runCount, nextRunAt } = await untilStatus('nightly', 'completed');
    expect(history).toHaveLength(1);
    expect(history[0]).toMatchObject({
      trigger: 'schedule',
      attempt: 1,
      scheduledFor: slot.toISOString(),
      missed: 0,
      note: null,
    });
    expect({ lastStatus, runCount, nextRunAt }).toEqual({ lastStatus: 'completed', runCount: 1, nextRunAt: schedule.nextRunAt });
    const backup = await details(history[0]?.backupId ?? '');
    expect(backup).toMatchObject({
      status: 'completed',
      origin: 'schedule',
      type: 'database',
      label: 'night',
      tags: ['auto'],
      schedule: { id: schedule.id, name: 'nightly' },
      scheduledFor: slot.toISOString(),
    });
    await until(async () => (await details(backup.id)).proofLevel === 1);
  });

  it('that was due three times while no server was there runs once, and says so', async () => {
    await good(change({ id: 'nightly', cron: '0 * * * *', verifyLevel: 0 }));
    const hour = new Date(Math.floor(Date.now() / 3_600_000) * 3_600_000);
    await setSlot(schedule.id, new Date(hour.getTime() - 3 * 3_600_000));
    const { history, missedCount } = await untilStatus('nightly', 'completed');
    expect(history[0]).toMatchObject({
      scheduledFor: hour.toISOString(),
      missed: 3,
      note: expect.stringMatching(/3 times.*made up/),
    });
    expect({ missedCount, runs: history.length }).toEqual({ missedCount: 3, runs: 2 });
    const told = await server.current.foundation.catalog.db
      .selectFrom('outbox')
      .selectAll()
      .where('type', '=', 'schedule.missed')
      .execute();
    expect(told.map(({ body }) => JSON.parse(body).data.schedule)).toEqual([
      expect.objectContaining({ name: 'nightly', missed: 3, source: expect.objectContaining({ name: 'default' }) }),
    ]);
  });

  it('that is to skip what it missed does not run, and says so', async () => {
    await good(change({ id: 'nightly', cron: '0 0 1 1 *', missedRuns: 'skip' }));
    await setSlot(schedule.id, new Date(`${new Date().getUTCFullYear()}-01-01T00:00:00Z`));
    const { history, missedCount, lastStatus } = await untilStatus('nightly', 'missed');
    expect(history[0]).toMatchObject({ backupId: null, missed: 1, finishedAt: expect.any(String) });
    expect({ missedCount, lastStatus }).toEqual({ missedCount: 4, lastStatus: 'missed' });
  });

  it('that is to skip what it missed does not run for the last of several slots either, however fresh', async () => {
    // No slot of these is a full hour: that one has had its run above, and no slot has two.
    await good(change({ id: 'nightly', cron: '2-59/5 * * * *' }));
    const last = Math.floor((Date.now() - 2 * MINUTE_MS) / (5 * MINUTE_MS)) * 5 * MINUTE_MS + 2 * MINUTE_MS;
    const { history, runCount } = await show('nightly');
    await setSlot(schedule.id, new Date(last - 10 * MINUTE_MS));
    // The run before it was a missed one too: only another entry tells that this slot was looked at.
    await until(async () => {
      await tick();
      return (await show('nightly')).history.length > history.length;
    });
    const after = await show('nightly');
    expect(after.history.length).toBe(history.length + 1);
    expect(after.history[0]).toMatchObject({ backupId: null, scheduledFor: expect.any(String) });
    expect(after.history[0]?.missed).toBeGreaterThanOrEqual(3);
    expect(after.runCount).toBe(runCount);
    await good(change({ id: 'nightly', cron: '0 0 1 1 *' }));
  });

  it('skips a slot while the backup before goes on, or queues another', async () => {
    await good(change({ id: 'nightly', missedRuns: 'run-once' }));
    const { db } = server.current.foundation.catalog;
    const [newest] = (await show('nightly')).history.filter(({ backupId }) => backupId !== null);
    await db
      .updateTable('backups')
      .set({ status: 'running', heartbeat_at: new Date(Date.now() + MINUTE_MS) })
      .where('id', '=', newest?.backupId ?? '')
      .execute();
    await setSlot(schedule.id, justNow());
    expect((await untilStatus('nightly', 'skipped')).history[0]).toMatchObject({
      backupId: null,
      note: expect.stringMatching(/going on/),
    });
    await good(change({ id: 'nightly', overlap: 'queue' }));
    const before = (await show('nightly')).history.length;
    await setSlot(schedule.id, justNow());
    const { history } = await untilStatus('nightly', 'waiting');
    expect(history[0]).toMatchObject({ backupId: null, note: expect.stringMatching(/when the run before it has ended/) });
    await tick();
    expect((await show('nightly')).history[0]?.status).toBe('waiting');
    await db
      .updateTable('backups')
      .set({ status: 'completed', heartbeat_at: null })
      .where('id', '=', newest?.backupId ?? '')
      .execute();
    const after = (await untilStatus('nightly', 'completed')).history;
    expect(after[0]).toMatchObject({ id: history[0]?.id, scheduledFor: history[0]?.scheduledFor, backupId: expect.any(String) });
    expect(after).toHaveLength(before + 1);
    await good(change({ id: 'nightly', enabled: false }));
  });

  it('runs now when it is asked to, stopped or not', async () => {
    const backup = await good(server.current.api<BackupDto>('POST', `${path}/nightly/run`));
    expect(backup).toMatchObject({ origin: 'schedule', schedule: { name: 'nightly' }, scheduledFor: null });
    const { history } = await untilStatus('nightly', 'completed');
    expect(history[0]).toMatchObject({ trigger: 'manual', scheduledFor: null, backupId: backup.id });
  });

  it('tries a slot again when its backup fails, later each time, and no more often than it may', async () => {
    const { connection } = { connection: urlOf(postgres.current.connection('nowhere')) };
    await good(server.current.api('POST', '/api/sources', { name: 'gone', url: connection }));
    const { id } = await good(
      create({ name: 'stubborn', source: 'gone', cron: '0 5 * * *', maxAttempts: 2, retryDelaySeconds: 3600 }),
    );
    await setSlot(id, justNow());
    const { history } = await untilStatus(id, 'waiting');
    expect(history.map(({ status, attempt, trigger }) => [status, attempt, trigger])).toEqual([
      ['waiting', 2, 'retry'],
      ['failed', 1, 'schedule'],
    ]);
    await server.current.foundation.catalog.db
      .updateTable('schedule_runs')
      .set({ due_at: new Date() })
      .where('status', '=', 'waiting')
      .execute();
    const { history: ended, failureCount, lastStatus } = await untilStatus(id, 'failed');
    expect(ended.map(({ status, attempt }) => [status, attempt])).toEqual([
      ['failed', 2],
      ['failed', 1],
    ]);
    expect({ failureCount, lastStatus }).toEqual({ failureCount: 2, lastStatus: 'failed' });
    expect(new Set(ended.map(({ scheduledFor }) => scheduledFor)).size).toBe(1);
  });

  it('that checks tells when a source no longer answers, and when all is well again', async () => {
    const run = () => server.current.api('POST', `${path}/hourly-status-check/run`);
    await good(run());
    const degraded = await untilStatus('hourly-status-check', 'degraded');
    expect(degraded.history[0]?.note).toMatch(/The source gone: .*nowhere/);
    await good(run());
    await until(async () => {
      await tick();
      return (await show('hourly-status-check')).history[1]?.status === 'degraded';
    });
    await good(server.current.api('DELETE', '/api/sources/gone'));
    expect((await list()).body.data.map(({ name }) => name)).not.toContain('stubborn');
    await good(run());
    await untilStatus('hourly-status-check', 'healthy');
    const told = await server.current.foundation.catalog.db
      .selectFrom('outbox')
      .selectAll()
      .where('type', 'like', 'status.%')
      .orderBy('position')
      .execute();
    expect(told.map(({ type }) => type)).toEqual(['status.degraded', 'status.recovered']);
  });

  it('has its slots again after the clock was a day ahead and was set back, and none of them twice', async () => {
    const { app } = server.current.running;
    const clock = app.get(Clock, { strict: false });
    const ticker = app.get(ScheduleTicker, { strict: false });
    const { id } = await good(create({ name: 'ahead', cron: '0 * * * *', verifyLevel: 0 }));
    const real = clock.now.bind(clock);
    try {
      clock.now = () => new Date(Date.now() + 24 * 60 * MINUTE_MS);
      await untilStatus(id, 'completed');
    } finally {
      clock.now = real;
    }
    const ahead = await show(id);
    expect(Date.parse(ahead.nextRunAt ?? '')).toBeGreaterThan(Date.now() + 23 * 60 * MINUTE_MS);
    await ticker.goBack();
    const back = await show(id);
    expect(Date.parse(back.nextRunAt ?? '')).toBeLessThanOrEqual(Date.now() + 61 * MINUTE_MS);
    // The slot that ran in the wrong day is passed by when it comes.
    const taken = new Date(ahead.history[0]?.scheduledFor ?? '');
    try {
      clock.now = () => new Date(taken.getTime() + 1000);
      await setSlot(id, taken);
      await until(async () => {
        await tick();
        return Date.parse((await show(id)).nextRunAt ?? '') > taken.getTime();
      });
    } finally {
      clock.now = real;
    }
    expect((await show(id)).history).toHaveLength(ahead.history.length);
    await good(server.current.api('DELETE', `${path}?id=ahead`));
  });

  it('goes when it is deleted, and its backups stay', async () => {
    const { history } = await show('nightly');
    expect((await server.current.api('DELETE', `${path}?id=nightly`)).body.data).toMatchObject({ name: 'nightly' });
    expect((await server.current.api('GET', `${path}?id=nightly`)).status).toBe(404);
    const backup = history.find(({ status }) => status === 'completed')?.backupId ?? '';
    expect((await details(backup)).schedule).toMatchObject({ name: 'nightly' });
  });
});

describe('what a schedule names', () => {
  it('is checked when it is written and when it is changed, and its quorum holds for its backups', async () => {
    await good(server.current.api('POST', '/api/destinations', { name: 'second', kind: 'local', folder: 'second' }));
    const policy = await good(
      server.current.api<{ id: string }>('POST', '/api/retention-policies', { name: 'kept', keepLast: 50 }),
    );
    const names = { retentionPolicy: 'kept', destinations: ['local', 'second'] };
    const made = await good(create({ name: 'named', cron: '0 2 29 2 *', ...names, quorum: 1 }));
    expect(made).toMatchObject({ ...names, quorum: 1 });
    const started = await good(server.current.api<BackupDto>('POST', `${path}/named/run`));
    const row = server.current.foundation.catalog.db.selectFrom('backups').select('quorum').where('id', '=', started.id);
    expect(await row.executeTakeFirst()).toEqual({ quorum: 1 });
    for (const [body, field] of [
      [{ retentionPolicy: 'gone' }, 'retentionPolicy'],
      [{ destinations: ['gone'] }, 'destinations'],
      [{ quorum: 3 }, 'quorum'],
      [{ destinations: ['local'], quorum: 2 }, 'quorum'],
    ] as const)
      expect([body, Object.keys((await change({ id: 'named', ...body })).body.fields ?? {})]).toEqual([body, [field]]);
    expect(await good(change({ id: 'named', quorum: 'all', retentionPolicy: policy.id }))).toMatchObject({
      quorum: 'all',
      retentionPolicy: policy.id,
    });
    expect(await good(change({ id: 'named', retentionPolicy: null }))).toMatchObject({ retentionPolicy: null });
  });
});

describe('the history of a schedule', () => {
  it('forgets what is older than 30 days and not among its last hundred, and nothing that has not ended', async () => {
    const { id } = await good(create({ name: 'old', cron: '0 2 29 2 *', enabled: false }));
    const { db } = server.current.foundation.catalog;
    await sql`INSERT INTO schedule_runs (id, schedule_id, trigger, status, created_at, finished_at)
      SELECT 'srun_old_' || n, ${id}, 'manual', CASE WHEN n = 150 THEN 'queued' ELSE 'completed' END,
        now() - make_interval(days => n), CASE WHEN n <> 150 THEN now() - make_interval(days => n) END
      FROM generate_series(1, 150) n`.execute(db);
    await server.current.running.app.get(ScheduleTicker, { strict: false }).prune();
    const left = await db.selectFrom('schedule_runs').select('id').where('schedule_id', '=', id).execute();
    const numbers = left.map((row) => Number(row.id.replace('srun_old_', ''))).sort((a, b) => a - b);
    expect(numbers).toEqual([...Array.from({ length: 100 }, (_, i) => i + 1), 150]);
    await sql`UPDATE schedule_runs SET created_at = now(), finished_at = now() WHERE schedule_id = ${id}`.execute(db);
    await server.current.running.app.get(ScheduleTicker, { strict: false }).prune();
    expect(await db.selectFrom('schedule_runs').select('id').where('schedule_id', '=', id).execute()).toHaveLength(101);
  });
});

describe('a request for a schedule', () => {
  it.each([
    [{ cron: '0 0 2 * * *' }, 'cron', /6 fields instead of 5/],
    [{ cron: '0 25 * * *' }, 'cron', /"25" for the hour/],
    [{ cron: '0 0 30 2 *' }, 'cron', /never comes/],
    [{ timezone: 'Mars/Olympus' }, 'timezone', /IANA/],
    [{ missedRuns: 'all' }, 'missedRuns', /one of/],
    [{ verifyLevel: 6 }, 'verifyLevel', /5/],
    [{ jitterSeconds: -1 }, 'jitterSeconds', /0/],
    [{ name: '' }, 'name', /./],
    [{ seconds: 5 }, 'seconds', /not a field/],
    [{ retentionPolicy: 'nowhere' }, 'retentionPolicy', /no retention policy/],
    [{ destinations: ['local', 'nowhere'] }, 'destinations', /"nowhere"/],
    [{ quorum: 2 }, 'quorum', /more than the 1 destinations/],
    [{ quorum: 0 }, 'quorum', /1/],
    [{ quorum: 'most' }, 'quorum', /integer/],
  ])('is refused: %j', async (body, field, why) => {
    const answer = await create({ name: 'x', cron: '0 2 * * *', ...body });
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 400, code: 'VALIDATION_ERROR' });
    expect(answer.body.fields?.[field]).toMatch(why);
  });

  it('is refused for an unknown source, a taken name, no id, and another organization', async () => {
    expect((await create({ name: 'x', cron: '0 2 * * *', source: 'nothing' })).status).toBe(404);
    expect((await create({ name: 'daily-backup', cron: '0 2 * * *' })).status).toBe(409);
    expect((await change({ enabled: false })).body.fields).toHaveProperty('id');
    expect((await server.current.api('DELETE', path)).body.fields).toHaveProperty('id');
    const stranger = await server.current.createOrganization('strangers');
    expect((await server.current.api('GET', `${path}?id=daily-backup`, undefined, stranger.key)).status).toBe(404);
    expect((await server.current.api('PUT', path, { id: 'daily-backup' }, stranger.key)).status).toBe(404);
    expect((await server.current.api('DELETE', `${path}?id=daily-backup`, undefined, stranger.key)).status).toBe(404);
    expect((await server.current.api('POST', `${path}/daily-backup/run`, undefined, stranger.key)).status).toBe(404);
    const reader = await server.current.createKey(['schedule:read']);
    expect((await server.current.api('GET', path, undefined, reader)).status).toBe(200);
    expect((await server.current.api('POST', path, { name: 'x', cron: '0 2 * * *' }, reader)).status).toBe(403);
  });
});
