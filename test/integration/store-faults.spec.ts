import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { BackupSweeper } from '../../src/backups/backup-sweeper.js';
import { json } from '../../src/catalog/catalog.js';
import { FakeS3 } from '../support/fake-s3.js';
import { FAULTS } from '../support/faults.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, ended, good, type Run, verify } from '../support/runs.js';
import { TestServer, urlOf } from '../support/server.js';
import { until } from '../support/until.js';

/** `npm run torture` sets it: every fault at every point, instead of each fault and each point once. */
const ALL = process.env['STORE_FAULTS'] === 'all';
const TARGET = 'shop_again';
/** Where in a backup a fault begins: the first such call, and those after it. */
const BACKUP_POINTS: readonly [name: string, operation: RegExp, path?: RegExp, after?: number][] = [
  ['the look for what an earlier attempt left', /^ListMultipartUploads$/],
  ['the look whether the name of the first artifact is free', /^HeadObject$/, /database\.dump/],
  ['the begin of the upload', /^CreateMultipartUpload$/],
  ['the second part of the upload', /^UploadPart$/, /./, 1],
  ['the end of the upload', /^CompleteMultipartUpload$/],
  ['a small artifact', /^PutObject$/, /globals/],
  ['the placing of the first artifact', /^CopyObject$/],
  ['the removal of the original', /^DeleteObject$/],
  ['the manifest', /^PutObject$/, /manifest\.json$/],
  ['the reading back of the manifest', /^GetObject$/],
];
/** Of the calls of a whole restore, the first, the one after a tenth of them, and so on. */
const RESTORE_POINTS = Array.from({ length: 10 }, (_, tenth) => tenth);
/** What the cause says. An answer to HEAD has no body, so that nothing but its status tells there. */
const CAUSES: Record<(typeof FAULTS)[number], RegExp | null> = {
  error500: /failed with 500/,
  slowDown: /slow down|failed with 503/,
  denied: /access was denied/,
  missing: /no such bucket|does not exist|no bytes/,
  reset: /did not answer/,
  hang: /did not answer/,
  slow: null,
  cut: /did not answer|answer was cut/,
  twice: null,
  lostAnswer: /did not answer/,
  clockSkew: /clock|access was denied/,
};
jest.setTimeout(180_000);

const postgres = usePostgres();
let server: TestServer;
let fake: FakeS3;

beforeAll(async () => {
  await postgres.current.createDatabase('shop');
  // Random enough that the archive is larger than one part.
  await postgres.current.exec(
    'shop',
    `CREATE TABLE orders (id int PRIMARY KEY, body bytea);
     INSERT INTO orders SELECT n, decode(string_agg(md5(random()::text), ''), 'hex') FROM generate_series(1, 750) n,
       generate_series(1, 512) GROUP BY n`,
  );
  fake = await FakeS3.start();
  server = await TestServer.start({ OUTBOUND_ALLOW: '127.0.0.1' });
  await good(server.api('POST', '/api/sources', { name: 'shop', url: urlOf(postgres.current.connection('shop')) }));
  await good(
    server.api('POST', '/api/destinations', { name: 'bucket', kind: 's3', ...fake.config, partMiB: 5, isDefault: true }),
  );
  // A minute of silence, five times, is too long for a test.
  await server.foundation.catalog.db
    .updateTable('destinations')
    .set({ config: json({ ...fake.config, secretAccessKey: undefined, partMiB: 5, timeoutMs: 700, maxAttempts: 2 }) })
    .execute();
});
afterEach(() => fake.heal());
afterAll(async () => {
  await server?.stop();
  await fake?.stop();
});

const atBucket = (id: string) => fake.everything.filter((name) => name.includes(id));
const sweep = () => server.running.app.get(BackupSweeper).sweep(-60_000);
const digest = async (database: string) => {
  const rows = await postgres.current.query(database, "SELECT md5(string_agg(md5(body), '' ORDER BY id)) AS digest FROM orders");
  return rows[0];
};

/** Every pair, or few of them in which each fault and each point occurs. */
function cells<P>(points: readonly P[]): [fault: (typeof FAULTS)[number], point: P, times: string][] {
  const pairs = FAULTS.flatMap((fault, row) =>
    points.filter((_, column) => ALL || column === (row * 3) % points.length).map((point) => ({ fault, point })),
  );
  return (ALL ? (['once', 'until it ends'] as const) : (['until it ends'] as const)).flatMap((times) =>
    pairs.map(({ fault, point }): [(typeof FAULTS)[number], P, string] => [fault, point, times]),
  );
}

function expectCause(fault: (typeof FAULTS)[number], error: Run['error'] | undefined): void {
  expect(CAUSES[fault]).not.toBeNull();
  expect(error).toMatchObject({ code: expect.stringMatching(/^(STORE_FAILED|OBJECT_MISSING)$/) });
  expect(error?.message).toMatch(CAUSES[fault]!);
  expect(error?.hint).toMatch(/^[A-Z].{10,}\.$/s);
}

async function expectWhole(backup: Run): Promise<void> {
  expect(backup).toMatchObject({ status: 'completed', error: null });
  expect(await verify(server, backup.id)).toMatchObject({ status: 'completed', provenLevel: 2 });
}

async function removeBackups(): Promise<void> {
  fake.empty();
  await server.foundation.catalog.db.deleteFrom('verifications').execute();
  await server.foundation.catalog.db.deleteFrom('backups').execute();
}

describe('a backup whose bucket fails', () => {
  it.each(cells(BACKUP_POINTS.map(([name]) => name)))(
    'by %s from %s on, %s, is never falsely completed, says why, leaves nothing after a sweep, and is made when it ends',
    async (fault, point, times) => {
      const [, operation, path, after] = BACKUP_POINTS.find(([name]) => name === point)!;
      const which = { ...(path ? { path } : {}), after: after ?? 0 };
      fake.fail(fault, operation, times === 'once' ? { ...which, times: 1 } : { ...which, lasts: true });
      const backup = await backUp(server);
      fake.heal();
      if (backup.status === 'completed') await expectWhole(backup);
      else {
        expect(backup.status).toBe('failed');
        expectCause(fault, backup.error);
        await sweep();
        expect(atBucket(backup.id)).toEqual([]);
      }
      expect(fake.everything.filter((name) => name.startsWith('upload of'))).toEqual([]);
      if (times === 'once' && !['denied', 'missing', 'clockSkew'].includes(fault)) expect(backup.status).toBe('completed');
      if (backup.status === 'failed') await expectWhole(await backUp(server));
      await removeBackups();
    },
  );
});

describe('a restore whose bucket fails', () => {
  let backup: Run;
  let calls: number;
  let original: unknown;

  const restore = () =>
    server.api<Run>('POST', `/api/backups/${backup.id}/restore`, { target: { mode: 'new-database', database: TARGET } });
  const databases = async () =>
    (await postgres.current.query('postgres', 'SELECT datname FROM pg_database')).map((row) => String(row['datname']));
  const dropTarget = () => postgres.current.exec('postgres', `DROP DATABASE ${TARGET}`);
  const expectRestored = async (run: Run) => {
    expect(run).toMatchObject({ status: 'completed', countsEqual: true, error: null });
    expect(await digest(TARGET)).toEqual(original);
    await dropTarget();
  };

  beforeAll(async () => {
    await removeBackups();
    backup = await backUp(server);
    expect(backup).toMatchObject({ status: 'completed' });
    original = await digest('shop');
    fake.calls.length = 0;
    await expectRestored(await ended(server, (await good(restore())).id));
    calls = fake.calls.length;
    expect(calls).toBeGreaterThanOrEqual(RESTORE_POINTS.length);
  });

  it.each(cells(RESTORE_POINTS))(
    'by %s after %d tenths of its calls, %s, is never falsely completed, says why, leaves nothing behind, and works when it ends',
    async (fault, tenth, times) => {
      const after = Math.floor((calls * tenth) / RESTORE_POINTS.length);
      fake.fail(fault, undefined, times === 'once' ? { after, times: 1 } : { after });
      const { status, body } = await restore();
      const run = status === 200 ? await ended(server, body.data.id) : undefined;
      fake.heal();
      if (run?.status === 'completed') return expectRestored(run);
      if (run) {
        expect(run.status).toBe('failed');
        expectCause(fault, run.error);
      } else {
        expect(body).toMatchObject({ code: 'PRECONDITION_FAILED', error: expect.stringMatching(CAUSES[fault]!) });
      }
      expect((await databases()).filter((name) => name.includes('shop_again') || /backstay/.test(name))).toEqual([]);
      if (times === 'once') expect(['denied', 'missing', 'clockSkew']).toContain(fault);
      await expectRestored(await ended(server, (await good(restore())).id));
    },
  );
});

// Last: another server in this process takes the first one's callers.
describe('a backup whose bucket stands still while it is committed', () => {
  const idleInTransaction = () =>
    postgres.current.query(
      'postgres',
      "SELECT 1 FROM pg_stat_activity WHERE application_name = 'backstay:catalog' AND state = 'idle in transaction'",
    );

  const POINTS = [
    ['the placing of its artifacts', /^CopyObject$/, /./, 'shared'],
    ['the writing of its manifest', /^PutObject$/, /manifest\.json$/, 'embedded'],
    ['the placing of its artifacts', /^CopyObject$/, /./, 'embedded'],
    ['the writing of its manifest', /^PutObject$/, /manifest\.json$/, 'shared'],
  ] as const;

  it.each(POINTS.slice(0, ALL ? 4 : 2))(
    'in %s keeps no request waiting, locks no row, and can be canceled (%#)',
    async (_, operation, path, kind) => {
      const DATABASE_URL =
        kind === 'shared' ? urlOf(postgres.current.connection(await postgres.current.createDatabase())) : undefined;
      const env = {
        SOURCE_DATABASE_URL: urlOf(postgres.current.connection('shop')),
        S3_BUCKET: fake.bucket,
        S3_ENDPOINT: fake.url,
        S3_ACCESS_KEY_ID: fake.config.accessKeyId,
        S3_SECRET_ACCESS_KEY: fake.config.secretAccessKey,
        ...(DATABASE_URL ? { DATABASE_URL, SECRET_KEY: Buffer.alloc(32, 1).toString('base64') } : {}),
      };
      const other = await TestServer.start(env);
      try {
        fake.fail('hang', operation, { path });
        const { id } = await good(other.api<Run>('POST', '/api/backups/create', { type: 'database' }));
        await until(async () => fake.calls.some((call) => call.endsWith(' hang')));
        await good(other.api('POST', `/api/backups/${id}/pin`));
        await until(async () => (await idleInTransaction()).length === 0);
        await good(other.api('POST', `/api/backups/${id}/cancel`));
        expect(await ended(other, id)).toMatchObject({ status: 'canceled' });
        fake.heal();
        await other.running.app.get(BackupSweeper).sweep(-60_000);
        expect(atBucket(id)).toEqual([]);
        expect(await backUp(other, { type: 'database' })).toMatchObject({ status: 'completed' });
      } finally {
        fake.heal();
        fake.empty();
        await other.stop();
      }
    },
  );
});
