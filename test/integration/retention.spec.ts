import { beforeAll, describe, expect, it, jest } from '@jest/globals';
import { sql } from 'kysely';
import { BackupTrash } from '../../src/backups/backup-trash.js';
import type { BackupDto } from '../../src/backups/backup.dto.js';
import { ArtifactStore } from '../../src/engine/store/artifact-store.js';
import { RetentionRunner } from '../../src/retention/retention-runner.js';
import type { RetentionDecisionDto, RetentionPolicyDto } from '../../src/retention/retention.dto.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, good, storedFiles } from '../support/runs.js';
import { urlOf, useServer } from '../support/server.js';
import { until } from '../support/until.js';

const postgres = usePostgres();
// Before the server starts.
beforeAll(async () => {
  for (const name of ['shop', 'catalog']) await postgres.current.createDatabase(name);
  await postgres.current.exec('shop', 'CREATE TABLE t AS SELECT generate_series(1, 100) AS n');
});
const server = useServer(() => ({
  DATABASE_URL: urlOf(postgres.current.connection('catalog')),
  SECRET_KEY: Buffer.alloc(32, 1).toString('base64'),
  SOURCE_DATABASE_URL: urlOf(postgres.current.connection('shop')),
  TRASH_DAYS: '3',
}));
const api = <T>(method: string, path: string, body?: unknown, key?: string) => server.current.api<T>(method, path, body, key);
const policies = (path = '') => `/api/retention-policies${path}`;
const catalog = () => server.current.foundation.catalog.db;
const trash = () => server.current.running.app.get(BackupTrash);
const apply = () =>
  server.current.running.app.get(RetentionRunner).apply(server.current.foundation.installation.defaultOrganizationId);
const inTrash = () => good(api<BackupDto[]>('GET', '/api/backups/list?trash=true&limit=100'));
const make = async () => (await backUp(server.current, { type: 'database' })).id;
const of = async (id: string) => (await storedFiles(server.current.dataDir)).filter((file) => file.includes(id));

describe('retention policies', () => {
  it('are created, listed, shown by id and name, changed and deleted', async () => {
    const made = await good(
      api<RetentionPolicyDto>('POST', policies(), { name: 'standard', keepLast: 7, keepDays: 30, sources: ['default'] }),
    );
    expect(made).toMatchObject({
      keepLast: 7,
      keepDays: 30,
      keepDaily: 0,
      maxBytes: null,
      sources: ['default'],
      timezone: 'UTC',
    });
    expect(await good(api('GET', policies('/standard')))).toEqual(made);
    const changed = await good(api<RetentionPolicyDto>('PUT', policies(`/${made.id}`), { keepDays: null, keepWeekly: 4 }));
    expect(changed).toMatchObject({ keepLast: 7, keepDays: null, keepWeekly: 4 });
    expect(await good(api('GET', policies()))).toEqual([changed]);
    expect((await api('POST', policies(), { name: 'standard' })).status).toBe(409);
    await good(api('DELETE', policies('/standard')));
    expect((await api('GET', policies('/standard'))).status).toBe(404);
  });

  it('are refused with the field that is wrong, and change nothing', async () => {
    const wrong: [object, string][] = [
      [{ keepLast: 1 }, 'name'],
      [{ name: 'p', keepDays: 366 }, 'keepDays'],
      [{ name: 'p', keepDays: 0 }, 'keepDays'],
      [{ name: 'p', keepLast: -1 }, 'keepLast'],
      [{ name: 'p', keepLast: 1.5 }, 'keepLast'],
      [{ name: 'p', timezone: 'Mars/Base' }, 'timezone'],
      [{ name: 'p', keep: 1 }, 'keep'],
    ];
    for (const [body, field] of wrong) {
      const { status, body: answer } = await api('POST', policies(), body);
      expect({ status, fields: Object.keys(answer.fields ?? {}) }).toEqual({ status: 400, fields: [field] });
    }
    expect((await api('POST', policies(), { name: 'p', sources: ['nowhere'] })).status).toBe(404);
    expect(await good(api('GET', policies()))).toEqual([]);
  });

  it('of another organization are not there', async () => {
    const other = await server.current.createOrganization('other');
    await good(api('POST', policies(), { name: 'theirs', keepLast: 1 }, other.key));
    expect((await api('GET', policies('/theirs/preview'))).status).toBe(404);
    expect((await api('DELETE', policies('/theirs'))).status).toBe(404);
  });
});

describe('backups', () => {
  const ids: string[] = [];

  it('all stay until a policy exists', async () => {
    for (let i = 0; i < 3; i += 1) ids.push(await make());
    expect(await apply()).toBe(0);
    expect(await inTrash()).toEqual([]);
  });

  it('are shown with what would become of them, and by which rule', async () => {
    await good(api('POST', `/api/backups/${ids[0]}/pin`));
    await good(api('POST', policies(), { name: 'last', keepLast: 1 }));
    const preview = await good(api<RetentionDecisionDto[]>('GET', policies('/last/preview')));
    expect(preview.map(({ backupId, kept, rule }) => [backupId, kept, rule])).toEqual([
      [ids[2], true, 'newest'],
      [ids[1], false, 'expired'],
      [ids[0], true, 'pinned'],
    ]);
    expect(await inTrash()).toEqual([]);
  });

  it('stay while an alert is open for their source', async () => {
    const { source_id } = await catalog().selectFrom('backups').select('source_id').executeTakeFirstOrThrow();
    await sql`INSERT INTO alerts (id, organization_id, source_id, rule, base_backup_id, backup_id, detail)
      SELECT 'alert_1', organization_id, id, 'rows-dropped', ${ids[0]}, ${ids[1]}, '{}' FROM sources WHERE id = ${source_id}`.execute(
      catalog(),
    );
    expect(await apply()).toBe(0);
    await sql`DELETE FROM alerts`.execute(catalog());
  });

  it('go to the trash after the next one, with their rule in the answer, the audit trail and an event', async () => {
    ids.push(await make());
    await until(async () => (await inTrash()).length === 2);
    expect((await inTrash()).map(({ id, removedBy }) => [id, removedBy])).toEqual([
      [ids[2], { policy: 'last', rule: 'expired' }],
      [ids[1], { policy: 'last', rule: 'expired' }],
    ]);
    const audited = await catalog().selectFrom('audit_entries').selectAll().where('action', '=', 'backup.deleted').execute();
    expect(Object.fromEntries(audited.map(({ resource_id, changes }) => [resource_id, changes]))).toMatchObject({
      [ids[1]!]: { policy: 'last', rule: 'expired' },
      [ids[2]!]: { policy: 'last', rule: 'expired' },
    });
    const event = await catalog()
      .selectFrom('outbox')
      .select('body')
      .where('type', '=', 'retention.removed')
      .executeTakeFirstOrThrow();
    expect((JSON.parse(event.body) as { data: { backups: unknown[] } }).data.backups).toHaveLength(2);
  });

  it('of which no copy is stored any more are partial: they take the place of none that is whole', async () => {
    const lost = await make();
    // The run that follows each backup is over before the states are changed under it.
    await until(async () => (await inTrash()).length === 3);
    const state = (to: string) =>
      catalog().updateTable('backup_copies').set({ state: to }).where('backup_id', '=', lost).execute();
    expect(await catalog().selectFrom('backup_copies').selectAll().where('backup_id', '=', lost).execute()).toHaveLength(1);
    await state('failed');
    const decided = await good(api<RetentionDecisionDto[]>('GET', policies('/last/preview')));
    expect(decided.find(({ backupId }) => backupId === lost)).toMatchObject({ kept: true, rule: 'history' });
    await state('stored');
    const again = await good(api<RetentionDecisionDto[]>('GET', policies('/last/preview')));
    expect(again.find(({ backupId }) => backupId === lost)).toMatchObject({ kept: true, rule: 'newest' });
  });

  it('that somebody has brought back stay', async () => {
    await good(api('POST', `/api/backups/${ids[2]}/undelete`));
    expect(await apply()).toBe(0);
  });

  it('in the trash are not purged when nothing whole is left beside them', async () => {
    await catalog()
      .updateTable('backups')
      .set({ deleted_at: sql<Date>`now() - interval '9 days'` })
      .where('id', '=', ids[1]!)
      .execute();
    await catalog().updateTable('backups').set({ broken: true }).where('id', '<>', ids[1]!).execute();
    await trash().empty();
    expect(await of(ids[1]!)).not.toEqual([]);
    await catalog().updateTable('backups').set({ broken: false }).execute();
    await trash().empty();
    expect(await of(ids[1]!)).toEqual([]);
  });
});

describe('a removal', () => {
  const store = () => server.current.running.app.get(ArtifactStore);

  async function thrownAway(): Promise<string> {
    const id = await make();
    await catalog()
      .updateTable('backups')
      .set({ deleted_at: sql<Date>`now() - interval '9 days'` })
      .where('id', '=', id)
      .execute();
    return id;
  }

  it('that breaks off at any step is finished later, and shows nothing meanwhile', async () => {
    await good(api('DELETE', policies('/last')));
    for (let step = 0; step < 5; step += 1) {
      const id = await thrownAway();
      let left = step;
      const { remove, removeTree } = store();
      const stop =
        <A extends unknown[]>(work: (...args: A) => Promise<void>) =>
        async (...args: A) => {
          left -= 1;
          if (left < 0) throw new Error('the power is gone');
          await work.apply(store(), args);
        };
      const spies = [
        jest.spyOn(store(), 'remove').mockImplementation(stop(remove)),
        jest.spyOn(store(), 'removeTree').mockImplementation(stop(removeTree)),
      ];
      await trash().empty();
      for (const spy of spies) spy.mockRestore();
      const names = (await of(id)).map((file) => file.split('/').at(-1));
      // The manifest goes first: what is left is no backup, unless nothing is gone.
      expect(names.includes('manifest.json')).toBe(step === 0);
      expect((await api('GET', `/api/backups/${id}/details`)).status).toBe(404);
      await trash().empty();
      expect(await of(id)).toEqual([]);
      expect(await catalog().selectFrom('backups').select('id').where('id', '=', id).execute()).toEqual([]);
    }
  });

  it('goes on past an object that is missing, and past one that stays, which is told and tried again', async () => {
    const [stuck, other] = [await thrownAway(), await thrownAway()];
    const remove = store().remove.bind(store());
    await remove((await of(other)).find((file) => file.endsWith('.age')) ?? '');
    const spy = jest.spyOn(store(), 'remove').mockImplementation(async (key, options) => {
      if (key.includes(stuck) && key.endsWith('.sig')) throw new Error('held by a lock');
      await remove(key, options);
    });
    await trash().empty();
    spy.mockRestore();
    expect(await of(other)).toEqual([]);
    expect((await of(stuck)).map((file) => file.split('/').at(-1))).toEqual(['manifest.json.sig']);
    const health = await good(api<{ parts: { destinations: { status: string; message: string } } }>('GET', '/api/status/health'));
    expect(health.parts.destinations).toMatchObject({ status: 'degraded', message: expect.stringContaining('held by a lock') });
    const metrics = (await api('GET', '/api/status/metrics')).bytes.toString();
    expect(metrics).toContain('backstay_purges{state="failing"} 1');
    await trash().empty();
    expect(await of(stuck)).toEqual([]);
  });
});
