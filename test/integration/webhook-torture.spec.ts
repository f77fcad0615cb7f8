import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { sql } from 'kysely';
import { Catalog } from '../../src/catalog/catalog.js';
import { CatalogSignals } from '../../src/catalog/catalog-signals.js';
import { loadSettings } from '../../src/config/settings.js';
import { Outbox } from '../../src/outbox/outbox.js';
import { OutboxRepository } from '../../src/outbox/outbox.repository.js';
import type { EndpointDto } from '../../src/webhooks/webhook.dto.js';
import { usePostgres } from '../support/postgres.js';
import { Receiver } from '../support/receiver.js';
import { good } from '../support/runs.js';
import { urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

/** `npm run torture` sets it: 10,000 events and many kills instead of a few. */
const IS_TORTURE = Number(process.env['TORTURE_ROUNDS'] ?? 0) > 0;
const EVENTS = IS_TORTURE ? 10_000 : 200;
const KILLS = IS_TORTURE ? 12 : 1;
const PER_BACKUP = 4;
const TYPES = ['backup.queued', 'backup.started', 'backup.completed', 'verification.completed'] as const;
const TIMEOUT_MS = IS_TORTURE ? 3_600_000 : 240_000;

jest.setTimeout(TIMEOUT_MS);

const postgres = usePostgres();
const servers = new Set<ServerProcess>();
let dataDir: string;
let receiver: Receiver;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'webhook-torture-'));
  receiver = await Receiver.start();
});
afterEach(async () => {
  await Promise.all([...servers].map((server) => server.end()));
  servers.clear();
});
afterAll(async () => {
  await receiver.stop();
  await rm(dataDir, { recursive: true, force: true });
});

async function start(folder: string, env: NodeJS.ProcessEnv): Promise<ServerProcess> {
  const server = await ServerProcess.start(join(dataDir, folder), { OUTBOUND_ALLOW: '127.0.0.1', ...env });
  servers.add(server);
  return server;
}

async function kill(server: ServerProcess): Promise<void> {
  servers.delete(server);
  await server.end('SIGKILL');
}

const subscribe = (server: ServerProcess, path: string, more: object = {}) =>
  good<EndpointDto>(
    server.api('POST', '/api/webhooks/endpoints', {
      url: `${receiver.url}${path}`,
      events: ['backup.*', 'verification.*'],
      ...more,
    }),
  );

interface Got {
  id: string;
  subject: string;
  nth: number;
}

const gotAt = (path: string): Got[] =>
  receiver.at(path).map(({ headers, body }) => {
    const { data } = JSON.parse(body) as { data: { backup: { id: string; nth: number } } };
    return { id: String(headers['webhook-id'] ?? headers['x-backstay-event-id']), subject: data.backup.id, nth: data.backup.nth };
  });

/** Every event once at least, each under one id, and those of a backup in their order. */
function expectWhole(path: string, events: number): void {
  const ids = new Map<string, Set<string>>();
  const last = new Map<string, number>();
  const outOfOrder: string[] = [];
  for (const { id, subject, nth } of gotAt(path)) {
    const key = `${subject}/${nth}`;
    ids.set(key, (ids.get(key) ?? new Set()).add(id));
    // What comes again is behind; what is new comes right after the last.
    const before = last.get(subject) ?? -1;
    if (nth > before + 1) outOfOrder.push(key);
    last.set(subject, Math.max(before, nth));
  }
  expect({ path, events: ids.size, outOfOrder }).toEqual({ path, events, outOfOrder: [] });
  expect([...ids.values()].filter((each) => each.size !== 1)).toEqual([]);
}

describe('events on their way to receivers that misbehave', () => {
  it('all arrive, in order, under one id, however often servers are killed', async () => {
    await postgres.current.createDatabase('catalog');
    const env = {
      DATABASE_URL: urlOf(postgres.current.connection('catalog')),
      SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
    };
    const catalog = await Catalog.open(loadSettings(env));
    const outbox = new Outbox(new OutboxRepository(catalog), catalog, new CatalogSignals(catalog));
    let left = await start('shared', env);
    const right = await start('shared', env);
    const organizationId = (await catalog.db.selectFrom('organizations').select('id').executeTakeFirstOrThrow()).id;

    const bad = {
      '/well': () => undefined,
      '/error': (nth: number) => (nth % 7 === 0 ? 500 : undefined),
      '/redirect': (nth: number) => (nth % 9 === 0 ? 302 : undefined),
      '/busy': (nth: number) => (nth % 11 === 0 ? 429 : undefined),
      '/reset': (nth: number) => (nth % 8 === 0 ? 'reset' : undefined),
      '/hang': (nth: number) => (nth === 97 || nth % 1009 === 0 ? 'hang' : undefined),
    };
    for (const [path, behaviour] of Object.entries(bad)) {
      receiver.on(path, (response, nth) => {
        const what = (behaviour as (nth: number) => number | string | undefined)(nth);
        if (what === 'hang') return;
        if (what === 'reset') response.socket?.resetAndDestroy();
        else response.writeHead(Number(what ?? 200), what === 429 ? { 'retry-after': '1' } : {}).end();
      });
      await subscribe(left, path);
    }
    receiver.on('/gone', (response) => response.writeHead(410).end());
    const gone = await subscribe(left, '/gone');
    await subscribe(left, '/disabled', { enabled: false });
    const channels = { '/channel': () => undefined, '/channel-error': (nth: number) => (nth % 7 === 0 ? 500 : undefined) };
    for (const [path, behaviour] of Object.entries(channels)) {
      receiver.on(path, (response, nth) => response.writeHead(behaviour(nth) ?? 200).end());
      const channel = {
        name: path.slice(1),
        kind: 'json',
        url: `${receiver.url}${path}`,
        events: ['backup.*', 'verification.*'],
      };
      await good(left.api('POST', '/api/notifications/channels', channel));
    }

    // The plan's waits of minutes and hours pass at once.
    const over = new AbortController();
    const hurry = (async () => {
      while (!over.signal.aborted) {
        await catalog.db
          .updateTable('webhook_deliveries')
          .set({ next_attempt_at: new Date() })
          .where('status', '=', 'pending')
          .where('next_attempt_at', '>', new Date())
          .execute();
        // A claim of a channel's lasts longer than any sender takes, which here is no longer than a second.
        await sql`UPDATE notification_deliveries SET next_attempt_at = least(next_attempt_at, now()),
            claimed_until = CASE WHEN claimed_until > now() + interval '115 s' THEN claimed_until END
          WHERE status = 'pending'`.execute(catalog.db);
        await delay(200);
      }
    })();
    const killing = (async () => {
      for (let n = 1; n <= KILLS; n += 1) {
        await until(() => receiver.at('/well').length >= (EVENTS * n) / (KILLS + 2), TIMEOUT_MS);
        await kill(left);
        left = await start('shared', env);
      }
    })();
    for (let n = 0; n < EVENTS; n += 1) {
      const nth = n % PER_BACKUP;
      const subject = `backup-${Math.floor(n / PER_BACKUP)}`;
      await catalog.transaction((trx) =>
        outbox.record(trx, { organizationId, type: TYPES[nth]!, subject, data: { backup: { id: subject, nth } } }),
      );
    }
    await killing;
    const pending = async () => {
      const { rows } = await sql<{ count: number }>`SELECT (SELECT count(*) FROM webhook_deliveries WHERE status = 'pending')
        + (SELECT count(*) FROM notification_deliveries WHERE status = 'pending')
        + (SELECT count(*) FROM outbox WHERE done_at IS NULL) AS count`.execute(catalog.db);
      return Number(rows[0]?.count);
    };
    await until(async () => (await pending()) === 0, TIMEOUT_MS);
    over.abort();
    await hurry;

    for (const path of Object.keys({ ...bad, ...channels })) expectWhole(path, EVENTS);
    expect(receiver.at('/disabled')).toEqual([]);
    const shown = await good<EndpointDto>(right.api('GET', `/api/webhooks/endpoints/${gone.id}`));
    expect(shown).toMatchObject({ enabled: false, disabledReason: expect.stringMatching(/410/) });
    // No more than were on their way, in two servers, when the first answer came.
    expect(receiver.at('/gone').length).toBeLessThanOrEqual(16);
    await catalog.close();
  });

  it('are sent again by the embedded server that was killed between sending and hearing the answer', async () => {
    const env = { WEBHOOK_SECRET: 'the-secret-of-the-test' };
    let server = await start('embedded', env);
    await subscribe(server, '/killer');
    let victim: ServerProcess | undefined = server;
    receiver.on('/killer', (response, nth) => {
      if (nth === 5 && victim) victim.signal('SIGKILL');
      else response.end();
    });
    const reported: string[] = [];
    for (let n = 0; n < 12; n += 1) {
      const backupId = `backup_2025-12-22_14-30-${String(n).padStart(2, '0')}`;
      const headers = { 'x-webhook-signature': env.WEBHOOK_SECRET, 'content-type': 'application/json' };
      const body = JSON.stringify({ backupId, status: 'completed' });
      const answer = await fetch(`${server.url}/api/webhooks/backup-complete`, { method: 'POST', headers, body }).catch(
        () => undefined,
      );
      if (answer?.status === 200) reported.push(backupId);
      else break;
    }
    await until(() => receiver.at('/killer').length >= 5);
    await kill(server);
    victim = undefined;
    server = await start('embedded', env);
    const delivered = () =>
      new Set(
        receiver
          .at('/killer')
          .slice(5)
          .map(({ body }) => (JSON.parse(body) as { data: { backup: { id: string } } }).data.backup.id),
      );
    const cutOff = JSON.parse(receiver.at('/killer')[4]!.body) as { data: { backup: { id: string } } };
    await until(() => delivered().has(cutOff.data.backup.id), 60_000);
    const again = receiver.at('/killer').filter(({ body }) => body === receiver.at('/killer')[4]!.body);
    expect(new Set(again.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    const all = () =>
      new Set(
        receiver.at('/killer').map(({ body }) => (JSON.parse(body) as { data: { backup: { id: string } } }).data.backup.id),
      );
    await until(() => reported.every((id) => all().has(id)), 60_000);
  });
});
