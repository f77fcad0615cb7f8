import { afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Logger } from '@nestjs/common';
import type { DiscoveryService } from '@nestjs/core';
import { Catalog } from '../../src/catalog/catalog.js';
import { CatalogSignals } from '../../src/catalog/catalog-signals.js';
import { loadSettings } from '../../src/config/settings.js';
import { Outbox } from '../../src/outbox/outbox.js';
import type { OutboxConsumer, OutboxRow } from '../../src/outbox/outbox-consumer.js';
import { OutboxDispatcher } from '../../src/outbox/outbox-dispatcher.js';
import { OutboxRepository } from '../../src/outbox/outbox.repository.js';
import { usePostgres } from '../support/postgres.js';
import { urlOf } from '../support/server.js';
import { until } from '../support/until.js';

const postgres = usePostgres();
const stops: (() => Promise<void>)[] = [];
let catalog: Catalog;
let outbox: Outbox;

/** Takes events and keeps their types; fails as long as it is told to. */
class Consumer implements OutboxConsumer {
  readonly got: string[] = [];
  isBroken = false;

  async take(_trx: unknown, events: readonly OutboxRow[]): Promise<void> {
    if (this.isBroken) throw new Error('broken');
    this.got.push(...events.map(({ body }) => String((JSON.parse(body) as { data: { n: number } }).data.n)));
  }

  taken(): void {}
}

/** What one process has: a catalog of its own, and everything on top of it. */
async function process(): Promise<{
  catalog: Catalog;
  outbox: Outbox;
  dispatch(consumers: Record<string, Consumer>): Promise<void>;
}> {
  const env = { DATABASE_URL: urlOf(postgres.current.connection('catalog')), SECRET_KEY: Buffer.alloc(32, 1).toString('base64') };
  const settings = loadSettings(env);
  const catalog = await Catalog.open(settings);
  const signals = new CatalogSignals(catalog);
  const repository = new OutboxRepository(catalog);
  const outbox = new Outbox(repository, catalog, signals);
  stops.push(async () => {
    signals.onModuleDestroy();
    await catalog.close();
  });
  return {
    catalog,
    outbox,
    dispatch: async (consumers) => {
      const discovery = {
        getProviders: () => Object.entries(consumers).map(([name, instance]) => ({ name, instance })),
        getMetadataByDecorator: (_: unknown, { name }: { name: string }) => name,
      } as unknown as DiscoveryService;
      const dispatcher = new OutboxDispatcher(outbox, repository, catalog, settings, discovery);
      await dispatcher.onApplicationBootstrap();
      stops.unshift(() => dispatcher.beforeApplicationShutdown());
    },
  };
}

const record = (n: number, subject = 'backup') =>
  catalog.transaction((trx) => outbox.record(trx, { organizationId: 'org', type: 'backup.completed', subject, data: { n } }));

const numbers = (count: number, from = 0) => Array.from({ length: count }, (_, i) => String(from + i));

beforeAll(async () => {
  Logger.overrideLogger(false);
  await postgres.current.createDatabase('catalog');
});
beforeEach(async () => {
  ({ catalog, outbox } = await process());
  await catalog.db
    .insertInto('organizations')
    .values({ id: 'org', name: 'org' })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  await catalog.db.deleteFrom('outbox').execute();
});
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

describe('the outbox', () => {
  it('keeps nothing of a change that was rolled back', async () => {
    const failed = catalog.transaction(async (trx) => {
      await outbox.record(trx, { organizationId: 'org', type: 'backup.failed', subject: 'b', data: {} });
      throw new Error('rolled back');
    });
    await expect(failed).rejects.toThrow('rolled back');
    expect(await catalog.db.selectFrom('outbox').selectAll().execute()).toEqual([]);
  });

  it('hands what one process records to a consumer in another one at once, in order, each once', async () => {
    const consumer = new Consumer();
    await (await process()).dispatch({ one: consumer });
    const startedAt = Date.now();
    for (let n = 0; n < 50; n += 1) await record(n);
    await until(() => consumer.got.length >= 50);
    expect(consumer.got).toEqual(numbers(50));
    expect(Date.now() - startedAt).toBeLessThan(10_000);
  });

  it('lets two processes share the work without handing anything over twice', async () => {
    const [left, right] = [new Consumer(), new Consumer()];
    await (await process()).dispatch({ shared: left });
    await (await process()).dispatch({ shared: right });
    await Promise.all(Array.from({ length: 200 }, (_, n) => record(n, `backup ${n % 7}`)));
    await until(() => left.got.length + right.got.length >= 200);
    await until(
      async () => (await catalog.db.selectFrom('outbox').selectAll().where('done_at', 'is', null).execute()).length === 0,
    );
    expect([...left.got, ...right.got].sort((a, b) => Number(a) - Number(b))).toEqual(numbers(200));
  });

  it('gives every consumer all events, also the one that could not take them at first', async () => {
    const [well, broken] = [new Consumer(), new Consumer()];
    broken.isBroken = true;
    await (await process()).dispatch({ broken, well });
    for (let n = 0; n < 5; n += 1) await record(n);
    await until(() => well.got.length >= 5);
    expect(broken.got).toEqual([]);
    await catalog.db
      .updateTable('outbox')
      .set({ occurred_at: new Date(Date.now() - 600_000) })
      .where('body', 'like', '%"n":0%')
      .execute();
    const late = await outbox.backlog();
    expect(late.waiting).toBe(5);
    expect(late.oldestMs).toBeGreaterThanOrEqual(600_000);
    broken.isBroken = false;
    await record(5);
    await until(() => broken.got.length >= 6 && well.got.length >= 6);
    expect([well.got, broken.got]).toEqual([numbers(6), numbers(6)]);
    await until(async () => (await outbox.backlog()).waiting === 0);
    expect(await outbox.backlog()).toEqual({ waiting: 0, oldestMs: 0 });
  });

  it('removes what everyone has taken a month ago, and nothing that somebody has not', async () => {
    await record(1);
    await record(2);
    const old = new Date(Date.now() - 31 * 86_400_000);
    await catalog.db.updateTable('outbox').set({ occurred_at: old }).execute();
    const [first] = await catalog.db.selectFrom('outbox').selectAll().orderBy('position').execute();
    await catalog.db.updateTable('outbox').set({ done_at: old }).where('id', '=', first!.id).execute();
    expect(await new OutboxRepository(catalog).prune(30, 100)).toBe(1);
    expect(await catalog.db.selectFrom('outbox').selectAll().execute()).toHaveLength(1);
  });
});
