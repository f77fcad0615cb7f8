import { beforeAll, describe, expect, it } from '@jest/globals';
import type { AlertDto } from '../../src/alerts/alert.dto.js';
import type { SourceDto } from '../../src/sources/source.dto.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, good } from '../support/runs.js';
import { urlOf, useServer } from '../support/server.js';

const postgres = usePostgres();
const server = useServer();
const open = () => good(server.current.api<AlertDto[]>('GET', '/api/alerts?open=true'));
const exec = (sql: string) => postgres.current.exec('shop', sql);
const change = (body: object) => good(server.current.api<SourceDto>('PUT', '/api/sources/shop', body));

beforeAll(async () => {
  const database = await postgres.current.createDatabase('shop');
  await exec(
    `CREATE TABLE users AS SELECT n, repeat('x', 100) AS note FROM generate_series(1, 2000) n; CREATE TABLE plans AS SELECT 1 AS n`,
  );
  await good(server.current.api('POST', '/api/sources', { name: 'shop', url: urlOf(postgres.current.connection(database)) }));
});

describe('alerts of a source', () => {
  it('are not raised by a first backup, nor by one with more in it', async () => {
    await backUp(server.current);
    await exec(`INSERT INTO users SELECT n, repeat('x', 100) FROM generate_series(1, 100) n`);
    await backUp(server.current);
    expect(await open()).toEqual([]);
  });

  it('are raised by what the backup before had, keep their base, and close when it is there again', async () => {
    await exec('ALTER TABLE plans RENAME TO offers; CREATE TABLE kept AS TABLE users; TRUNCATE users');
    await exec('ALTER TABLE kept RENAME TO aside; DROP TABLE aside');
    const lacking = await backUp(server.current);
    const raised = await open();
    expect(raised.map(({ rule }) => rule).sort()).toEqual(['rows-dropped', 'size-dropped', 'table-lost']);
    expect(raised.every(({ backupId, closedAt }) => backupId === lacking.id && closedAt === null)).toBe(true);
    expect(raised.find(({ rule }) => rule === 'table-lost')).toMatchObject({
      source: { name: 'shop' },
      message: '1 table of the backup before is gone: public.plans.',
      tables: ['public.plans'],
    });

    const told = await server.current.foundation.catalog.db
      .selectFrom('outbox')
      .selectAll()
      .where('type', '=', 'alert.raised')
      .execute();
    expect(told.map(({ body }) => (JSON.parse(body) as { data: { alert: AlertDto } }).data.alert)).toEqual(
      expect.arrayContaining(raised),
    );
    expect(told.length).toBe(3);

    // Compared with the one before it, the next backup lacks nothing; what was lost is still lost.
    const next = await backUp(server.current);
    expect((await open()).map(({ id, baseBackupId, backupId }) => ({ id, baseBackupId, backupId }))).toEqual(
      raised.map(({ id, baseBackupId }) => ({ id, baseBackupId, backupId: next.id })),
    );

    await exec(
      `ALTER TABLE offers RENAME TO plans; INSERT INTO users SELECT n, repeat('x', 100) FROM generate_series(1, 2100) n`,
    );
    await backUp(server.current);
    expect(await open()).toEqual([]);
    const closed = await good(server.current.api<AlertDto[]>('GET', '/api/alerts?open=false&source=shop&limit=2'));
    expect(closed.map(({ closedBy }) => closedBy)).toEqual(['recovered', 'recovered']);
    const { n } = await server.current.foundation.catalog.db
      .selectFrom('outbox')
      .select((e) => e.fn.countAll<number>().as('n'))
      .where('type', '=', 'alert.closed')
      .executeTakeFirstOrThrow();
    expect(Number(n)).toBe(3);
  });

  it('are closed by a person, who says why; once', async () => {
    await exec('DROP TABLE plans');
    await backUp(server.current);
    const [alert] = await open();
    const path = `/api/alerts/${alert?.id}/acknowledge`;
    expect((await server.current.api('POST', path, {}, (await server.current.createOrganization('others')).key)).status).toBe(
      404,
    );
    expect((await server.current.api('POST', path, {}, await server.current.createKey(['backup:read']))).status).toBe(403);
    expect(await good(server.current.api('POST', path, { note: 'plans moved to another service' }))).toMatchObject({
      closedBy: 'acknowledged',
      note: 'plans moved to another service',
    });
    expect((await server.current.api('POST', path, {})).status).toBe(409);
    await backUp(server.current);
    expect(await open()).toEqual([]);
  });

  it('follow the limits of the source, and what it leaves out', async () => {
    expect(await change({ alerts: { rowsDroppedPercent: null } })).toMatchObject({
      alerts: { tableLost: true, rowsDroppedPercent: null, sizeDroppedPercent: 50 },
    });
    await change({ alerts: { sizeDroppedPercent: null }, excludeTables: ['users'] });
    await backUp(server.current);
    expect(await open()).toEqual([]);
    expect((await server.current.api('PUT', '/api/sources/shop', { alerts: { rowsDroppedPercent: 0 } })).body.fields).toEqual({
      'alerts.rowsDroppedPercent': expect.any(String),
    });
    expect((await change({})).alerts).toEqual({ tableLost: true, rowsDroppedPercent: null, sizeDroppedPercent: null });
  });
});
