import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AuditEntryDto } from '../../src/audit/audit.dto.js';
import type { ApiKeyWithKeyDto } from '../../src/auth/auth.dto.js';
import type { BackupDto } from '../../src/backups/backup.dto.js';
import { withClient } from '../../src/engine/postgres/client.js';
import type { RestoreDto } from '../../src/restores/restore.dto.js';
import { usePostgres } from '../support/postgres.js';
import { send, urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';

const PASSWORD = 'correct horse ü';
const postgres = usePostgres();
let folder: string;
let server: ServerProcess;

const api = <T>(method: string, path: string, body?: unknown) => server.api<T>(method, path, body);
const backUp = async (body: object) => (await api<BackupDto>('POST', '/api/backups/create?wait=100', body)).body.data;

beforeAll(async () => {
  await postgres.current.createDatabase('shop');
  await postgres.current.exec('shop', 'CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2)');
  folder = await mkdtemp(join(tmpdir(), 'backstay-passwords-'));
  server = await ServerProcess.start(folder, {
    LOG_LEVEL: 'info',
    LOG_FORMAT: 'json',
    SOURCE_DATABASE_URL: urlOf(postgres.current.connection('shop')),
  });
});

afterAll(async () => {
  await server.end('SIGTERM');
  await rm(folder, { recursive: true, force: true });
});

async function createRole(): Promise<void> {
  await postgres.current.exec(
    'shop',
    `CREATE ROLE clerk LOGIN PASSWORD '${PASSWORD}' CONNECTION LIMIT 7; GRANT SELECT ON orders TO clerk`,
  );
}

async function dropRole(...databases: string[]): Promise<void> {
  for (const database of ['shop', ...databases]) await postgres.current.exec(database, 'DROP OWNED BY clerk');
  await postgres.current.exec('shop', 'DROP ROLE clerk');
}

/** Rows that the role sees when it logs in. */
const logIn = (database: string, password: string) =>
  withClient(postgres.current.connection(database, { user: 'clerk', password }), { applicationName: 'clerk' }, async (client) => {
    return (await client.query('SELECT * FROM public.orders')).rowCount;
  });

describe('passwords of roles', () => {
  it('come along only when asked for, and a restore that creates the role sets them', async () => {
    await createRole();
    const [without, included] = [await backUp({}), await backUp({ includePasswords: true })];
    expect([without, included]).toMatchObject([
      { status: 'completed', includePasswords: false },
      { status: 'completed', includePasswords: true },
    ]);
    await dropRole();

    await restore(without.id, 'first');
    await expect(logIn('first', PASSWORD)).rejects.toMatchObject({ code: 'AUTHENTICATION_FAILED' });
    await dropRole('first');

    const restored = await restore(included.id, 'second');
    expect(restored.warnings).toEqual([]);
    expect(await logIn('second', PASSWORD)).toBe(2);
    await expect(logIn('second', 'wrong')).rejects.toMatchObject({ code: 'AUTHENTICATION_FAILED' });
    const [role] = await postgres.current.query('postgres', "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'clerk'");
    expect(role).toEqual({ rolconnlimit: 7 });

    // A role that is there keeps the password that it has.
    await postgres.current.exec('postgres', "ALTER ROLE clerk PASSWORD 'newer'");
    await restore(included.id, 'third');
    expect(await logIn('third', 'newer')).toBe(2);
    expect(server.output).not.toMatch(/SCRAM-SHA-256\$|correct horse/);
  });

  it('are not for who may only make backups, nor for backups without roles', async () => {
    const made = await api<ApiKeyWithKeyDto>('POST', '/api/auth/api-keys', {
      name: 'maker',
      permissions: ['backup:create', 'backup:download', 'backup:read'],
    });
    const asked = await send(server.url, 'POST', '/api/backups/create', {
      key: made.body.data.key,
      body: { includePasswords: true },
    });
    expect({ status: asked.status, ...asked.body }).toMatchObject({ status: 403, code: 'FORBIDDEN' });
    expect(asked.body.error).toMatch(/source:manage/);
    const noRoles = await api('POST', '/api/backups/create', { includePasswords: true, dbOnly: true });
    expect({ status: noRoles.status, ...noRoles.body }).toMatchObject({
      status: 400,
      fields: { includePasswords: expect.anything() },
    });
  });

  it('fail the backup at once, with a sentence, where the user of the source may not read them', async () => {
    const plain = await postgres.current.createUser('plain');
    await postgres.current.exec('shop', 'GRANT SELECT ON orders TO plain');
    await api('POST', '/api/sources', { name: 'plain', url: urlOf(postgres.current.connection('shop', plain)) });
    const backup = await backUp({ source: 'plain', includePasswords: true });
    expect(backup).toMatchObject({
      status: 'failed',
      error: { code: 'PRIVILEGE_MISSING', hint: expect.stringMatching(/superuser/) },
    });
    expect(backup.error?.message).toMatch(/"plain".*may not read the passwords/);
  });
});

describe('a restore', () => {
  it('is in log and audit trail with who, what and where, at its beginning and its end', async () => {
    const { id: backupId } = await backUp({ source: 'default' });
    const done = await restore(backupId, 'traced');
    const target = { mode: 'new-database', host: '127.0.0.1', port: postgres.current.cluster.port, database: 'traced' };
    const lines = server.output
      .split('\n')
      .filter((line) => line.includes(done.id))
      .map((line) => JSON.parse(line) as { event?: string });
    for (const event of ['restore.queued', 'restore.started', 'restore.completed'])
      expect(lines.find((line) => line.event === event)).toMatchObject({
        runId: done.id,
        backupId,
        actor: expect.stringMatching(/^api-key:/),
        target,
      });

    const { data } = (await api<AuditEntryDto[]>('GET', '/api/audit?limit=100')).body;
    const entries = data.filter((entry) => entry.resource.id === done.id);
    expect(entries.map(({ action, result }) => [action, result])).toEqual([
      ['restore.completed', 'ok'],
      ['restore.created', 'ok'],
    ]);
    for (const entry of entries) expect(entry).toMatchObject({ actor: { kind: 'api-key' }, changes: { backupId, target } });
  });
});

async function restore(backupId: string, database: string): Promise<RestoreDto> {
  const { body } = await api<RestoreDto>('POST', `/api/backups/${backupId}/restore?wait=100`, {
    target: { mode: 'new-database', database },
    createRoles: true,
  });
  expect(body.data).toMatchObject({ status: 'completed', countsEqual: true });
  return body.data;
}
