import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { ChannelDto, ChannelTestDto, NotificationDto } from '../../src/notifications/channel.dto.js';
import type { DiscordPayload } from '../../src/notifications/templates/discord.js';
import type { SlackPayload } from '../../src/notifications/templates/slack.js';
import { MailServer } from '../support/mail-server.js';
import { usePostgres } from '../support/postgres.js';
import { Receiver } from '../support/receiver.js';
import { backUp, good, type Run } from '../support/runs.js';
import { urlOf, useServer } from '../support/server.js';
import { until } from '../support/until.js';

const SECRET_PATH = '/services/T0/B0/canary-of-slack';
const postgres = usePostgres();
let receiver: Receiver;
let mail: MailServer;

beforeAll(async () => {
  receiver = await Receiver.start();
  mail = await MailServer.start();
});
afterAll(async () => {
  await receiver.stop();
  await mail.stop();
});

const server = useServer(() => ({
  OUTBOUND_ALLOW: '127.0.0.1',
  PUBLIC_URL: 'https://backstay.example.org/',
  SLACK_WEBHOOK_URL: `${receiver.url}${SECRET_PATH}`,
  DISCORD_WEBHOOK_URL: `${receiver.url}/discord`,
  SMTP_URL: `smtp://127.0.0.1:${mail.port}?from=backstay@example.org&to=Ops@Example.org`,
}));

const channels = (body?: object) => server.current.api<ChannelDto>(body ? 'POST' : 'GET', '/api/notifications/channels', body);
const create = (body: object) => good(channels(body));
const deliveries = (id: string) =>
  good(server.current.api<NotificationDto[]>('GET', `/api/notifications/channels/${id}/deliveries`));
const change = (id: string, body: object) =>
  good(server.current.api<ChannelDto>('PUT', `/api/notifications/channels/${id}`, body));
/** A backup that fails at once: its database is not there. */
const fail = () => backUp(server.current, { source: 'gone' });

let done: Run;

beforeAll(async () => {
  const database = await postgres.current.createDatabase('shop');
  await postgres.current.exec(database, 'CREATE TABLE t AS SELECT n FROM generate_series(1, 1247) n');
  const url = urlOf(postgres.current.connection(database));
  await good(server.current.api('POST', '/api/sources', { name: 'shop', url }));
  await good(server.current.api('POST', '/api/sources', { name: 'gone', url: url.replace(/shop$/, 'nowhere') }));
  done = await backUp(server.current, { source: 'shop' });
  await until(() => receiver.received.length === 2 && mail.mails.length === 1);
});

beforeEach(() => {
  receiver.received.length = 0;
  receiver.answer = (_, response) => response.end('ok');
  mail.mails.length = 0;
  mail.refuseRecipient = undefined;
});

describe('the channels that settings make', () => {
  it('are there, tell of completed and failed backups, and show no URL', async () => {
    const answer = await server.current.api<ChannelDto[]>('GET', '/api/notifications/channels');
    expect(answer.body.data.map(({ name, kind, events, madeBySetting, to }) => [name, kind, events, madeBySetting, to])).toEqual([
      ['discord', 'discord', ['backup.completed', 'backup.failed'], 'DISCORD_WEBHOOK_URL', []],
      ['email', 'email', ['backup.completed', 'backup.failed'], 'SMTP_URL', ['ops@example.org']],
      ['slack', 'slack', ['backup.completed', 'backup.failed'], 'SLACK_WEBHOOK_URL', []],
    ]);
    expect(answer.bytes.toString()).not.toContain('canary');
  });

  it('tell of a completed backup with its id verbatim, in colour, with a link', async () => {
    const run = await backUp(server.current, { source: 'shop' });
    await until(() => receiver.received.length === 2 && mail.mails.length === 1);
    const [slack] = receiver.bodies<SlackPayload>(SECRET_PATH);
    expect(slack).toMatchObject({ text: 'Backup of shop completed', attachments: [{ color: '#2eb67d' }] });
    const fields = Object.fromEntries((slack?.attachments[0]?.fields ?? []).map(({ title, value }) => [title, value]));
    expect(fields).toMatchObject({ Backup: run.id, Source: 'shop', Tables: '1', Records: '1,247', 'Proof level': '0' });
    expect(Object.keys(fields)).toEqual(['Backup', 'Source', 'Tables', 'Records', 'Size', 'Duration', 'Proof level']);
    const [discord] = receiver.bodies<DiscordPayload>('/discord');
    const link = `https://backstay.example.org/api/backups/${run.id}/details`;
    expect(discord?.embeds[0]).toMatchObject({ url: link, timestamp: expect.any(String) });
    const [sent] = mail.mails;
    expect(sent?.subject).toBe('[Backstay] Backup of shop completed');
    expect(sent?.from?.text).toBe('"Backstay" <backstay@example.org>');
    expect([sent?.to].flat().map((to) => to?.text)).toEqual(['ops@example.org']);
    expect(sent?.headers.get('auto-submitted')).toBe('auto-generated');
    expect(sent?.messageId).toMatch(/^<evt_[0-9a-f]+@backstay>$/);
    expect(sent?.text).toContain(run.id);
    expect(sent?.html).toContain(`<a href="${link}">`);
  });

  it('tell of a failed one with the cause, in red', async () => {
    await fail();
    await until(() => receiver.received.length === 2 && mail.mails.length === 1);
    const [slack] = receiver.bodies<SlackPayload>(SECRET_PATH);
    expect(slack).toMatchObject({ text: 'Backup of gone failed', attachments: [{ color: '#e01e5a' }] });
    expect(slack?.attachments[0]?.text).toMatch(/nowhere/);
    expect(mail.mails[0]?.headerLines.map(({ line }) => line)).toContain('Importance: High');
  });

  it('can be turned off, and neither led elsewhere nor deleted', async () => {
    const path = '/api/notifications/channels/slack';
    expect((await server.current.api('PUT', path, { url: `${receiver.url}/other` })).body.error).toMatch(/SLACK_WEBHOOK_URL/);
    expect((await server.current.api('DELETE', path)).status).toBe(409);
    expect(await change('slack', { enabled: false })).toMatchObject({ enabled: false, madeBySetting: 'SLACK_WEBHOOK_URL' });
    await change('discord', { events: ['backup.failed'] });
    await change('email', { minSeverity: 'error' });
    await backUp(server.current, { source: 'shop' });
    await fail();
    await until(() => receiver.bodies('/discord').length === 1 && mail.mails.length === 1);
    expect(receiver.bodies(SECRET_PATH)).toEqual([]);
    for (const name of ['discord', 'email']) await change(name, { enabled: false });
  });
});

describe('a channel', () => {
  it('of kind json gets the event as outbound webhooks do, of the sources it names only', async () => {
    await create({ name: 'archive', kind: 'json', url: `${receiver.url}/json`, sources: ['shop'], events: ['backup.*'] });
    await fail();
    const run = await backUp(server.current, { source: 'shop' });
    await until(() => receiver.received.length === 3);
    const bodies = receiver.bodies<{ type: string; timestamp: string; data: { backup: Run } }>('/json');
    expect(bodies.map(({ type }) => type)).toEqual(['backup.queued', 'backup.started', 'backup.completed']);
    expect(bodies.every(({ data }) => data.backup.id === run.id)).toBe(true);
    expect(new Set(receiver.received.map(({ headers }) => headers['x-backstay-event-id'])).size).toBe(3);
    await change('archive', { enabled: false });
  });

  it('of kind ping calls at the start, at the end and at a failure', async () => {
    const [url, startUrl, failureUrl] = ['/ok', '/start', '/fail'].map((path) => receiver.url + path);
    await create({ name: 'switch', kind: 'ping', url, startUrl, failureUrl });
    await backUp(server.current, { source: 'shop' });
    await until(() => receiver.received.length === 2);
    await fail();
    await until(() => receiver.received.length === 4);
    expect(receiver.received.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'GET /start',
      'GET /ok',
      'GET /start',
      'GET /fail',
    ]);
    await change('switch', { enabled: false });
  });

  it('that wants changes only hears of the first failure and of its end', async () => {
    await create({ name: 'quiet', kind: 'json', url: `${receiver.url}/quiet`, onlyChanges: true });
    await backUp(server.current, { source: 'shop' });
    await fail();
    await fail();
    await good(
      server.current.api('PUT', '/api/sources/gone', { url: urlOf(postgres.current.connection('shop')), name: 'found' }),
    );
    await backUp(server.current, { source: 'found' });
    await until(() => receiver.received.length === 2);
    expect(receiver.bodies<{ type: string }>('/quiet').map(({ type }) => type)).toEqual(['backup.failed', 'backup.completed']);
    await change('quiet', { enabled: false });
  });

  it('that fails is tried again, is listed and named in the health, and delays no backup', async () => {
    receiver.answer = (_, response) => response.writeHead(500).end('down for\nmaintenance');
    const { id } = await create({ name: 'flaky', kind: 'json', url: `${receiver.url}/flaky`, events: ['backup.completed'] });
    expect((await backUp(server.current, { source: 'shop' })).status).toBe('completed');
    await until(async () => (await deliveries(id))[0]?.tries === 1 && (await deliveries(id))[0]?.error !== null);
    expect((await deliveries(id))[0]).toMatchObject({
      status: 'pending',
      event: 'backup.completed',
      error: 'The receiver answered 500: down for maintenance.',
      nextAttemptAt: expect.any(String),
    });
    const shown = await good(server.current.api<ChannelDto>('GET', '/api/notifications/channels/flaky'));
    expect(shown).toMatchObject({
      failingSince: expect.any(String),
      lastError: 'The receiver answered 500: down for maintenance.',
    });
    const health = await good(server.current.api<{ parts: Record<string, { status: string }> }>('GET', '/api/status/health'));
    expect(health.parts['notifications']).toMatchObject({ status: 'degraded' });

    receiver.answer = (_, response) => response.end('ok');
    await server.current.foundation.catalog.db
      .updateTable('notification_deliveries')
      .set({ next_attempt_at: new Date() })
      .execute();
    await until(async () => (await deliveries(id))[0]?.status === 'delivered');
    expect(await good(server.current.api('GET', '/api/notifications/channels/flaky'))).toMatchObject({ failingSince: null });
    await change('flaky', { enabled: false });
  });

  it('whose receiver does not want it is not tried again', async () => {
    receiver.answer = (_, response) => response.writeHead(404).end('no_team');
    const { id } = await create({ name: 'moved', kind: 'slack', url: `${receiver.url}/moved`, events: ['backup.completed'] });
    await backUp(server.current, { source: 'shop' });
    await until(async () => (await deliveries(id))[0]?.status === 'failed');
    expect((await deliveries(id))[0]).toMatchObject({
      tries: 1,
      nextAttemptAt: null,
      error: expect.stringMatching(/404: no_team/),
    });
    await change('moved', { enabled: false });
  });

  it('can be tested, and says what came of it', async () => {
    const test = (name: string) => good(server.current.api<ChannelTestDto>('POST', `/api/notifications/channels/${name}/test`));
    await create({ name: 'staff', kind: 'email', to: ['On-Call@Example.org', 'on-call@example.org'] });
    expect(await test('staff')).toMatchObject({ ok: true, error: null });
    expect(mail.mails[0]?.subject).toBe('[Backstay] Test message of Backstay');
    expect([mail.mails[0]?.to].flat()[0]?.text).toBe('on-call@example.org');
    mail.refuseRecipient = 'No such mailbox';
    expect(await test('staff')).toMatchObject({ ok: false, error: expect.stringMatching(/No such mailbox/) });
    receiver.answer = (_, response) => response.writeHead(302, { location: 'http://169.254.169.254/' }).end();
    expect(await test('moved')).toMatchObject({ ok: false, error: 'The receiver answered 302.' });
  });
});

describe('a request for a channel', () => {
  const refusal = async (body: object) => {
    const { status, body: answer } = await channels({ name: 'x', kind: 'json', url: 'https://hooks.example.org/a', ...body });
    expect(status).toBe(400);
    return answer.fields ?? {};
  };

  it.each([
    [{ url: 'https://10.0.0.1/' }, 'url', /not public/],
    [{ url: 'ftp://hooks.example.org/' }, 'url', /https/],
    [{ url: undefined }, 'url', /needed/],
    [{ startUrl: 'https://a.example.org/' }, 'startUrl', /does not belong/],
    [{ to: ['a@example.org'] }, 'to', /does not belong/],
    [{ kind: 'email', url: undefined, to: ['no address'] }, 'to', /email/],
    [{ kind: 'email', url: undefined }, 'to', /needed/],
    [{ kind: 'pigeon' }, 'kind', /one of/],
    [{ events: ['backup.done'] }, 'events', /no event; there are backup\.queued/],
    [{ events: ['*.failed'] }, 'events', /patterns/],
    [{ minSeverity: 'fatal' }, 'minSeverity', /one of/],
    [{ name: '\r\nx' }, 'name', /begin with/],
    [{ secret: 1 }, 'secret', /not a field/],
  ])('is refused: %j', async (body, field, why) => {
    expect((await refusal(body))[field]).toMatch(why);
  });

  it('is refused for a source that is not there, a name that is taken, and another organization', async () => {
    const body = { name: 'archive', kind: 'json', url: 'https://hooks.example.org/a' };
    expect((await channels({ ...body, name: 'y', sources: ['nothing'] })).status).toBe(404);
    expect((await channels(body)).status).toBe(409);
    const stranger = await server.current.createOrganization('strangers');
    for (const [method, path] of [
      ['GET', ''],
      ['PUT', ''],
      ['DELETE', ''],
      ['POST', '/test'],
      ['GET', '/deliveries'],
    ] as const) {
      const answer = await server.current.request(method, `/api/notifications/channels/archive${path}`, {
        key: stranger.key,
        ...(method === 'PUT' ? { body: {} } : {}),
      });
      expect(answer.status).toBe(404);
    }
    expect((await server.current.api('GET', '/api/notifications/channels', undefined, stranger.key)).body.data).toEqual([]);
  });

  it('deletes what it is asked to', async () => {
    expect(done.status).toBe('completed');
    expect((await server.current.api('DELETE', '/api/notifications/channels/archive')).status).toBe(200);
    expect((await server.current.api('GET', '/api/notifications/channels/archive')).status).toBe(404);
  });
});
