import { describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { Webhook } from 'standardwebhooks';
import { newId } from '../../src/common/identifiers.js';
import { Outbox } from '../../src/outbox/outbox.js';
import type { DeliveryDto, EndpointDto, EndpointWithSecretDto } from '../../src/webhooks/webhook.dto.js';
import { blocksOf } from '../support/documented.js';
import { usePostgres } from '../support/postgres.js';
import { type Received, useReceiver } from '../support/receiver.js';
import { backUp, good } from '../support/runs.js';
import { type Answer, urlOf, useServer } from '../support/server.js';
import { until } from '../support/until.js';

const run = promisify(execFile);
const postgres = usePostgres();
const receiver = useReceiver();
const server = useServer(() => ({
  DATABASE_URL: urlOf(postgres.current.connection('postgres')),
  SECRET_KEY: randomBytes(32).toString('base64'),
  OUTBOUND_ALLOW: '127.0.0.1',
}));

const api = <T>(method: string, path: string, body?: unknown, key?: string | null): Promise<Answer<T>> =>
  server.current.api<T>(method, `/api/webhooks${path}`, body, key);

/** Creates an endpoint at a path of the receiver. */
function endpoint(path: string, more: object = {}): Promise<EndpointWithSecretDto> {
  return good(api('POST', '/endpoints', { url: `${receiver.current.url}${path}`, events: ['backup.*'], ...more }));
}

/** Something happens to a backup. */
async function happens(type: 'backup.queued' | 'backup.started' | 'backup.completed' | 'restore.failed', subject: string, n = 0) {
  const { app, foundation } = server.current.running;
  const organizationId = foundation.installation.defaultOrganizationId;
  await foundation.catalog.transaction((trx) =>
    app.get(Outbox, { strict: false }).record(trx, { organizationId, type, subject, data: { backup: { id: subject, n } } }),
  );
}

const deliveriesOf = ({ id }: EndpointDto, query = '') =>
  good<DeliveryDto[]>(api('GET', `/endpoints/${id}/deliveries?limit=100${query}`));

const show = ({ id }: EndpointDto) => good<EndpointDto>(api('GET', `/endpoints/${id}`));

/** Lets the time of the retry plan pass. */
const skipWait = ({ id }: EndpointDto) =>
  server.current.foundation.catalog.db
    .updateTable('webhook_deliveries')
    .set({ next_attempt_at: new Date() })
    .where('endpoint_id', '=', id)
    .where('status', '=', 'pending')
    .execute();

const verified = (secret: string, { body, headers }: Received) =>
  new Webhook(secret).verify(body, headers as Record<string, string>) as { type: string; data: Record<string, { id: string }> };

const remove = ({ id }: EndpointDto) => good(api('DELETE', `/endpoints/${id}`));

describe('a webhook endpoint', () => {
  it('shows its secret and its headers only to the one who creates it', async () => {
    const created = await endpoint('/shown', { headers: { Authorization: 'Bearer canary-token' }, description: 'ops' });
    expect(created.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(created).toMatchObject({ events: ['backup.*'], enabled: true, headerNames: ['Authorization'], description: 'ops' });
    const shown = JSON.stringify([await show(created), await good(api('GET', '/endpoints'))]);
    for (const secret of [created.secret, 'canary-token']) expect(shown).not.toContain(secret);
    const row = await server.current.foundation.catalog.db.selectFrom('webhook_endpoints').selectAll().execute();
    for (const secret of [created.secret.slice(6), 'canary-token']) expect(JSON.stringify(row)).not.toContain(secret);
    await remove(created);
    expect((await api('GET', `/endpoints/${created.id}`)).status).toBe(404);
  });

  it.each<[string, object, string]>([
    ['a private address', { url: 'https://10.0.0.1/' }, 'url'],
    ['plain http', { url: 'http://93.184.216.34/' }, 'url'],
    ['metadata in decimal', { url: 'https://2852039166/' }, 'url'],
    ['credentials in its URL', { url: 'https://a:b@example.com/' }, 'url'],
    ['an event that there is not', { events: ['backup.complete'] }, 'events'],
    ['no event', { events: [] }, 'events'],
    ['a header that signs', { headers: { 'Webhook-Signature': 'v1,x' } }, 'headers.Webhook-Signature'],
    ['a header that frames', { headers: { 'content-length': '1' } }, 'headers.content-length'],
    ['a header that breaks the line', { headers: { 'X-A': 'a\r\nX-B: b' } }, 'headers.X-A'],
    ['a secret that is too short', { secret: 'whsec_abc' }, 'secret'],
    ['a field that there is not', { Events: [] }, 'Events'],
  ])('is refused with %s, and says where', async (_, more, field) => {
    const answer = await api('POST', '/endpoints', { url: 'https://example.com/', events: ['*'], ...more });
    expect(answer).toMatchObject({ status: 400, body: { code: 'VALIDATION_ERROR' } });
    expect(Object.keys(answer.body.fields ?? {})).toEqual([field]);
  });

  it('belongs to its organization, and to those who may manage webhooks', async () => {
    const mine = await endpoint('/mine');
    const other = await server.current.createOrganization('other');
    expect((await api('GET', `/endpoints/${mine.id}`, undefined, other.key)).status).toBe(404);
    expect((await api('PUT', `/endpoints/${mine.id}`, { enabled: false }, other.key)).status).toBe(404);
    expect((await api('DELETE', `/endpoints/${mine.id}`, undefined, other.key)).status).toBe(404);
    expect((await api('POST', `/endpoints/${mine.id}/test`, undefined, other.key)).status).toBe(404);
    expect((await api('POST', `/endpoints/${mine.id}/rotate-secret`, {}, other.key)).status).toBe(404);
    expect((await api('GET', '/endpoints', undefined, other.key)).body.data).toEqual([]);
    expect((await api('GET', '/endpoints', undefined, await server.current.createKey(['backup:read']))).status).toBe(403);
    expect((await show(mine)).enabled).toBe(true);
    await remove(mine);
  });
});

describe('an event', () => {
  it('of a real backup reaches those who want it, signed, with the backup as the API shows it', async () => {
    await postgres.current.createDatabase('shop');
    await postgres.current.exec('shop', 'CREATE TABLE users (id int); INSERT INTO users VALUES (1), (2)');
    const url = urlOf(postgres.current.connection('shop'));
    await good(server.current.api('POST', '/api/sources', { name: 'shop', url }));
    const [all, ends] = [await endpoint('/all', { events: ['*'] }), await endpoint('/ends', { events: ['backup.completed'] })];
    const none = await endpoint('/none', { events: ['restore.*'] });
    const backup = await backUp(server.current, { source: 'shop', dbOnly: true });
    await until(() => receiver.current.at('/all').length >= 3 && receiver.current.at('/ends').length >= 1);
    const told = receiver.current.at('/all').map((received) => verified(all.secret, received));
    expect(told.map(({ type }) => type)).toEqual(['backup.queued', 'backup.started', 'backup.completed']);
    const states = told.map(({ data }) => (data['backup'] as unknown as { status: string }).status);
    expect(states).toEqual(['queued', 'running', 'completed']);
    const listed = (await good<object[]>(server.current.api('GET', '/api/backups/list?source=shop')))[0];
    expect(told[2]?.data).toEqual({ backup: { ...listed } });
    expect(verified(ends.secret, receiver.current.at('/ends')[0]!)).toMatchObject({
      data: { backup: { id: backup.id, rowCount: 2 } },
    });
    expect(receiver.current.at('/ends')[0]?.headers['webhook-id']).toBe(receiver.current.at('/all')[2]?.headers['webhook-id']);
    expect(receiver.current.at('/none')).toEqual([]);
    const [delivery] = await deliveriesOf(ends);
    expect(delivery).toMatchObject({
      endpointId: ends.id,
      event: 'backup.completed',
      status: 'delivered',
      attempts: [{ status: 200, response: 'ok', error: null, durationMs: expect.any(Number) }],
    });
    for (const each of [all, ends, none]) await remove(each);
  });

  it('carries the headers of the owner, and its own signature by both secrets after a rotation', async () => {
    const created = await endpoint('/rotated', { headers: { 'X-Token': 'abc' } });
    const rotated = await good<EndpointWithSecretDto>(api('POST', `/endpoints/${created.id}/rotate-secret`, { overlapHours: 1 }));
    expect(rotated.secret).not.toBe(created.secret);
    await happens('backup.completed', 'b1');
    await until(() => receiver.current.at('/rotated').length === 1);
    const [received] = receiver.current.at('/rotated');
    expect(received?.headers).toMatchObject({ 'x-token': 'abc', 'content-type': 'application/json' });
    for (const secret of [created.secret, rotated.secret])
      expect(verified(secret, received!)).toMatchObject({ type: 'backup.completed' });
    const last = await good<EndpointWithSecretDto>(api('POST', `/endpoints/${created.id}/rotate-secret`, { overlapHours: 0 }));
    await happens('backup.completed', 'b2');
    await until(() => receiver.current.at('/rotated').length === 2);
    const second = receiver.current.at('/rotated')[1]!;
    expect(() => verified(rotated.secret, second)).toThrow();
    expect(verified(last.secret, second)).toMatchObject({ type: 'backup.completed' });
    await remove(created);
  });

  it.each<[string, number | 'reset', RegExp]>([
    ['a redirect', 302, /redirects are not followed/],
    ['an error', 500, /answered 500/],
    ['a cut connection', 'reset', /cut the connection/],
  ])('that meets %s is tried again after five seconds, with the same id and body', async (_, answer, error) => {
    const path = `/fails-${answer}`;
    receiver.current.on(path, (response, nth) => {
      if (nth > 1) response.end('at last');
      else if (answer === 'reset') response.socket?.resetAndDestroy();
      else
        response
          .writeHead(answer, answer === 302 ? { location: `${receiver.current.url}${path}-elsewhere` } : {})
          .end('x'.repeat(5000));
    });
    const failing = await endpoint(path);
    await happens('backup.started', path);
    await happens('backup.completed', path);
    await until(() => receiver.current.at(path).length === 1);
    await until(async () => (await show(failing)).failingSince !== null);
    const first = (await deliveriesOf(failing)).at(-1);
    expect(first).toMatchObject({ status: 'pending', attempts: [{ error: expect.stringMatching(error) }] });
    expect(first?.attempts[0]?.response?.length ?? 1024).toBe(1024);
    expect(Date.parse(first?.nextAttemptAt ?? '') - Date.parse(first?.attempts[0]?.at ?? '')).toBeGreaterThanOrEqual(4900);
    await until(() => receiver.current.at(path).length === 3);
    const [one, again, later] = receiver.current.at(path);
    expect(again?.headers['webhook-id']).toBe(one?.headers['webhook-id']);
    expect(again?.body).toBe(one?.body);
    expect(again!.at - one!.at).toBeGreaterThanOrEqual(4900);
    // What happened later to the same backup has waited.
    expect(JSON.parse(later?.body ?? '')).toMatchObject({ type: 'backup.completed' });
    expect(verified(failing.secret, again!)).toMatchObject({ type: 'backup.started' });
    await until(async () => (await deliveriesOf(failing)).every(({ status }) => status === 'delivered'));
    expect((await show(failing)).failingSince).toBeNull();
    expect(receiver.current.at(`${path}-elsewhere`)).toEqual([]);
    await remove(failing);
  });

  it('waits as long as the receiver asks', async () => {
    receiver.current.on('/busy', (response) => response.writeHead(429, { 'retry-after': '600' }).end());
    const busy = await endpoint('/busy');
    await happens('backup.completed', 'busy');
    await until(async () => (await deliveriesOf(busy))[0]?.attempts.length === 1);
    const [delivery] = await deliveriesOf(busy);
    expect(Date.parse(delivery!.nextAttemptAt!) - Date.parse(delivery!.attempts[0]!.at)).toBeGreaterThan(595_000);
    await remove(busy);
  });

  it('is given up after ten attempts over three days, and can be sent again', async () => {
    receiver.current.on('/never', (response) => response.writeHead(503).end());
    const never = await endpoint('/never');
    await happens('backup.completed', 'never');
    await until(async () => {
      await skipWait(never);
      return (await deliveriesOf(never))[0]?.status === 'failed';
    }, 60_000);
    const [delivery] = await deliveriesOf(never);
    expect(delivery?.attempts).toHaveLength(10);
    expect(new Set(receiver.current.at('/never').map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    receiver.current.on('/never', (response) => response.end());
    expect(await good(api('POST', `/deliveries/${delivery?.id}/redeliver`))).toMatchObject({ status: 'pending' });
    await until(async () => (await deliveriesOf(never))[0]?.status === 'delivered');
    expect(receiver.current.at('/never')).toHaveLength(11);
    await remove(never);
  });

  it('does not hold up others when a receiver hangs', async () => {
    receiver.current.on('/hangs', () => undefined);
    const [hangs, quick] = [await endpoint('/hangs'), await endpoint('/quick')];
    for (let n = 0; n < 30; n += 1) await happens('backup.completed', `h${n}`);
    await until(() => receiver.current.at('/quick').length === 30, 10_000);
    expect(receiver.current.at('/hangs').length).toBeLessThan(9);
    for (const each of [hangs, quick]) await remove(each);
  });
});

describe('an endpoint that should get nothing', () => {
  it('is disabled by 410, at once, with a reason and an event', async () => {
    receiver.current.on('/gone', (response) => response.writeHead(410).end());
    const [gone, watcher] = [await endpoint('/gone'), await endpoint('/watcher', { events: ['webhook.disabled'] })];
    for (let n = 0; n < 3; n += 1) await happens('backup.completed', 'gone', n);
    await until(async () => !(await show(gone)).enabled);
    expect((await show(gone)).disabledReason).toMatch(/410/);
    await until(() => receiver.current.at('/watcher').length === 1);
    expect(verified(watcher.secret, receiver.current.at('/watcher')[0]!)).toMatchObject({
      type: 'webhook.disabled',
      data: { endpoint: { id: gone.id, enabled: false } },
    });
    await happens('backup.completed', 'gone', 4);
    await until(async () => (await deliveriesOf(gone)).every(({ status }) => status === 'failed'));
    expect(receiver.current.at('/gone')).toHaveLength(1);
    const audit = server.current.foundation.catalog.db.selectFrom('audit_entries').selectAll();
    expect(await audit.where('action', '=', 'webhook.disabled').where('resource_id', '=', gone.id).execute()).toHaveLength(1);
    for (const each of [gone, watcher]) await remove(each);
  });

  it('is disabled when nothing could be delivered for five days', async () => {
    receiver.current.on('/days', (response) => response.writeHead(500).end());
    const days = await endpoint('/days');
    const { db } = server.current.foundation.catalog;
    const since = (hours: number) =>
      db
        .updateTable('webhook_endpoints')
        .set({ failing_since: new Date(Date.now() - hours * 3_600_000) })
        .where('id', '=', days.id)
        .execute();
    await since(119);
    await happens('backup.completed', 'd1');
    await until(async () => (await deliveriesOf(days))[0]?.attempts.length === 1);
    expect((await show(days)).enabled).toBe(true);
    await since(120);
    await happens('backup.completed', 'd2');
    await until(async () => !(await show(days)).enabled);
    expect((await show(days)).disabledReason).toMatch(/Nothing could be delivered since/);
    await remove(days);
  });

  it('gets what it missed when it is enabled and asks for it', async () => {
    const paused = await endpoint('/paused');
    await happens('backup.queued', 'p1');
    await until(() => receiver.current.at('/paused').length === 1);
    const since = new Date(Date.now() - 60_000).toISOString();
    expect(await good(api('PUT', `/endpoints/${paused.id}`, { enabled: false }))).toMatchObject({ enabled: false });
    const missedAt = new Date().toISOString();
    await happens('backup.completed', 'p1');
    await happens('restore.failed', 'p1');
    await until(async () => (await openEvents()) === 0);
    expect(receiver.current.at('/paused')).toHaveLength(1);
    expect((await api('POST', `/endpoints/${paused.id}/redeliver`, { since })).status).toBe(409);
    await good(api('PUT', `/endpoints/${paused.id}`, { enabled: true }));
    expect(await good(api('POST', `/endpoints/${paused.id}/redeliver`, { since: missedAt }))).toEqual({ queued: 1 });
    await until(() => receiver.current.at('/paused').length === 2);
    expect(JSON.parse(receiver.current.at('/paused')[1]!.body)).toMatchObject({ type: 'backup.completed' });
    await until(async () => (await deliveriesOf(paused)).every(({ status }) => status === 'delivered'));
    expect(await good(api('POST', `/endpoints/${paused.id}/redeliver`, { since, status: 'failed' }))).toEqual({ queued: 0 });
    await remove(paused);
  });

  async function openEvents(): Promise<number> {
    const { db } = server.current.foundation.catalog;
    return (await db.selectFrom('outbox').select('id').where('done_at', 'is', null).execute()).length;
  }
});

describe('a test event', () => {
  it('is sent at once, and its answer tells how it went', async () => {
    const tested = await endpoint('/tested', { enabled: false });
    const delivery = await good<DeliveryDto>(api('POST', `/endpoints/${tested.id}/test`));
    expect(delivery).toMatchObject({ event: 'webhook.test', status: 'delivered', attempts: [{ status: 200 }] });
    expect(verified(tested.secret, receiver.current.at('/tested')[0]!)).toMatchObject({ type: 'webhook.test' });
    receiver.current.on('/tested', (response) => response.writeHead(404).end('no such hook'));
    const failed = await good<DeliveryDto>(api('POST', `/endpoints/${tested.id}/test`));
    expect(failed).toMatchObject({ status: 'failed', attempts: [{ status: 404, response: 'no such hook' }] });
    expect((await deliveriesOf(tested, '&event=webhook.test')).map(({ id }) => id)).toEqual([failed.id, delivery.id]);
    await remove(tested);
  });
});

describe('deliveries', () => {
  it('are found under both paths, filtered, and by their id', async () => {
    const listed = await endpoint('/listed');
    for (const type of ['backup.queued', 'backup.started', 'backup.completed'] as const) await happens(type, 'listed');
    await until(async () => (await deliveriesOf(listed, '&status=delivered')).length === 3);
    const [newest] = await deliveriesOf(listed);
    expect(newest?.event).toBe('backup.completed');
    expect(await good(api('GET', '/deliveries?limit=1'))).toEqual([newest]);
    expect(await good(api('GET', '/endpoints/deliveries?limit=1'))).toEqual([newest]);
    expect(await good(api('GET', `/deliveries/${newest?.id}`))).toEqual(newest);
    expect(await good(api('GET', `/endpoints/${listed.id}/deliveries/${newest?.id}`))).toEqual(newest);
    const other = await server.current.createOrganization('another');
    expect((await api('GET', `/deliveries/${newest?.id}`, undefined, other.key)).status).toBe(404);
    expect((await api('POST', `/deliveries/${newest?.id}/redeliver`, undefined, other.key)).status).toBe(404);
    for (const path of [`/endpoints/deliveries/${newest?.id}/redeliver`, `/endpoints/${newest?.id}/redeliver`])
      expect(await good(api('POST', path))).toMatchObject({ id: newest?.id, status: 'pending' });
    await until(() => receiver.current.at('/listed').length >= 4);
    await remove(listed);
  });
});

describe('the check of docs/WEBHOOKS.md by shell', () => {
  it('accepts what was sent and refuses what was changed', async () => {
    const script = (await blocksOf('WEBHOOKS.md')).find(({ tag }) => tag === 'verify')?.text ?? '';
    expect(script.trim().split('\n').length).toBeLessThanOrEqual(5);
    const checked = await endpoint('/shell');
    await happens('backup.completed', newId('x'));
    await until(() => receiver.current.at('/shell').length === 1);
    const { headers, body } = receiver.current.at('/shell')[0]!;
    const check = async (changed: Record<string, string>) =>
      run('sh', ['-c', script], {
        env: {
          PATH: process.env['PATH'],
          SECRET: checked.secret,
          ID: String(headers['webhook-id']),
          TIMESTAMP: String(headers['webhook-timestamp']),
          SIGNATURE: String(headers['webhook-signature']),
          BODY: body,
          ...changed,
        },
      }).then(
        () => true,
        () => false,
      );
    expect(await check({})).toBe(true);
    expect(await check({ SIGNATURE: `v1,AAAA ${String(headers['webhook-signature'])}` })).toBe(true);
    expect(await check({ BODY: body.replace('completed', 'failed') })).toBe(false);
    expect(await check({ ID: 'evt_other' })).toBe(false);
    expect(await check({ TIMESTAMP: '1' })).toBe(false);
    expect(await check({ SECRET: `whsec_${randomBytes(32).toString('base64')}` })).toBe(false);
    expect(await check({ SIGNATURE: '' })).toBe(false);
    await remove(checked);
  });
});
