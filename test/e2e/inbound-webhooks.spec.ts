import { describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { Webhook } from 'standardwebhooks';
import type { BackupDto, BackupStatsDto } from '../../src/backups/backup.dto.js';
import type { EndpointDto } from '../../src/webhooks/webhook.dto.js';
import type { ReportedBackupDto } from '../../src/webhooks/inbound.dto.js';
import { blocksOf } from '../support/documented.js';
import { usePostgres } from '../support/postgres.js';
import { useReceiver } from '../support/receiver.js';
import { good } from '../support/runs.js';
import { type Answer, urlOf, useServer } from '../support/server.js';
import { until } from '../support/until.js';

const SECRET = 'shared-secret-of-the-test';
const postgres = usePostgres();
const receiver = useReceiver();
const server = useServer(() => ({
  DATABASE_URL: urlOf(postgres.current.connection('postgres')),
  SECRET_KEY: randomBytes(32).toString('base64'),
  OUTBOUND_ALLOW: '127.0.0.1',
  WEBHOOK_SECRET: SECRET,
}));

const sign = (body: string, secret = SECRET) => `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;

function standard(body: string, at = new Date(), id = `msg_${randomBytes(4).toString('hex')}`): Record<string, string> {
  const signature = new Webhook(SECRET, { format: 'raw' }).sign(id, at, body);
  return { 'webhook-id': id, 'webhook-timestamp': String(Math.floor(at.getTime() / 1000)), 'webhook-signature': signature };
}

/** Sends exact bytes with these headers, without a key. */
function post(body: string, headers: Record<string, string>): Promise<Answer<ReportedBackupDto>> {
  return server.current.request('POST', '/api/webhooks/backup-complete', { key: null, raw: body, headers: { ...headers } });
}

/** Reports by HMAC. */
function report(payload: object, more: Record<string, string> = {}): Promise<Answer<ReportedBackupDto>> {
  const body = JSON.stringify(payload);
  return post(body, { 'x-webhook-signature': sign(body), ...more });
}

const stats = () => good<BackupStatsDto>(server.current.api('GET', '/api/backups/stats'));
const details = (id: string) => server.current.api<BackupDto>('GET', `/api/backups/${id}/details`);
const audited = (action: string) =>
  server.current.foundation.catalog.db.selectFrom('audit_entries').selectAll().where('action', '=', action).execute();

/** Which rows there are. */
async function everything(): Promise<string[]> {
  const { db } = server.current.foundation.catalog;
  const backups = (await db.selectFrom('backups').select('id').execute()).map(({ id }) => id);
  const events = (await db.selectFrom('outbox').select('id').execute()).map(({ id }) => id);
  const messages = (await db.selectFrom('inbound_messages').select('id').execute()).map(({ id }) => id);
  return [...backups, ...events, ...messages].sort();
}

describe('a report of a backup that was made elsewhere', () => {
  it('is recorded as it says, counted, told of, and listed', async () => {
    const endpoint = await good<EndpointDto>(
      server.current.api('POST', '/api/webhooks/endpoints', { url: `${receiver.current.url}/told`, events: ['backup.*'] }),
    );
    const before = await stats();
    const answer = await report({
      backupId: 'backup_2025-12-22_14-30-00',
      status: 'completed',
      metadata: { tables: 2, records: 1247, duration: '15s', size: '12MB' },
    });
    expect(answer).toMatchObject({ status: 200, body: { success: true } });
    const expected = {
      id: 'backup_2025-12-22_14-30-00',
      status: 'completed',
      origin: 'external',
      source: null,
      type: 'full',
      tableCount: 2,
      rowCount: 1247,
      sizeBytes: 12_000_000,
      durationMs: 15_000,
      createdAt: '2025-12-22T14:30:00.000Z',
      finishedAt: '2025-12-22T14:30:15.000Z',
      proofLevel: null,
      error: null,
    };
    expect(answer.body.data).toMatchObject({ ...expected, duplicate: false });
    expect((await details(expected.id)).body.data).toMatchObject(expected);
    const listed = await good<BackupDto[]>(server.current.api('GET', '/api/backups/list'));
    expect(listed.find(({ id }) => id === expected.id)).toMatchObject(expected);
    const after = await stats();
    expect([after.completed - before.completed, after.sizeBytes - before.sizeBytes]).toEqual([1, 12_000_000]);
    await until(() => receiver.current.at('/told').length === 1);
    expect(receiver.current.bodies('/told')[0]).toMatchObject({ type: 'backup.completed', data: { backup: expected } });
    expect(await audited('backup.reported')).toMatchObject([{ resource_id: expected.id, actor_kind: 'system' }]);
    await good(server.current.api('DELETE', `/api/webhooks/endpoints/${endpoint.id}`));
  });

  it('is done once, however often and under whatever proof it comes', async () => {
    const payload = { backupId: 'backup_2025-12-23_01-00-00', status: 'completed', metadata: { records: 5 } };
    const answers = await Promise.all(Array.from({ length: 8 }, () => report(payload)));
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 8 }, () => 200));
    expect(answers.filter(({ body }) => !body.data.duplicate)).toHaveLength(1);
    const body = JSON.stringify({ ...payload, status: 'failed' });
    const later = await post(body, standard(body));
    expect(later).toMatchObject({ status: 200, body: { data: { duplicate: true, status: 'completed', rowCount: 5 } } });
    const told = server.current.foundation.catalog.db.selectFrom('outbox').selectAll().where('subject', '=', payload.backupId);
    expect(await told.execute()).toHaveLength(1);
  });

  it('of a failure is one, with its cause', async () => {
    const answer = await report({ backupId: 'backup_2025-12-22_15-00-00_abc123', status: 'failed', error: 'disk full' });
    expect(answer.body.data).toMatchObject({
      status: 'failed',
      durationMs: null,
      error: { code: 'EXTERNAL_FAILED', message: 'disk full' },
    });
    const event = server.current.foundation.catalog.db.selectFrom('outbox').selectAll().where('type', '=', 'backup.failed');
    expect(await event.where('subject', '=', 'backup_2025-12-22_15-00-00_abc123').execute()).toHaveLength(1);
  });

  it('may name a source, which then has it', async () => {
    const url = urlOf(postgres.current.connection('postgres')).replace(/[^/]+$/, 'shop');
    const source = await good<{ id: string }>(server.current.api('POST', '/api/sources', { name: 'shop', url }));
    const named = await report({ backupId: 'backup_2025-12-24_01-00-00', status: 'completed', source: 'shop' });
    expect(named.body.data.source).toEqual({ id: source.id, name: 'shop' });
    const unknown = await report({ backupId: 'backup_2025-12-24_02-00-00', status: 'completed', source: 'nowhere' });
    expect(unknown).toMatchObject({ status: 400, body: { fields: { source: expect.any(String) } } });
  });

  it.each<[string, object, string]>([
    ['no id', { status: 'completed' }, 'backupId'],
    ['an id of another form', { backupId: '../../etc', status: 'completed' }, 'backupId'],
    ['a time that there is not', { backupId: 'backup_2025-02-30_14-30-00', status: 'completed' }, 'backupId'],
    ['a time in the future', { backupId: 'backup_2999-01-01_00-00-00', status: 'completed' }, 'backupId'],
    ['another status', { backupId: 'backup_2025-12-22_16-00-00', status: 'done' }, 'status'],
    [
      'a duration that is none',
      { backupId: 'backup_2025-12-22_16-00-00', status: 'failed', metadata: { duration: 'long' } },
      'metadata.duration',
    ],
    [
      'a size that is none',
      { backupId: 'backup_2025-12-22_16-00-00', status: 'failed', metadata: { size: {} } },
      'metadata.size',
    ],
    ['half a row', { backupId: 'backup_2025-12-22_16-00-00', status: 'failed', metadata: { records: 1.5 } }, 'metadata.records'],
    [
      'a field that there is not',
      { backupId: 'backup_2025-12-22_16-00-00', status: 'failed', organization: 'x' },
      'organization',
    ],
  ])('is refused with %s, and changes nothing', async (_, payload, field) => {
    const before = await everything();
    expect(await report(payload)).toMatchObject({ status: 400, body: { fields: { [field]: expect.any(String) } } });
    expect(await everything()).toEqual(before);
  });

  it('can neither be restored, nor verified, nor downloaded, and can be thrown away', async () => {
    const { id } = (await report({ backupId: 'backup_2025-12-25_01-00-00', status: 'completed' })).body.data;
    const refusal = { status: 422, body: { code: 'PRECONDITION_FAILED', error: expect.stringMatching(/made elsewhere/) } };
    const target = { mode: 'new-database', database: 'copy' };
    expect(await server.current.api('POST', `/api/backups/${id}/restore`, { target })).toMatchObject(refusal);
    expect(await server.current.api('POST', `/api/backups/${id}/verify`, {})).toMatchObject(refusal);
    expect(await server.current.api('GET', `/api/backups/${id}/download`)).toMatchObject(refusal);
    expect(await server.current.api('DELETE', `/api/backups/${id}`)).toMatchObject({ status: 200 });
    expect((await server.current.api<BackupDto[]>('GET', '/api/backups/list')).body.data.some((each) => each.id === id)).toBe(
      false,
    );
  });
});

describe('who reports', () => {
  it('can do it by the shell of docs/WEBHOOKS.md', async () => {
    const script = (await blocksOf('WEBHOOKS.md')).find(({ tag }) => tag === 'report')?.text ?? '';
    const env = { PATH: process.env['PATH'], BASE: server.current.url, WEBHOOK_SECRET: SECRET };
    const { stdout } = await promisify(execFile)('sh', ['-c', script], { env });
    expect(JSON.parse(stdout)).toMatchObject({ success: true, data: { rowCount: 1247, origin: 'external' } });
    await expect(
      promisify(execFile)('sh', ['-c', script], { env: { ...env, WEBHOOK_SECRET: 'another-secret' } }),
    ).rejects.toThrow(/401/);
  });

  const payload = JSON.stringify({ backupId: 'backup_2025-12-26_01-00-00', status: 'completed' });

  it.each<[string, Record<string, string>]>([
    ['nothing', {}],
    ['a wrong signature', { 'x-webhook-signature': sign(payload, 'wrong') }],
    ['the signature of another body', { 'x-webhook-signature': sign(`${payload} `) }],
    ['a message that is too old', standard(payload, new Date(Date.now() - 301_000))],
    ['an API key only', { 'x-api-key': 'bsk_owner-of-the-test-server-0123456789' }],
    ['another organization', { 'x-webhook-signature': sign(payload), 'x-organization': 'org_unknown' }],
  ])('by %s, is refused, and leaves one line in the audit trail alone', async (_, headers) => {
    const before = await everything();
    const lines = (await audited('webhook.refused')).length;
    expect(await post(payload, headers)).toMatchObject({ status: 401, body: { code: 'UNAUTHORIZED' } });
    expect(await everything()).toEqual(before);
    expect(await audited('webhook.refused')).toHaveLength(lines + 1);
  });

  it('by the exact bytes: another layout of the same JSON has another signature', async () => {
    const spaced = '{ "backupId" : "backup_2025-12-26_02-00-00",\n  "status":"completed", "metadata":{"records":1.0e3} }';
    expect((await post(spaced, { 'x-webhook-signature': sign(JSON.stringify(JSON.parse(spaced))) })).status).toBe(401);
    expect((await post(spaced, { 'x-webhook-signature': sign(spaced) })).body.data).toMatchObject({ rowCount: 1000 });
  });

  it('by Standard Webhooks, and not twice by the same message', async () => {
    const body = payload.replace('01-00-00', '03-00-00');
    const headers = standard(body);
    expect((await post(body, headers)).status).toBe(200);
    expect(await post(body, headers)).toMatchObject({ status: 401, body: { error: expect.stringMatching(/taken before/) } });
    expect((await post(body, standard(body))).body.data).toMatchObject({ duplicate: true });
  });

  it('by the secret itself', async () => {
    const body = payload.replace('01-00-00', '04-00-00');
    expect((await post(body, { 'x-webhook-signature': SECRET })).status).toBe(200);
    expect((await post(body, { 'x-webhook-secret': SECRET })).body.data.duplicate).toBe(true);
  });

  it("is proven by its organization's own secret, which rotates with an overlap", async () => {
    const mine = await server.current.createOrganization('mine');
    const path = '/api/webhooks/inbound-secret';
    expect(await good(server.current.api('GET', path, undefined, mine.key))).toMatchObject({
      exists: false,
      settingApplies: false,
    });
    const rotate = (overlapHours: number) =>
      good<{ secret: string }>(server.current.api('POST', `${path}/rotate`, { overlapHours }, mine.key));
    const first = (await rotate(0)).secret;
    const second = (await rotate(1)).secret;
    const send = (secret: string, id: string) => {
      const body = JSON.stringify({ backupId: id, status: 'completed' });
      return post(body, { 'x-webhook-signature': sign(body, secret), 'x-organization': mine.id });
    };
    expect((await send(first, 'backup_2025-12-27_01-00-00')).status).toBe(200);
    expect((await send(second, 'backup_2025-12-27_02-00-00')).status).toBe(200);
    expect((await send(SECRET, 'backup_2025-12-27_03-00-00')).status).toBe(401);
    const third = (await rotate(0)).secret;
    expect((await send(second, 'backup_2025-12-27_03-00-00')).status).toBe(401);
    // The same id in two organizations is two backups, and neither sees the other.
    const taken = await report({ backupId: 'backup_2025-12-27_01-00-00', status: 'failed' });
    expect(taken.body.data).toMatchObject({ status: 'failed', duplicate: false });
    expect(taken.body.data.id).toMatch(/^backup_2025-12-27_01-00-00_[a-z0-9]{6}$/);
    expect((await details('backup_2025-12-27_01-00-00')).body.data).toMatchObject({ id: taken.body.data.id, status: 'failed' });
    expect((await server.current.api<BackupDto[]>('GET', '/api/backups/list', undefined, mine.key)).body.data).toHaveLength(2);
    const shown = JSON.stringify(await good(server.current.api('GET', path, undefined, mine.key)));
    expect(shown).not.toContain(third.slice(6));
    const rows = JSON.stringify(await server.current.foundation.catalog.db.selectFrom('inbound_secrets').selectAll().execute());
    expect(rows).not.toContain(third.slice(6));
    await good(server.current.api('DELETE', path, undefined, mine.key));
    expect((await send(third, 'backup_2025-12-27_04-00-00')).status).toBe(401);
  });
});

describe('reported backups and retention', () => {
  it('are removed by a policy a month after they were made, as soon as another is reported', async () => {
    const idOf = (ageDays: number) =>
      `backup_${new Date(Date.now() - ageDays * 86_400_000).toISOString().slice(0, 19).replace('T', '_').replaceAll(':', '-')}`;
    const [old, recent, newest] = [idOf(40), idOf(10), idOf(0)] as const;
    for (const backupId of [old, recent]) expect((await report({ backupId, status: 'completed' })).status).toBe(200);
    expect((await details(old)).body.data.deletedAt).toBeNull();
    await good(server.current.api('POST', '/api/retention-policies', { name: 'one', keepLast: 1 }));
    expect((await report({ backupId: newest, status: 'completed' })).status).toBe(200);
    await until(async () => (await details(old)).body.data.deletedAt !== null);
    expect((await details(old)).body.data.removedBy).toMatchObject({ policy: 'one', rule: 'not-counted' });
    for (const id of [recent, newest]) expect((await details(id)).body.data.deletedAt).toBeNull();
  });
});
