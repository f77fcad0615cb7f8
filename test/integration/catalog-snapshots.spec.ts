import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { AuditService } from '../../src/audit/audit.service.js';
import { BackupsRepository } from '../../src/backups/backups.repository.js';
import { CatalogCatchUp } from '../../src/backups/catalog-catch-up.js';
import { ManifestImport } from '../../src/backups/manifest-import.js';
import { Catalog } from '../../src/catalog/catalog.js';
import { exportRows } from '../../src/catalog/embedded/snapshot-rows.js';
import { CatalogSignals } from '../../src/catalog/catalog-signals.js';
import { loadSettings } from '../../src/config/settings.js';
import { OutboundHttp } from '../../src/common/outbound/outbound-http.js';
import { BackupCopies } from '../../src/destinations/backup-copies.js';
import { DestinationsRepository } from '../../src/destinations/destinations.repository.js';
import { Stores } from '../../src/destinations/stores.js';
import { LocalStore } from '../../src/engine/store/local-store.js';
import { openInstallation } from '../../src/installation/installation.js';
import { openSecretBox, openServerKeys } from '../../src/keys/server-keys.js';
import { Outbox } from '../../src/outbox/outbox.js';
import { OutboxRepository } from '../../src/outbox/outbox.repository.js';
import { damageFile, damageSome, filesBelow, seeded } from '../support/folder-damage.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, good, verify } from '../support/runs.js';
import { serverEnvironment, TestServer, urlOf } from '../support/server.js';

/** What of a backup must be there again after the catalog was lost. */
interface Kept {
  id: string;
  status: string;
  table_count: number;
  row_count: number;
  artifacts: number;
  tables: number;
  source_name: string | null;
}

/** A catalog folder, opened as the server does it, without the server. */
async function open(dataDir: string) {
  const settings = loadSettings(serverEnvironment(dataDir));
  const catalog = await Catalog.open(settings);
  const start = catalog.home?.start;
  const rebuild = catalog.home?.rebuild ?? null;
  const secrets = await openSecretBox(settings);
  const keys = await openServerKeys(catalog, settings, secrets);
  const installation = await openInstallation(catalog, settings);
  const backups = new BackupsRepository(catalog);
  const destinations = new DestinationsRepository(catalog);
  const local = new LocalStore(join(dataDir, 'backups'));
  const stores = new Stores(destinations, settings, secrets, new OutboundHttp(settings), local);
  const copies = new BackupCopies(catalog, stores);
  const audit = new AuditService(catalog);
  const outbox = new Outbox(new OutboxRepository(catalog), catalog, new CatalogSignals(catalog));
  const manifests = new ManifestImport(catalog, backups, keys, outbox, copies);
  const catchUp = new CatalogCatchUp(catalog, stores, copies, keys, installation, manifests, audit);
  await catchUp.onModuleInit();
  return { catalog, start, rebuild, installation };
}

async function kept(catalog: Catalog): Promise<Kept[]> {
  const rows = await catalog.db.selectFrom('backups').selectAll().where('broken', '=', false).orderBy('id').execute();
  const count = async (table: 'artifacts' | 'backup_tables', id: string) =>
    (await catalog.db.selectFrom(table).select('backup_id').where('backup_id', '=', id).execute()).length;
  return Promise.all(
    rows.map(async ({ id, status, table_count, row_count, source_name }) => ({
      id,
      status,
      table_count,
      row_count,
      source_name,
      artifacts: await count('artifacts', id),
      tables: await count('backup_tables', id),
    })),
  );
}

describe('the embedded catalog after damage', () => {
  const postgres = usePostgres();
  let root: string;
  /** Stopped in good order, with two backups. */
  let clean: string;
  /** As a kill would leave it, with a third backup that no snapshot has. */
  let killed: string;
  let keptClean: Kept[];
  let keptKilled: Kept[];
  let keys: { id: string }[];
  let sourceId: string;

  /** A data folder with a copy of a catalog; keys and backups are shared, since nothing changes them. */
  async function dataFolder(catalog: string): Promise<string> {
    const folder = await mkdtemp(join(root, 'data-'));
    await cp(catalog, join(folder, 'catalog'), { recursive: true });
    await cp(join(root, 'server/keys'), join(folder, 'keys'), { recursive: true });
    await cp(join(root, 'server/backups'), join(folder, 'backups'), { recursive: true });
    return folder;
  }

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'backstay-catalog-'));
    const dataDir = join(root, 'server');
    const database = await postgres.current.createSampleDatabase();
    const env = { DATA_DIR: dataDir, SOURCE_DATABASE_URL: urlOf(postgres.current.connection(database)) };
    const first = await TestServer.start(env);
    await backUp(first);
    await backUp(first, { type: 'database', label: 'the second' });
    keptClean = await kept(first.foundation.catalog);
    keys = await first.foundation.catalog.db.selectFrom('api_keys').selectAll().execute();
    sourceId = (await first.foundation.catalog.db.selectFrom('sources').select('id').executeTakeFirstOrThrow()).id;
    await first.foundation.catalog.home?.snapshots.take(first.foundation.catalog.db);
    await first.running.stop();
    clean = join(root, 'clean');
    await cp(join(dataDir, 'catalog'), clean, { recursive: true });
    const second = await TestServer.start(env);
    await backUp(second);
    keptKilled = await kept(second.foundation.catalog);
    killed = join(root, 'killed');
    await cp(join(dataDir, 'catalog'), killed, { recursive: true });
    await rm(join(killed, 'server.lock'));
    // However long the second run took: its snapshots are from before the third backup.
    await rm(join(killed, 'snapshots'), { recursive: true });
    await cp(join(clean, 'snapshots'), join(killed, 'snapshots'), { recursive: true });
    await second.running.stop();
  });

  afterAll(() => rm(root, { recursive: true, force: true }));

  it('is believed without a check when it is as it was closed', async () => {
    const { catalog, start } = await open(await dataFolder(clean));
    expect(start).toBe('clean');
    // The third backup was made later; a catalog that nothing has happened to is not compared with the destination.
    expect(await kept(catalog)).toEqual(keptClean);
    await catalog.close();
  });

  it('is kept as it is after a kill', async () => {
    const { catalog, start, rebuild } = await open(await dataFolder(killed));
    expect({ start, rebuild }).toEqual({ start: 'unclean', rebuild: null });
    expect(await kept(catalog)).toEqual(keptKilled);
    await catalog.close();
  });

  it.each([1, 2])('has every completed backup after random damage to a stopped one, seed %i', async (seed) => {
    const folder = await dataFolder(clean);
    damageSome(join(folder, 'catalog/pgdata'), seeded(seed));
    const { catalog, start } = await open(folder);
    expect(start).toBe('rebuilt');
    expect(await kept(catalog)).toEqual(keptKilled);
    expect(await catalog.db.selectFrom('api_keys').selectAll().execute()).toEqual(keys);
    await catalog.close();
  });

  it.each([3, 4, 5, 6])('has every completed backup after random damage to a killed one, seed %i', async (seed) => {
    const folder = await dataFolder(killed);
    damageSome(join(folder, 'catalog/pgdata'), seeded(seed));
    const { catalog } = await open(folder);
    expect(await kept(catalog)).toEqual(keptKilled);
    await catalog.close();
  });

  it('has in its snapshots, of events that were told, only those that are still on their way', async () => {
    const { catalog, installation } = await open(await dataFolder(clean));
    const { db } = catalog;
    const organization_id = installation.defaultOrganizationId;
    const exported = async (table: string) => {
      const ids: string[] = [];
      for await (const part of (await exportRows(db, new Date())).parts)
        if (part.table === table) ids.push(...part.rows.map((row) => (JSON.parse(row) as { id: string }).id));
      return ids.sort();
    };
    const before = await exported('outbox');
    const event = (id: string, done_at: Date | null) => ({
      id,
      organization_id,
      type: 'backup.completed',
      subject: id,
      body: '{}',
      occurred_at: new Date(),
      done_at,
    });
    const rows = [event('evt_open', null), event('evt_pending', new Date()), event('evt_done', new Date())];
    await db.insertInto('outbox').values(rows).execute();
    await db
      .insertInto('webhook_endpoints')
      .values({
        id: 'whe',
        organization_id,
        url: 'https://example.org',
        description: null,
        events: ['*'],
        sealed_secret: 'x',
        disabled_reason: null,
        sealed_previous_secret: null,
        sealed_headers: null,
      })
      .execute();
    for (const [event_id, status] of [
      ['evt_pending', 'pending'],
      ['evt_done', 'delivered'],
    ] as const)
      await db
        .insertInto('webhook_deliveries')
        .values({
          id: `dlv_${status}`,
          position: 1,
          organization_id,
          endpoint_id: 'whe',
          event_id,
          event_type: 'backup.completed',
          subject: event_id,
          status,
          error: null,
          claimed_by: null,
          occurred_at: new Date(),
        })
        .execute();
    expect(await exported('outbox')).toEqual([...before, 'evt_open', 'evt_pending'].sort());
    expect(await exported('webhook_deliveries')).toEqual(['dlv_pending']);
    await catalog.close();
  });

  it('is found out when a power loss took back a part of its files', async () => {
    const folder = await dataFolder(killed);
    const random = seeded(7);
    for (const file of filesBelow(join(clean, 'pgdata')))
      if (random(2) === 0) await cp(file, file.replace(clean, join(folder, 'catalog')));
    const { catalog } = await open(folder);
    expect(await kept(catalog)).toEqual(keptKilled);
    await catalog.close();
  });

  it('is found out when all of it is older than its snapshot', async () => {
    const folder = await dataFolder(killed);
    const newest = join(root, 'server/catalog/snapshots');
    await cp(newest, join(folder, 'catalog/snapshots'), { recursive: true });
    await rm(join(folder, 'catalog/pgdata'), { recursive: true });
    await cp(join(clean, 'pgdata'), join(folder, 'catalog/pgdata'), { recursive: true });
    const { catalog, rebuild } = await open(folder);
    expect(rebuild?.cause).toMatch(/older than its own snapshot/);
    expect(await kept(catalog)).toEqual(keptKilled);
    await catalog.close();
  });

  it('is rebuilt from an older snapshot when the newest is damaged', async () => {
    const folder = await dataFolder(killed);
    const snapshots = join(folder, 'catalog/snapshots');
    const newest = (await readdir(snapshots)).sort().at(-1)!;
    damageFile(join(snapshots, newest), 'cut', seeded(8));
    damageFile(join(folder, 'catalog/pgdata/global/pg_control'), 'empty', seeded(8));
    const { catalog, rebuild } = await open(folder);
    expect(rebuild?.refused).toEqual([expect.stringContaining(newest)]);
    expect(rebuild?.snapshot).not.toBeNull();
    expect(await kept(catalog)).toEqual(keptKilled);
    await catalog.close();
  });

  it.each(['damaged', 'removed'])('is made anew from the manifests alone when every snapshot is %s', async (how) => {
    const folder = await dataFolder(killed);
    const snapshots = join(folder, 'catalog/snapshots');
    if (how === 'removed') await rm(snapshots, { recursive: true });
    else for (const file of filesBelow(snapshots)) damageFile(file, 'flip', seeded(9));
    await rm(join(folder, 'catalog/pgdata'), { recursive: true });
    const { catalog, rebuild, start } = await open(folder);
    expect({ start, snapshot: rebuild?.snapshot }).toEqual({ start: 'rebuilt', snapshot: null });
    expect(await kept(catalog)).toEqual(keptKilled);
    const source = await catalog.db.selectFrom('sources').selectAll().execute();
    expect(source).toMatchObject([{ id: sourceId, name: 'default', sealed_password: null }]);
    await catalog.close();
  });

  it('is brought up to date even when the rebuilding was cut off twice', async () => {
    const folder = await dataFolder(killed);
    await rm(join(folder, 'catalog/pgdata/base'), { recursive: true });
    const settings = loadSettings(serverEnvironment(folder));
    // Closed before the manifests were read: what was rebuilt is whole, sealed, and not yet believed.
    const first = await Catalog.open(settings);
    const cause = first.home?.rebuild?.cause;
    await first.close();
    await (await Catalog.open(settings)).close();
    const { catalog, start, rebuild } = await open(folder);
    expect(cause).toMatch(/failed to initialize/);
    expect({ start, cause: rebuild?.cause }).toEqual({ start: 'rebuilt', cause });
    expect(await kept(catalog)).toEqual(keptKilled);
    await catalog.close();
  });

  it('claims no backup whose manifest is gone, and begins no restore again', async () => {
    const folder = await dataFolder(clean);
    const before = await Catalog.open(loadSettings(serverEnvironment(folder)));
    const lost = keptClean[0]!.id;
    const { organization_id } = await before.db.selectFrom('backups').selectAll().executeTakeFirstOrThrow();
    await before.db
      .insertInto('restores')
      .values({
        id: 'restore_2026-01-01_00-00-00_aaaaaa',
        organization_id,
        status: 'running',
        backup_id: keptClean[1]!.id,
        target: JSON.stringify({ mode: 'new-database', host: 'h', port: 1, database: 'd', jobs: 1 }),
        components: ['database'],
      })
      .execute();
    await before.close();
    const manifest = filesBelow(join(folder, 'backups')).find((file) => file.includes(lost) && file.endsWith('manifest.json'))!;
    await rm(manifest);
    await rm(join(folder, 'catalog/pgdata/PG_VERSION'));
    const { catalog } = await open(folder);
    expect(await catalog.db.selectFrom('backups').selectAll().where('id', '=', lost).execute()).toMatchObject([
      { status: 'completed', broken: true, broken_cause: expect.stringContaining('manifest is not at the destination') },
    ]);
    expect(await catalog.db.selectFrom('restores').selectAll().execute()).toMatchObject([
      { status: 'failed', error: { code: 'INTERRUPTED' } },
    ]);
    await catalog.close();
  });

  it('says so through the server, whose backups verify and download', async () => {
    const folder = await dataFolder(killed);
    await rm(join(folder, 'catalog/snapshots'), { recursive: true });
    damageFile(join(folder, 'catalog/pgdata/PG_VERSION'), 'remove', seeded(1));
    const server = await TestServer.start({ DATA_DIR: folder });
    try {
      const list = await good(server.api<{ id: string; status: string }[]>('GET', '/api/backups/list?limit=100'));
      expect(list.map(({ id, status }) => ({ id, status })).sort((a, b) => (a.id < b.id ? -1 : 1))).toEqual(
        keptKilled.map(({ id, status }) => ({ id, status })),
      );
      for (const { id } of list) {
        expect(await verify(server, id)).toMatchObject({ status: 'completed', provenLevel: 2 });
        expect((await server.api('GET', `/api/backups/${id}/download?component=database`)).status).toBe(200);
      }
      const health = await good(server.api<{ parts: { catalog: object } }>('GET', '/api/status/health'));
      expect(health.parts.catalog).toMatchObject({
        status: 'degraded',
        message: expect.stringMatching(/was damaged .* 3 backups were taken from their manifests/),
      });
      const { catalog, installation } = server.foundation;
      expect(
        await catalog.db.selectFrom('audit_entries').selectAll().where('action', '=', 'catalog.rebuilt').execute(),
      ).toMatchObject([
        {
          organization_id: installation.defaultOrganizationId,
          actor_kind: 'system',
          changes: { fromManifests: 3, snapshot: null, refused: [], refusedManifests: 0 },
        },
      ]);
    } finally {
      await server.stop();
    }
  });
});
