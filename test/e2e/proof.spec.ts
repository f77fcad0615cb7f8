import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { SourceDto } from '../../src/sources/source.dto.js';
import { Sampling } from '../../src/verifications/sampling.js';
import type { CertificateDto } from '../../src/verifications/verification.dto.js';
import { blocksOf } from '../support/documented.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, good, type Run, verify } from '../support/runs.js';
import { OWNER_KEY, TestServer, urlOf, useServer } from '../support/server.js';

const run = promisify(execFile);
const postgres = usePostgres();
const server = useServer();
/** A drill needs a user of its own for the server that it starts, which only root can give. */
const ofRoot = process.getuid?.() === 0 ? describe : describe.skip;
const change = (body: object) => server.current.api<SourceDto>('PUT', '/api/sources/shop', body);
let backup: Run;

beforeAll(async () => {
  const database = await postgres.current.createDatabase('shop');
  await postgres.current.exec(
    database,
    `CREATE TABLE users AS SELECT n AS id, 'user ' || n AS name FROM generate_series(1, 1247) n;
     ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON users USING (false);
     CREATE TABLE settings (key text PRIMARY KEY, value text); INSERT INTO settings VALUES ('currency', 'EUR'), ('odd', NULL)`,
  );
  const url = urlOf(postgres.current.connection(database));
  await good(server.current.api('POST', '/api/sources', { name: 'shop', url }));
  backup = await backUp(server.current);
});

/** Checks a certificate by the documented commands, and that they tell when it was changed. */
async function checkOffline(verification: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'certificate-'));
  try {
    const keys = await good(server.current.api<{ signingPublicKey: string }>('GET', '/api/keys'));
    await writeFile(join(folder, 'signing.pub'), keys.signingPublicKey);
    const [commands] = (await blocksOf('PROOF.md')).filter(({ text }) => text.includes('pkeyutl'));
    const env = { PATH: process.env['PATH'], BASE: server.current.url, KEY: OWNER_KEY, VERIFICATION: verification };
    const shell = (script: string) => run('bash', ['-euo', 'pipefail', '-c', script], { cwd: folder, env });
    expect((await shell(commands!.text)).stdout).toContain('Signature Verified Successfully');
    const certificate = join(folder, 'certificate.json');
    await writeFile(certificate, (await readFile(certificate, 'utf8')).replace('"provenLevel":5', '"provenLevel":4'));
    await expect(shell(commands!.text.split('\n').at(-2)!)).rejects.toMatchObject({
      stdout: expect.stringContaining('Signature Verification Failure'),
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

ofRoot('level 5', () => {
  it('can only be asked for where the source says what must hold', async () => {
    const { status, body } = await server.current.api('POST', `/api/backups/${backup.id}/verify`, { level: 5 });
    expect({ status, code: body.code }).toEqual({ status: 422, code: 'PRECONDITION_FAILED' });
    expect(body.error).toContain('assertions');
  });

  it('takes assertions as part of a source, each with a name of its own', async () => {
    const assertion = { name: 'users', query: 'SELECT 1' };
    for (const [assertions, field] of [
      [[assertion, assertion], 'assertions'],
      [[{ name: '', query: 'SELECT 1' }], 'assertions.0.name'],
      [[{ name: 'a', query: '' }], 'assertions.0.query'],
      [[{ name: 'a', query: 'SELECT 1', expectation: {} }], 'assertions.0.expectation'],
      [[{ name: 'a', query: 'SELECT 1', timeoutSeconds: 0 }], 'assertions.0.timeoutSeconds'],
      [[{ name: 'a', query: 'SELECT 1', sql: 'SELECT 1' }], 'assertions.0.sql'],
    ] as const) {
      const { status, body } = await change({ assertions });
      expect({ status, fields: Object.keys(body.fields ?? {}) }).toEqual({ status: 400, fields: [field] });
    }
    expect((await good(change({ assertions: [assertion] }))).assertions).toEqual([
      { ...assertion, expectation: true, timeoutSeconds: 30 },
    ]);
    expect((await good(change({ targets: {} }))).assertions.length).toBe(1);
  });

  it('is proven when all of them hold in the restored database, and stands in the certificate', async () => {
    await good(
      change({
        assertions: [
          { name: 'all users', query: 'SELECT count(*) FROM public.users', expectation: '>= 1247' },
          { name: 'currency', query: "SELECT value FROM settings WHERE key = 'currency';", expectation: 'EUR' },
          { name: 'nobody without a name', query: 'SELECT FROM users WHERE name IS NULL', expectation: 'no rows' },
          { name: 'odd', query: "SELECT value FROM settings WHERE key = 'odd' -- a comment", expectation: null },
          { name: 'yes', query: 'WITH n AS (SELECT 1) SELECT EXISTS (SELECT FROM n)' },
        ],
      }),
    );
    const { id, status, provenLevel, checks, error } = await verify(server.current, backup.id, 5);
    expect({ status, provenLevel, error, bad: checks!.filter(({ ok }) => !ok) }).toEqual({
      status: 'completed',
      provenLevel: 5,
      error: null,
      bad: [],
    });
    const { certificate } = await good(server.current.api<CertificateDto>('GET', `/api/verifications/${id}/certificate`));
    expect((certificate as { checks: object[] }).checks).toContainEqual({
      level: 5,
      name: 'assertion all users',
      ok: true,
      detail: '1247; as expected: >= 1247.',
    });
    expect(await good(server.current.api<Run>('GET', `/api/backups/${backup.id}/details`))).toMatchObject({
      proofLevel: 5,
      broken: false,
    });
    await checkOffline(id);
  });

  it('ends as failed when one can not be tried, and says nothing of the backup', async () => {
    await good(
      change({
        assertions: [
          { name: 'holds', query: 'SELECT true' },
          { name: 'writes', query: 'DELETE FROM users' },
          { name: 'writes twice', query: 'SELECT true; DELETE FROM users' },
          { name: 'leaves', query: "SELECT pg_read_file('/etc/passwd') IS NOT NULL" },
          { name: 'never ends', query: 'SELECT pg_sleep(30) IS NULL', timeoutSeconds: 1 },
        ],
      }),
    );
    const { status, provenLevel, checks, error } = await verify(server.current, backup.id, 5);
    expect({ status, provenLevel, code: error?.code }).toEqual({ status: 'failed', provenLevel: 4, code: 'DRILL_IMPOSSIBLE' });
    const found = checks!.filter(({ level }) => level === 5).map(({ ok, detail }) => [ok, /SQLSTATE \w+/.exec(detail)?.[0]]);
    expect(found).toEqual([
      [true, undefined],
      [false, 'SQLSTATE 42601'],
      [false, 'SQLSTATE 42601'],
      [false, 'SQLSTATE 42501'],
      [false, 'SQLSTATE 57014'],
    ]);
    expect(await good(server.current.api<Run>('GET', `/api/backups/${backup.id}/details`))).toMatchObject({
      proofLevel: 5,
      broken: false,
    });
  });

  it('ends as failed when one does not hold, and the backup is broken', async () => {
    await good(
      change({
        assertions: [
          { name: 'more users', query: 'SELECT count(*) FROM users', expectation: '> 2000' },
          { name: 'a table', query: 'SELECT count(*) FROM orders', expectation: '> 0' },
        ],
      }),
    );
    const { status, provenLevel, error } = await verify(server.current, backup.id, 5);
    expect({ status, provenLevel, code: error?.code }).toEqual({ status: 'failed', provenLevel: 4, code: 'ASSERTION_FAILED' });
    expect(error?.message).toBe(
      'The assertion "more users" does not hold in the restored database: 1247; not as expected: > 2000. 1 more do not hold either.',
    );
    expect(await good(server.current.api<Run>('GET', `/api/backups/${backup.id}/details`))).toMatchObject({ broken: true });
    const told = await server.current.foundation.catalog.db
      .selectFrom('outbox')
      .selectAll()
      .where('type', '=', 'verification.failed')
      .orderBy('position', 'desc')
      .executeTakeFirstOrThrow();
    expect(JSON.parse(told.body)).toMatchObject({
      data: { backup: { id: backup.id, broken: true }, verification: { error: { code: 'ASSERTION_FAILED' } } },
    });
  });
});

describe('samples', () => {
  const servers: TestServer[] = [];
  const DAY_MS = 86_400_000;

  beforeAll(async () => {
    const catalog = urlOf(postgres.current.connection(await postgres.current.createDatabase('samples')));
    const env = { DATABASE_URL: catalog, SECRET_KEY: Buffer.alloc(32, 7).toString('base64'), VERIFY_SAMPLE_PERCENT: '10' };
    servers.push(await TestServer.start(env));
    servers.push(await TestServer.start({ ...env, DATA_DIR: servers[0]!.dataDir }));
  });
  afterAll(async () => {
    for (const each of servers) await each.stop();
  });

  it('are drawn once a day over all servers: each newest backup that was not looked at, and a share of the old ones in turn', async () => {
    const [first] = servers as [TestServer];
    const { db } = first.foundation.catalog;
    const url = urlOf(postgres.current.connection('shop'));
    for (const name of ['one', 'two']) await good(first.api('POST', '/api/sources', { name, url }));
    const newest = await backUp(first, { source: 'one' });
    const seen = await backUp(first, { source: 'two' });
    await good(
      first.api('POST', '/api/backups/schedule', {
        name: 'weekly',
        source: 'one',
        cron: '0 3 * * 0',
        timezone: 'UTC',
        verifyLevel: 1,
      }),
    );
    await verify(first, seen.id, 2);
    // Twenty older ones, as rows alone; a verification of one would fail, so that none may begin.
    await sql`INSERT INTO backups (id, organization_id, status, source_id, source_name, type, origin, components, compress, tags, prefix, created_at, started_at, finished_at, proof_level)
      SELECT 'backup_2025-01-01_00-00-' || lpad(n::text, 2, '0') || '_aaaaaa', organization_id, 'completed', source_id, source_name, type, origin, components, compress, tags, 'old/' || n,
        now() - make_interval(days => 40 - n), now() - make_interval(days => 40 - n), now() - make_interval(days => 40 - n), 2
      FROM backups, generate_series(1, 20) n WHERE id = ${newest.id}`.execute(db);
    const drawn = async () => {
      const { rows } = await sql<{
        backup_id: string;
        requested_level: number;
      }>`SELECT backup_id, requested_level FROM verifications
        WHERE requested_by ->> 'kind' = 'system' ORDER BY created_at, backup_id`.execute(db);
      return rows.map((row) => `${row.backup_id} ${row.requested_level}`);
    };
    const old = (n: number) => `backup_2025-01-01_00-00-0${n}_aaaaaa 2`;
    const now = new Date();
    const samplings = servers.map(({ running }) => running.app.get(Sampling, { strict: false }));
    const counts = await Promise.all([...samplings, ...samplings].map((sampling) => sampling.draw(now)));
    expect(counts.toSorted()).toEqual([0, 0, 0, 3]);
    expect((await drawn()).toSorted()).toEqual([`${newest.id} 1`, old(1), old(2)].toSorted());

    await sql`UPDATE verifications SET status = 'failed', finished_at = now() WHERE backup_id LIKE 'backup_2025%'`.execute(db);
    await Promise.all(samplings.map((sampling) => sampling.draw(new Date(now.getTime() + DAY_MS))));
    expect((await drawn()).filter((line) => line.startsWith('backup_2025')).toSorted()).toEqual([old(1), old(2), old(3), old(4)]);
  });
});
