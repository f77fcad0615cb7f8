import { describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import type { BackupDto } from '../../src/backups/backup.dto.js';
import type { SourceDto } from '../../src/sources/source.dto.js';
import { useServer, urlOf } from '../support/server.js';
import { usePostgres } from '../support/postgres.js';

const postgres = usePostgres();
// Nobody works here: what is queued stays queued.
const server = useServer(() => ({
  DATABASE_URL: urlOf(postgres.current.connection('postgres')),
  SECRET_KEY: randomBytes(32).toString('base64'),
  ROLE: 'api',
}));

const SOURCE = { host: '127.0.0.1', port: 1, database: 'shop', user: 'reader' };

async function createSource(name: string, key?: string): Promise<SourceDto> {
  const answer = await server.current.api<SourceDto>('POST', '/api/sources', { ...SOURCE, name }, key);
  expect(answer.status).toBe(200);
  return answer.body.data;
}

const createBackup = (source: string, label: string, key?: string) =>
  server.current.api<BackupDto>('POST', '/api/backups/create', { source, label }, key);

const list = (key?: string, query = '') => server.current.api<BackupDto[]>('GET', `/api/backups/list${query}`, undefined, key);

describe('a list that is asked for again', () => {
  it('comes from the cache, byte by byte the same, with its place in the whole', async () => {
    const source = await createSource('hit');
    for (const label of ['one', 'two', 'three']) await createBackup(source.id, label);
    const first = await list(undefined, '?limit=2&page=2&source=hit');
    const second = await list(undefined, '?limit=2&page=2&source=hit');
    expect([first.headers['x-cache'], second.headers['x-cache']]).toEqual(['MISS', 'HIT']);
    expect(second.body.meta).toEqual({ page: 2, limit: 2, total: 3 });
    expect(second.bytes.equals(first.bytes)).toBe(true);
  });

  it('is another one for another page', async () => {
    const one = await list(undefined, '?limit=1&page=1');
    const two = await list(undefined, '?limit=1&page=2');
    expect(two.headers['x-cache']).toBe('MISS');
    expect(two.body.data[0]?.id).not.toBe(one.body.data[0]?.id);
  });

  it('shows a backup that was made a moment ago', async () => {
    const source = await createSource('fresh');
    await list();
    expect((await list()).headers['x-cache']).toBe('HIT');
    const { id } = (await createBackup(source.id, 'new')).body.data;
    const after = await list();
    expect(after.headers['x-cache']).toBe('MISS');
    expect(after.body.data[0]?.id).toBe(id);
  });

  it.each<[string, string, (backup: BackupDto | undefined) => unknown]>([
    ['POST', 'pin', (backup) => backup?.pinned === true],
    ['POST', 'unpin', (backup) => backup?.pinned === false],
    ['POST', 'cancel', (backup) => backup?.status === 'canceled'],
    ['DELETE', '', (backup) => backup === undefined],
    ['POST', 'undelete', (backup) => backup?.deletedAt === null],
  ])('shows at once what %s …/%s has changed', async (method, verb, holds) => {
    const id = await theBackup();
    const query = '?source=changing';
    await list(undefined, query);
    expect((await list(undefined, query)).headers['x-cache']).toBe('HIT');
    expect((await server.current.api(method, `/api/backups/${id}${verb === '' ? '' : `/${verb}`}`)).status).toBe(200);
    expect(holds((await list(undefined, query)).body.data.find((backup) => backup.id === id))).toBe(true);
  });

  let changing: Promise<string> | undefined;
  function theBackup(): Promise<string> {
    changing ??= createSource('changing').then(async ({ id }) => (await createBackup(id, 'changing')).body.data.id);
    return changing;
  }
});

describe('a source that is asked for again', () => {
  it('is the changed one right after a change', async () => {
    const { id } = await createSource('put');
    const get = () => server.current.api<SourceDto>('GET', `/api/sources/${id}`);
    await get();
    expect((await get()).headers['x-cache']).toBe('HIT');
    await server.current.api('PUT', `/api/sources/${id}`, { host: 'elsewhere.example' });
    expect((await get()).body.data.host).toBe('elsewhere.example');
    await server.current.api('DELETE', `/api/sources/${id}`);
    expect((await get()).status).toBe(404);
  });

  it('is there right after it was made, although it was missing a moment ago', async () => {
    const get = () => server.current.api('GET', '/api/sources/later');
    expect((await get()).status).toBe(404);
    await createSource('later');
    expect((await get()).status).toBe(200);
  });
});

describe('an answer that is kept', () => {
  it('is never given to another organization', async () => {
    const [one, two] = [await server.current.createOrganization('one'), await server.current.createOrganization('two')];
    const source = await createSource('only mine', one.key);
    await createBackup(source.id, 'only mine', one.key);
    expect((await list(one.key)).body.data).toHaveLength(1);
    const theirs = await list(two.key);
    expect(theirs.headers['x-cache']).toBe('MISS');
    expect(theirs.body).toEqual({ success: true, data: [], meta: { page: 1, limit: 20, total: 0 } });
    expect((await list(one.key)).headers['x-cache']).toBe('HIT');
  });

  it('is never given to a key with other permissions, and no key without them sees it', async () => {
    const [reader, more, none] = [
      await server.current.createKey(['backup:read']),
      await server.current.createKey(['backup:read', 'source:read']),
      await server.current.createKey(['source:read']),
    ];
    const query = '?limit=99';
    expect((await list(reader, query)).headers['x-cache']).toBe('MISS');
    expect((await list(more, query)).headers['x-cache']).toBe('MISS');
    expect((await list(await server.current.createKey(['backup:read']), query)).headers['x-cache']).toBe('HIT');
    expect((await list(none, query)).status).toBe(403);
    expect((await server.current.api('GET', `/api/backups/list${query}`, undefined, null)).status).toBe(401);
  });

  it('is not thrown away by a change in another organization', async () => {
    const other = await server.current.createOrganization('busy');
    await list(undefined, '?limit=98');
    await createSource('busy', other.key);
    expect((await list(undefined, '?limit=98')).headers['x-cache']).toBe('HIT');
  });

  it('is not what a route answers that promises the present', async () => {
    const { id } = (await createBackup('fresh', 'now')).body.data;
    for (const path of [`/api/backups/${id}/details`, '/api/restores', '/api/status/ready'])
      expect((await server.current.api('GET', path)).headers).not.toHaveProperty('x-cache');
  });
});
