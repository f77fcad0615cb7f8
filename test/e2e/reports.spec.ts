import { beforeAll, describe, expect, it } from '@jest/globals';
import type { ComplianceReportDto } from '../../src/reports/report.dto.js';
import type { SourceDto } from '../../src/sources/source.dto.js';
import { BackupTrash } from '../../src/backups/backup-trash.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, createRestore, ended, good, type Run, verify } from '../support/runs.js';
import { urlOf, useServer } from '../support/server.js';

const DAY_MS = 86_400_000;
const postgres = usePostgres();
const server = useServer({ TRASH_DAYS: '0' });
const path = (query = '') => `/api/reports/compliance?${query}`;
const report = (query = '') => good(server.current.api<ComplianceReportDto>('GET', path(query)));
const daysAgo = (days: number) => new Date(Date.now() - days * DAY_MS).toISOString();

let whole: Run;
let restore: Run;

beforeAll(async () => {
  const connection = postgres.current.connection(await postgres.current.createSampleDatabase('shop'));
  await good(
    server.current.api('POST', '/api/sources', {
      name: 'shop',
      url: urlOf(connection),
      targets: { rpoMinutes: 60, rtoMinutes: 5 },
    }),
  );
  await good(server.current.api('POST', '/api/sources', { name: 'Бухгалтерия', url: urlOf({ ...connection, port: 1 }) }));
  whole = await backUp(server.current, { source: 'shop' });
  await verify(server.current, whole.id, 2);
  restore = await createRestore(server.current, whole.id, { mode: 'new-database', database: 'copy' });
  await ended(server.current, restore.id);
  await backUp(server.current, { source: 'Бухгалтерия' });
  await good(
    server.current.api('POST', '/api/backups/schedule', { name: 'nightly', source: 'shop', cron: '0 2 * * *', timezone: 'UTC' }),
  );
  const name = '=HYPERLINK("x"), бюро';
  await server.current.foundation.catalog.db.updateTable('organizations').set({ name }).execute();
  // As if it had been there for four days, with a backup of one of the nights.
  const { db } = server.current.foundation.catalog;
  const row = await db
    .updateTable('schedules')
    .set({ updated_at: new Date(daysAgo(4)) })
    .where('name', '=', 'nightly')
    .returning('id')
    .executeTakeFirstOrThrow();
  await db
    .updateTable('schedules')
    .set({ created_at: new Date(daysAgo(4)) })
    .execute();
  const slot = new Date(Date.now() - 2 * DAY_MS);
  slot.setUTCHours(2, 0, 0, 0);
  await db.updateTable('backups').set({ schedule_id: row.id, scheduled_for: slot }).where('id', '=', whole.id).execute();
});

describe('the compliance report', () => {
  it('holds what was measured against what is promised, for each source', async () => {
    const { sources, audit, organization } = await report();
    const [shop, broken] = sources;
    expect(organization.name).toBe('=HYPERLINK("x"), бюро');
    expect(audit).toMatchObject({ intact: true });
    expect(sources.map(({ name }) => name)).toEqual(['shop', 'Бухгалтерия']);
    expect(shop).toMatchObject({
      verdict: 'missed',
      rpo: { targetMinutes: 60, restorePoints: 1, met: true },
      rto: { targetMinutes: 5, measuredBy: restore.id, measurements: 1, met: true },
      backups: { completed: 1, failed: 0, successRate: 1 },
      verifications: { completed: 1, failed: 0, highestLevel: 2, drills: 0 },
      newest: { id: whole.id, level: 2, broken: false },
      newestProven: { id: whole.id, level: 2 },
      encryption: { method: 'age', recipients: [expect.stringMatching(/^age1/)], notRecorded: 0 },
      restoreCount: 1,
      restores: [
        {
          id: restore.id,
          backupId: whole.id,
          database: 'copy',
          mode: 'new-database',
          status: 'completed',
          countsEqual: true,
          by: expect.stringContaining('api-key'),
        },
      ],
    });
    // Four nights, of which one has a completed backup.
    const [nightly] = shop!.schedule.schedules;
    expect(nightly!.missed).toBe(nightly!.expected - 1);
    expect([3, 4]).toContain(nightly!.expected);
    expect(shop!.schedule.met).toBe(false);
    expect(shop!.rto.measuredMs).toBe(
      (await good(server.current.api<Run & { durationMs: number }>('GET', `/api/restores/${restore.id}`))).durationMs,
    );
    expect(broken).toMatchObject({
      verdict: 'unknown',
      backups: { completed: 0, failed: 1, successRate: 0 },
      newest: null,
      rpo: { met: null },
    });
  });

  it('says the same as CSV, with every cell in its place and no formula', async () => {
    const json = await report();
    const answer = await server.current.request('GET', path('format=csv'));
    expect(answer.headers['content-type']).toBe('text/csv; charset=utf-8');
    expect(answer.headers['content-disposition']).toMatch(
      /^attachment; filename="compliance_\d{4}-\d\d-\d\d_\d{4}-\d\d-\d\d\.csv"$/,
    );
    const [head, ...rows] = csv(answer.bytes.toString());
    const cell = (row: number, name: string) => rows[row]![head!.indexOf(name)];
    expect(rows.map((row) => row.length)).toEqual([head!.length, head!.length]);
    expect(cell(1, 'organization')).toBe(`'=HYPERLINK("x"), бюро`);
    expect(cell(1, 'source')).toBe('Бухгалтерия');
    expect(cell(0, 'newestBackup')).toBe(whole.id);
    expect(cell(0, 'rtoMeasuredMs')).toBe(String(json.sources[0]!.rto.measuredMs));
    expect(cell(0, 'restoredBy')).toContain('copy completed');
    expect(cell(0, 'schedule')).toBe('missed');
  });

  it('is a PDF by `format` or by Accept', async () => {
    for (const [query, headers] of [
      ['format=pdf', {}],
      ['', { accept: 'application/pdf;q=0.9, */*' }],
    ] as const) {
      const answer = await server.current.request('GET', path(query), { headers });
      expect(answer.headers['content-type']).toBe('application/pdf');
      expect(answer.bytes.subarray(0, 5).toString()).toBe('%PDF-');
      expect(answer.bytes.subarray(-6).toString()).toContain('%%EOF');
    }
    expect((await server.current.request('GET', path(), { headers: { accept: 'text/csv' } })).headers['content-type']).toContain(
      'csv',
    );
    expect((await server.current.request('GET', path(), { headers: { accept: 'image/png' } })).body.success).toBe(true);
  });

  it('refuses a period that is empty, too long, to come or no time at all', async () => {
    for (const [query, field] of [
      ['from=2026-02-02&to=2026-02-01', 'from'],
      ['from=2026-02-01&to=2026-02-01', 'from'],
      ['from=2020-01-01&to=2026-01-01', 'to'],
      ['from=2190-01-01&to=2190-01-02', 'from'],
      ['from=yesterday', 'from'],
      ['to=2026-02-30', 'to'],
      ['format=xml', 'format'],
      ['since=2026-01-01', 'since'],
    ]) {
      const { status, body } = await server.current.api('GET', path(query));
      expect({ query, status, fields: Object.keys(body.fields ?? {}) }).toEqual({ query, status: 400, fields: [field] });
    }
  });

  it('looks at its period alone', async () => {
    const { sources } = await report(`from=${daysAgo(20)}&to=${daysAgo(10)}`);
    expect(sources).toEqual([]);
  });

  it('is for those who may read reports, of their own organization', async () => {
    expect((await server.current.api('GET', path(), undefined, null)).status).toBe(401);
    expect(
      (await server.current.api('GET', path(), undefined, await server.current.createKey(['backup:read', 'audit:read']))).status,
    ).toBe(403);
    expect((await server.current.api('GET', path(), undefined, await server.current.createKey(['report:read']))).status).toBe(
      200,
    );
    const other = await server.current.createOrganization('others');
    const { body } = await server.current.api<ComplianceReportDto>('GET', path(), undefined, other.key);
    expect(body.data).toMatchObject({ organization: { id: other.id, name: 'others' }, sources: [] });
    expect(JSON.stringify(body)).not.toContain('shop');
    const [entry] = await good(
      server.current.api<{ action: string; changes: object }[]>('GET', '/api/audit?action=report.created&limit=1'),
    );
    expect(entry).toMatchObject({ action: 'report.created', changes: { format: 'json' } });
  });

  it('still tells of backups, restores and verifications whose backup is removed for good', async () => {
    const before = (await report()).sources[0]!;
    await backUp(server.current, { source: 'shop' });
    await good(server.current.api('DELETE', `/api/backups/${whole.id}`));
    await server.current.running.app.get(BackupTrash).empty();
    expect((await server.current.api('GET', `/api/backups/${whole.id}/details`)).status).toBe(404);
    const after = (await report()).sources[0]!;
    expect(after.restores).toEqual(before.restores);
    expect(after.verifications).toEqual(before.verifications);
    expect(after.schedule.schedules[0]!.firstMissed).toEqual(before.schedule.schedules[0]!.firstMissed);
    expect(after.backups).toMatchObject({ completed: 2 });
    expect(after.rto).toEqual(before.rto);
    expect(after.encryption).toEqual(before.encryption);
    expect(after.retention).toMatchObject({ kept: 1, removedByHand: 1, met: null });
  });

  it('holds removals by hand against the policy of a source', async () => {
    await good(
      server.current.api<SourceDto>('POST', '/api/retention-policies', {
        name: 'standard',
        keepLast: 3,
        keepWeekly: 2,
        sources: ['shop'],
      }),
    );
    const shop = (await report()).sources[0]!;
    expect(shop.retention).toMatchObject({
      policies: [{ name: 'standard', rules: 'last 3, 2 weekly' }],
      met: false,
      waitingForRemoval: 0,
    });
  });
});

/** Cells of RFC 4180. */
function csv(text: string): string[][] {
  const rows: string[][] = [[]];
  let rest = text;
  while (rest !== '') {
    const match = /^(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/.exec(rest)!;
    rows.at(-1)!.push(match[1] === undefined ? match[2]! : match[1].replaceAll('""', '"'));
    if (match[3] === '\r\n') rows.push([]);
    rest = rest.slice(match[0].length);
  }
  return rows.slice(0, -1);
}
