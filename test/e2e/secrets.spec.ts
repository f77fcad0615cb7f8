import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BackupDetailsDto, BackupDto } from '../../src/backups/backup.dto.js';
import type { RestoreDto } from '../../src/restores/restore.dto.js';
import type { SourceDto } from '../../src/sources/source.dto.js';
import { holdLock } from '../support/held-lock.js';
import { usePostgres } from '../support/postgres.js';
import { type Answer, type RequestOptions, send, urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

const postgres = usePostgres();

/** Every secret that the tests put in somewhere, by where. Random, so that finding one is no chance. */
const canaries = new Map<string, string>();
function canary(where: string): string {
  const made = canaries.get(where) ?? `Canary${randomBytes(9).toString('hex')}`;
  canaries.set(where, made);
  return made;
}

const OWNER = `bsk_${canary('owner key')}-0123456789`;
const SECRET_KEY = randomBytes(32).toString('base64');
canaries.set('secret key', SECRET_KEY);

let server: ServerProcess;
let dataDir: string;
/** Every answer so far, headers and all. */
const answers: string[] = [];

async function ask<T>(method: string, path: string, options: RequestOptions = {}): Promise<Answer<T>> {
  const answer = await send<T>(server.url, method, path, { key: OWNER, ...options });
  answers.push(`${method} ${answer.status} ${JSON.stringify(answer.headers)} ${answer.bytes.toString()}`);
  return answer;
}

/** The secrets that a text gives away, by where they were put in. */
function found(text: string | Buffer): string[] {
  return [...canaries].filter(([, secret]) => text.includes(secret)).map(([where]) => where);
}

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'backstay-secrets-'));
  await postgres.current.createDatabase('shop');
  await postgres.current.exec(
    'shop',
    `CREATE TABLE t (secret text); INSERT INTO t SELECT '${canary('row')}' FROM generate_series(1, 1000);
     CREATE ROLE reader LOGIN SUPERUSER PASSWORD '${canary('password of SOURCE_DATABASE_URL')}';
     CREATE ROLE writer LOGIN SUPERUSER PASSWORD '${canary('password field')}';
     ALTER DATABASE shop SET my.password = '${canary('database setting')}'`,
  );
  server = await ServerProcess.start(dataDir, {
    LOG_LEVEL: 'trace',
    LOG_FORMAT: 'json',
    BOOTSTRAP_API_KEY: OWNER,
    SECRET_KEY,
    SOURCE_DATABASE_URL: urlOf(
      postgres.current.connection('shop', { user: 'reader', password: canary('password of SOURCE_DATABASE_URL') }),
    ),
  });
});

afterAll(async () => {
  await server?.end('SIGTERM');
  await rm(dataDir, { recursive: true, force: true });
});

describe('a secret that is put in', () => {
  it('serves to make, check and restore a backup', async () => {
    const { host, port } = postgres.current.connection();
    const source = await ask<SourceDto>('POST', '/api/sources', {
      body: { name: 'fields', host, port, user: 'writer', password: canary('password field'), database: 'shop' },
    });
    expect(source.body.data).toMatchObject({ hasPassword: true });
    expect((await ask('POST', '/api/sources/fields/test', { body: {} })).status).toBe(200);
    const backup = (await ask<BackupDto>('POST', '/api/backups/create?wait=60', { body: { source: 'fields' } })).body.data;
    expect(backup).toMatchObject({ status: 'completed' });
    expect((await ask('POST', `/api/backups/${backup.id}/verify?wait=60`, { body: {} })).body.data).toMatchObject({
      provenLevel: 2,
    });
    await postgres.current.createDatabase('target');
    await postgres.current.exec('target', `CREATE ROLE filler LOGIN SUPERUSER PASSWORD '${canary('password of the target')}'`);
    const url = urlOf(postgres.current.connection('target', { user: 'filler', password: canary('password of the target') }));
    const restore = await ask<RestoreDto>('POST', `/api/backups/${backup.id}/restore?wait=60`, {
      body: { target: { mode: 'url', url } },
    });
    expect(restore.body.data).toMatchObject({ status: 'completed' });
    for (const path of ['/api/backups/list', `/api/backups/${backup.id}/details`, '/api/sources', '/api/restores', '/api/keys'])
      expect((await ask('GET', path)).status).toBe(200);
  });

  it.each<[string, string, string, (secret: string) => RequestOptions]>([
    ['a field of a wrong type', 'POST', '/api/sources', (secret) => ({ body: { name: 'x', password: { value: secret } } })],
    ['a field that is too long', 'POST', '/api/sources', (secret) => ({ body: { name: 'x', password: secret.repeat(100) } })],
    ['a field that is unknown', 'POST', '/api/sources', (secret) => ({ body: { name: 'x', pasword: secret } })],
    ['JSON that ends too early', 'POST', '/api/sources', (secret) => ({ raw: `{"name":"x","password":"${secret}"` })],
    ['JSON with a stray word', 'POST', '/api/sources', (secret) => ({ raw: `{"password":${secret}}` })],
    ['JSON that is a text', 'POST', '/api/sources', (secret) => ({ raw: `"${secret}"` })],
    [
      'a body of another kind',
      'POST',
      '/api/sources',
      (secret) => ({ raw: `password=${secret}`, headers: { 'content-type': 'text/plain' } }),
    ],
    ['a key that is not known', 'GET', '/api/sources', (secret) => ({ key: `bsk_${secret}-0123456789abcdef` })],
    ['a key that is none', 'GET', '/api/sources', (secret) => ({ key: secret })],
    ['a token', 'GET', '/api/sources', (secret) => ({ key: null, headers: { authorization: `Bearer ${secret}` } })],
    ['a cookie', 'GET', '/api/sources', (secret) => ({ headers: { cookie: `session=${secret}` } })],
  ])('in %s is told to nobody', async (where, method, path, options) => {
    await ask(method, path, options(canary(where)));
    expect(found(answers.at(-1) ?? '')).toEqual([]);
  });

  it.each(['password', 'token', 'access_token', 'api_key', 'apikey', 'x-api-key', 'secret', 'url', 'anything'])(
    'in the query, as ?%s=, is told to nobody',
    async (name) => {
      const secret = canary(`query ${name}`);
      await ask('GET', `/api/backups/list?${name}=${secret}`);
      await ask('GET', `/api/nowhere?${name}=${secret}`);
      await ask('GET', `/api/sources?${name}=postgresql://u:${secret}@h/d`);
      expect(answers.slice(-3).flatMap(found)).toEqual([]);
    },
  );

  it.each<[string, (secret: string) => string]>([
    ['another scheme', (secret) => `mysql://u:${secret}@127.0.0.1/d`],
    ['no scheme', (secret) => `u:${secret}@127.0.0.1/d`],
    ['a raw @', (secret) => `postgresql://u:p@${secret}@127.0.0.1/d`],
    ['a raw /', (secret) => `postgresql://u:p/${secret}@127.0.0.1/d`],
    ['a raw ?', (secret) => `postgresql://u:p?${secret}@127.0.0.1/d`],
    ['a raw #', (secret) => `postgresql://u:p#${secret}@127.0.0.1/d`],
    ['a raw %', (secret) => `postgresql://u:%${secret}@127.0.0.1/d`],
    ['a port that is none', (secret) => `postgresql://u:${secret}@127.0.0.1:port/d`],
    ['several hosts', (secret) => `postgresql://u:${secret}@a,b/d`],
    ['a password as a keyword', (secret) => `postgresql://u@127.0.0.1/d?password=${secret}`],
    ['a keyword that is unknown', (secret) => `postgresql://u@127.0.0.1/d?sslpassword=${secret}`],
    ['a mode that is none', (secret) => `postgresql://u@127.0.0.1/d?sslmode=${secret}`],
    ['NUL', (secret) => `postgresql://u:${secret}\0@127.0.0.1/d`],
    ['no database', (secret) => `postgresql://u:${secret}@127.0.0.1`],
    ['a space', (secret) => `postgresql://u:x ${secret}@127.0.0.1/d`],
  ])('in a URL with %s is told to nobody', async (where, url) => {
    const body = { name: `url ${where}`, url: url(canary(`url ${where}`)) };
    await ask('POST', '/api/sources', { body });
    await ask('PUT', '/api/sources/default', { body: { url: body.url } });
    const id = 'backup_2025-12-22_14-30-00_k7m2qd';
    await ask('POST', `/api/backups/${id}/restore`, { body: { target: { mode: 'url', url: body.url } } });
    expect(answers.slice(-3).flatMap(found)).toEqual([]);
  });

  it('to a database that refuses it, or is not there, is told to nobody', async () => {
    const { host, port } = postgres.current.connection();
    const backup = (await ask<BackupDto[]>('GET', '/api/backups/list?status=completed')).body.data[0];
    for (const [where, at] of [
      ['refused password', `${host}:${port}/shop`],
      ['database not there', `${host}:${port}/${canary('row')}`],
      ['server not there', `${host}:1/shop`],
      ['host not there', `nowhere.invalid/shop`],
    ] as const) {
      const url = `postgresql://writer:${canary(where)}@${at.replace(canary('row'), 'gone')}`;
      const { data } = (await ask<SourceDto>('POST', '/api/sources', { body: { name: where, url } })).body;
      expect((await ask('POST', `/api/sources/${data.id}/test`, { body: {} })).status).toBe(422);
      const failed = (await ask<BackupDto>('POST', '/api/backups/create?wait=60', { body: { source: data.id } })).body.data;
      expect(failed).toMatchObject({ status: 'failed' });
      const target = { mode: 'url', url };
      expect((await ask('POST', `/api/backups/${backup?.id}/restore`, { body: { target } })).status).toBe(422);
    }
    expect(answers.flatMap(found)).toEqual([]);
  });

  it('is no argument of a program that the server runs', async () => {
    const release = await holdLock(postgres.current.connection('shop'), 't');
    try {
      const { id } = (await ask<BackupDto>('POST', '/api/backups/create', { body: { source: 'fields' } })).body.data;
      let children: string[] = [];
      await until(async () => (children = await childrenOf(server.pid)).some((line) => /pg_dump/.test(line)));
      expect(children.flatMap(found)).toEqual([]);
      expect(children.join()).not.toMatch(/password=/i);
      await ask('POST', `/api/backups/${id}/cancel`);
      await until(async () => (await ask<BackupDetailsDto>('GET', `/api/backups/${id}/details`)).body.data.status === 'canceled');
    } finally {
      await release();
    }
  });

  it('has left no trace in any answer', () => {
    expect(answers.length).toBeGreaterThan(80);
    expect(answers.flatMap(found)).toEqual([]);
  });

  it('has left no trace in the log, at its most talkative', async () => {
    expect(server.output).toContain('"event":"backup.completed"');
    expect(server.output).toContain('"event":"backup.failed"');
    expect(server.output).toContain('"event":"access.unknown-key"');
    for (const line of server.output.split('\n')) expect({ line, secrets: found(line) }).toEqual({ line, secrets: [] });
  });

  it('lies in no file of the server in clear', async () => {
    const files = (await readdir(dataDir, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    expect(files.length).toBeGreaterThan(100);
    const identity = /AGE-SECRET-KEY-\S+/.exec(await readFile(join(dataDir, 'keys/age-identity.txt'), 'utf8'))?.[0] ?? '';
    expect(identity).toHaveLength(74);
    for (const { parentPath, name } of files) {
      const path = join(parentPath, name);
      const content = await readFile(path);
      expect({ path, secrets: found(content) }).toEqual({ path, secrets: [] });
      if (!path.includes('/keys/')) expect({ path, hasKey: content.includes(identity) }).toEqual({ path, hasKey: false });
    }
    expect([...answers, server.output].some((text) => text.includes(identity) || /PRIVATE KEY/.test(text))).toBe(false);
  });
});

describe('a server that can not start', () => {
  beforeAll(async () => void (await postgres.current.createDatabase('catalog')));
  /** Making an embedded catalog, only to find that the source makes no sense, would take seconds. */
  const onShared = () => ({ DATABASE_URL: urlOf(postgres.current.connection('catalog')) });

  it.each<[string, () => NodeJS.ProcessEnv]>([
    ['nobody answers', () => ({ DATABASE_URL: `postgresql://u:${canary('start 1')}@127.0.0.1:1/d` })],
    [
      'the password is refused',
      () => ({ DATABASE_URL: urlOf({ ...postgres.current.connection(), password: canary('start 2') }) }),
    ],
    ['the URL is none', () => ({ DATABASE_URL: `postgresql://u:${canary('start 3')}@[bad/d` })],
    ['the URL is of another kind', () => ({ DATABASE_URL: `mysql://u:${canary('start 4')}@h/d` })],
    ['the source is none', () => ({ ...onShared(), SOURCE_DATABASE_URL: `postgresql://u:${canary('start 5')}@a,b/d` })],
    ['the source is hard to read', () => ({ ...onShared(), SOURCE_DATABASE_URL: `postgresql://u:p@${canary('start 6')}@h/d` })],
    ['the key is too short', () => ({ BOOTSTRAP_API_KEY: canary('start 7') })],
    ['the secret key is too short', () => ({ SECRET_KEY: canary('start 8') })],
    ['a secret key stands for a public one', () => ({ BACKUP_RECIPIENTS: `AGE-SECRET-KEY-1${canary('start 9')}` })],
  ])('says why, and no secret, where %s', async (_, env) => {
    const folder = await mkdtemp(join(tmpdir(), 'backstay-secrets-'));
    try {
      const settings = { LOG_LEVEL: 'trace', SECRET_KEY: randomBytes(32).toString('base64'), ...env() };
      const said = await ServerProcess.start(folder, settings).then(
        () => 'it started',
        (error: Error) => error.message,
      );
      expect(said).toContain("Backstay can't start");
      expect(found(said)).toEqual([]);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

/** The command lines of a process's descendants. */
async function childrenOf(pid: number): Promise<string[]> {
  const lines: string[] = [];
  const all = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const parents = new Map<number, number>();
  for (const id of all) {
    const stat = await readFile(`/proc/${id}/stat`, 'utf8').catch(() => '');
    if (stat !== '') parents.set(Number(id), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
  }
  for (const id of parents.keys()) {
    let ancestor: number | undefined = id;
    while (ancestor !== undefined && ancestor !== pid) ancestor = parents.get(ancestor);
    if (ancestor === pid && id !== pid)
      lines.push((await readFile(`/proc/${id}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' '));
  }
  return lines;
}
