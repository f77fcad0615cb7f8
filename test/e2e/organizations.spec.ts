import { beforeAll, describe, expect, it } from '@jest/globals';
import { sql } from 'kysely';
import { BackupTrash } from '../../src/backups/backup-trash.js';
import { newId } from '../../src/common/identifiers.js';
import { good } from '../support/runs.js';
import { useServer } from '../support/server.js';

interface Named {
  id: string;
  name: string;
  role: string | null;
}
interface Member {
  id: string;
  email: string;
  role: string;
  password: string | null;
}
interface Tokens {
  token: string;
  refreshToken: string;
}

const server = useServer();
const PASSWORD = 'violet harbour nineteen';

/** As somebody with a token. */
function as<T>(token: string, method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  return server.current.request<T>(method, path, {
    key: null,
    headers: { authorization: `Bearer ${token}`, ...headers },
    ...(body === undefined ? {} : { body }),
  });
}

async function addMember(organization: string, email: string, role: string, key?: string): Promise<string> {
  const path = `/api/organizations/${organization}/members`;
  const added = await server.current.api<Member>('POST', path, { email, role, password: PASSWORD }, key);
  expect(added.body).toMatchObject({ success: true, data: { email, role } });
  return added.body.data.id;
}

async function login(email: string, password = PASSWORD): Promise<Tokens> {
  const answer = await server.current.api<Tokens>('POST', '/api/auth/login', { email, password }, null);
  expect(answer.status).toBe(200);
  return answer.body.data;
}

async function makeOrganization(name = newId('name')): Promise<Named> {
  const answer = await server.current.api<Named>('POST', '/api/organizations', { name });
  expect(answer.status).toBe(200);
  return answer.body.data;
}

describe('organizations', () => {
  it('are made by the bootstrap key, which is owner in each, and picked by x-organization', async () => {
    const made = await makeOrganization('platform');
    expect(made).toMatchObject({ name: 'platform', role: 'owner' });
    const me = await server.current.request<{ organization: Named; organizations: Named[] }>('GET', '/api/auth/me', {
      headers: { 'x-organization': made.id },
    });
    expect(me.body.data.organization).toMatchObject(made);
    expect(me.body.data.organizations.length).toBeGreaterThan(1);
    const sources = await server.current.request<unknown[]>('GET', '/api/sources', { headers: { 'x-organization': made.id } });
    expect(sources.body.data).toEqual([]);
    const unknown = await server.current.request('GET', '/api/sources', { headers: { 'x-organization': 'org_none' } });
    expect(unknown.status).toBe(404);
  });

  it('are made by nobody else, and names are taken once', async () => {
    const key = await server.current.createKey();
    expect((await server.current.api('POST', '/api/organizations', { name: 'mine' }, key)).status).toBe(403);
    const { name } = await makeOrganization();
    expect((await server.current.api('POST', '/api/organizations', { name })).status).toBe(409);
  });

  it('are renamed, and deleted when nothing is left in them and their name confirms it', async () => {
    const { id, name } = await makeOrganization();
    expect((await server.current.api('PUT', `/api/organizations/${id}`, { name: `${name}-new` })).body.data).toMatchObject({
      name: `${name}-new`,
    });
    const key = await server.current.createKey(['backup:read'], id);
    expect((await server.current.api('GET', '/api/backups/list', undefined, key)).status).toBe(200);
    expect((await server.current.api('DELETE', `/api/organizations/${id}?confirm=${name}`)).status).toBe(400);
    expect((await server.current.api('DELETE', `/api/organizations/${id}?confirm=${name}-new`)).status).toBe(200);
    expect((await server.current.api('GET', `/api/organizations/${id}`)).status).toBe(404);
    expect((await server.current.api('GET', '/api/backups/list', undefined, key)).status).toBe(401);
    expect((await makeOrganization(`${name}-new`)).name).toBe(`${name}-new`);
  });

  it('in which nothing is left need no confirmation', async () => {
    const { id } = await makeOrganization();
    expect((await server.current.api('DELETE', `/api/organizations/${id}`)).status).toBe(200);
    expect((await server.current.api('GET', `/api/organizations/${id}`)).status).toBe(404);
  });

  it('that are deleted with what is in them leave no key, credential, schedule, hook or channel behind, and nothing running', async () => {
    const { id, name } = await makeOrganization();
    const headers = { 'x-organization': id };
    const add = async (path: string, body: object) => {
      const answer = await server.current.request<{ id: string }>('POST', path, { body, headers });
      expect([path, answer.status]).toEqual([path, 200]);
      return answer.body.data.id;
    };
    const source = await add('/api/sources', {
      name: 'db',
      kind: 'supabase',
      url: 'postgresql://a:b@db.example.org/x',
      supabaseUrl: 'https://project.example.org',
      serviceRoleKey: 'the-key-of-the-project',
    });
    await add('/api/backups/schedule', { name: 'n', source: 'db', cron: '0 2 29 2 *' });
    await add('/api/webhooks/endpoints', { url: 'https://hooks.example.org/x', events: ['backup.*'] });
    await add('/api/notifications/channels', { name: 'c', kind: 'slack', url: 'https://hooks.slack.com/services/a/b/c' });
    await add('/api/retention-policies', { name: 'p', keepLast: 3 });
    await add('/api/destinations', { name: 'd', kind: 'local', folder: 'd-folder' });
    const key = await server.current.createKey(['backup:read'], id);
    const { db } = server.current.foundation.catalog;
    const backup = 'backup_2025-12-22_14-30-00_k7m2qd';
    await db
      .insertInto('backups')
      .values({
        id: backup,
        organization_id: id,
        source_id: source,
        type: 'full',
        origin: 'api',
        status: 'queued',
        components: ['database'],
        compress: true,
        tags: [],
        pinned: true,
        prefix: `none/${id}`,
      } as never)
      .execute();
    expect((await server.current.api('DELETE', `/api/organizations/${id}?confirm=${name}`)).body.error).toMatch(/^1 runs/);
    await db.updateTable('backups').set({ status: 'completed' }).where('id', '=', backup).execute();
    expect((await server.current.api('DELETE', `/api/organizations/${id}`)).status).toBe(409);
    expect((await server.current.api('DELETE', `/api/organizations/${id}?confirm=${name}`)).status).toBe(200);

    expect((await server.current.api('GET', '/api/backups/list', undefined, key)).status).toBe(401);
    for (const table of ['members', 'schedules', 'retention_policies', 'notification_channels', 'webhook_endpoints'] as const)
      expect(await db.selectFrom(table).selectAll().where('organization_id', '=', id).execute()).toEqual([]);
    const row = await db.selectFrom('sources').selectAll().where('id', '=', source).executeTakeFirstOrThrow();
    expect([row.sealed_password, row.sealed_service_role_key, row.deleted_at]).toEqual([null, null, expect.any(Date)]);
    const left = () => db.selectFrom('backups').selectAll().where('organization_id', '=', id).execute();
    expect(await left()).toMatchObject([{ pinned: false, deleted_at: expect.any(Date) }]);
    await db
      .updateTable('backups')
      .set({ deleted_at: sql<Date>`now() - interval '4 days'` })
      .where('id', '=', backup)
      .execute();
    await server.current.running.app.get(BackupTrash, { strict: false }).empty();
    expect(await left()).toEqual([]);
    expect(await db.selectFrom('destinations').selectAll().where('organization_id', '=', id).execute()).toEqual([]);
    const trail = await db.selectFrom('audit_entries').select('action').where('organization_id', '=', id).execute();
    expect(trail.map(({ action }) => action)).toEqual(expect.arrayContaining(['organization.deleted', 'backup.purged']));
  });

  it('that still have a source are not deleted without their name, nor is the first', async () => {
    const { id } = await makeOrganization();
    const source = { name: 'db', kind: 'postgres', url: 'postgresql://a:b@db.example.org/x' };
    const headers = { 'x-organization': id };
    expect((await server.current.request('POST', '/api/sources', { body: source, headers })).status).toBe(200);
    const answer = await server.current.api('DELETE', `/api/organizations/${id}`);
    expect([answer.status, answer.body.error]).toEqual([409, expect.stringContaining('1 sources')]);
    const first = server.current.foundation.installation.defaultOrganizationId;
    expect((await server.current.api('DELETE', `/api/organizations/${first}?confirm=default`)).status).toBe(409);
  });

  it('are closed to the keys and owners of others, which do not learn that they exist', async () => {
    const { id } = await makeOrganization();
    const other = await server.current.createOrganization(newId('name'));
    for (const [method, path, body] of [
      ['GET', ``, undefined],
      ['PUT', ``, { name: 'taken over' }],
      ['DELETE', `?confirm=x`, undefined],
      ['GET', `/members`, undefined],
      ['POST', `/members`, { email: 'me@example.org', role: 'owner' }],
    ] as const)
      expect((await server.current.api(method, `/api/organizations/${id}${path}`, body, other.key)).status).toBe(404);
    const headers = { 'x-organization': id };
    expect((await server.current.request('GET', '/api/backups/list', { key: other.key, headers })).status).toBe(404);
  });
});

describe('members', () => {
  let organization: Named;
  beforeAll(async () => {
    organization = await makeOrganization();
    await addMember(organization.id, 'first@example.org', 'owner');
  });

  it('have one role in each of several organizations, and act in the first they joined unless they say otherwise', async () => {
    const other = await makeOrganization();
    await addMember(organization.id, 'two@example.org', 'viewer');
    await addMember(other.id, 'two@example.org', 'owner');
    const { token } = await login('two@example.org');
    const me = await as<{ organization: Named; permissions: string[] }>(token, 'GET', '/api/auth/me');
    expect(me.body.data.organization).toMatchObject({ id: organization.id, role: 'viewer' });
    expect(me.body.data.permissions).not.toContain('member:manage');
    const there = await as<Member[]>(token, 'GET', `/api/organizations/${other.id}/members`);
    expect(there.body.data).toMatchObject([{ email: 'two@example.org', role: 'owner' }]);
    expect((await as(token, 'GET', `/api/organizations/${organization.id}/members`)).status).toBe(403);
  });

  it('are shown their first password once, when none was given', async () => {
    const path = `/api/organizations/${organization.id}/members`;
    const added = await server.current.api<Member>('POST', path, { email: 'New@Example.org', role: 'viewer' });
    expect(added.body.data.email).toBe('new@example.org');
    await login('NEW@example.org', added.body.data.password ?? '');
    const again = await server.current.api('POST', path, { email: 'new@example.org', role: 'viewer' });
    expect(again.status).toBe(409);
  });

  it('lose what they could at once when their role changes or they are removed', async () => {
    const id = await addMember(organization.id, 'leaving@example.org', 'admin');
    const { token } = await login('leaving@example.org');
    const path = `/api/organizations/${organization.id}/members/${id}`;
    expect((await as(token, 'GET', '/api/webhooks/endpoints')).status).toBe(200);
    await server.current.api('PUT', path, { role: 'viewer' });
    expect((await as(token, 'GET', '/api/webhooks/endpoints')).status).toBe(403);
    await server.current.api('DELETE', path);
    const after = await as(token, 'GET', '/api/backups/list');
    expect([after.status, after.body.error]).toEqual([403, expect.stringContaining('no organization')]);
  });

  it('include an owner always', async () => {
    const { id } = await makeOrganization();
    const owner = await addMember(id, newId('only') + '@example.org', 'owner');
    for (const [method, body] of [
      ['PUT', { role: 'admin' }],
      ['DELETE', undefined],
    ] as const)
      expect((await server.current.api(method, `/api/organizations/${id}/members/${owner}`, body)).status).toBe(409);
    const second = await addMember(id, newId('second') + '@example.org', 'owner');
    const [one, two] = await Promise.all(
      [owner, second].map((each) => server.current.api('DELETE', `/api/organizations/${id}/members/${each}`)),
    );
    expect([one?.status, two?.status].sort()).toEqual([200, 409]);
  });

  it('are given no role that can do more than the giver', async () => {
    const key = await server.current.createKey(['member:manage', 'backup:read'], organization.id);
    const path = `/api/organizations/${organization.id}/members`;
    expect((await server.current.api('POST', path, { email: 'x@example.org', role: 'owner' }, key)).status).toBe(403);
    const { token } = await login('first@example.org');
    const me = await as<{ id: string }>(token, 'GET', '/api/auth/me');
    expect((await server.current.api('DELETE', `${path}/${me.body.data.id}`, undefined, key)).status).toBe(403);
    expect((await server.current.api('POST', `${path}/${me.body.data.id}/reset-password`, {}, key)).status).toBe(403);
  });

  it('get a new password from an owner, unless it would open the doors of another organization', async () => {
    const owner = await login('first@example.org');
    const id = await addMember(organization.id, 'forgot@example.org', 'viewer');
    const path = `/api/organizations/${organization.id}/members/${id}/reset-password`;
    const before = await login('forgot@example.org');
    const reset = await as<Member>(owner.token, 'POST', path, {});
    expect(reset.status).toBe(200);
    expect((await as(before.token, 'GET', '/api/auth/me')).status).toBe(401);
    await login('forgot@example.org', reset.body.data.password ?? '');
    await addMember((await makeOrganization()).id, 'forgot@example.org', 'owner');
    expect((await as(owner.token, 'POST', path, {})).status).toBe(409);
    expect((await server.current.api('POST', path, {})).status).toBe(200);
  });
});

describe('API keys', () => {
  it('are shown once, work, and end at once when they are revoked', async () => {
    const made = await server.current.api<{ id: string; key: string }>('POST', '/api/auth/api-keys', {
      name: 'ci',
      permissions: ['backup:read'],
    });
    const { id, key } = made.body.data;
    expect(key).toMatch(/^bsk_key_[0-9a-f]{20}_[\w-]{43}$/);
    expect((await server.current.api('GET', '/api/backups/list', undefined, key)).status).toBe(200);
    expect((await server.current.api('GET', '/api/sources', undefined, key)).status).toBe(403);
    const listed = await server.current.api<{ id: string; lastUsedAt: string }[]>('GET', '/api/auth/api-keys?limit=100');
    expect(listed.bytes.toString()).not.toContain(key);
    expect(listed.body.data.find((each) => each.id === id)).toMatchObject({ name: 'ci', permissions: ['backup:read'] });
    expect(listed.body.data.find((each) => each.id === id)?.lastUsedAt).not.toBeNull();
    expect((await server.current.api('DELETE', `/api/auth/api-keys/${id}`)).status).toBe(200);
    expect((await server.current.api('GET', '/api/backups/list', undefined, key)).status).toBe(401);
    expect((await server.current.api('GET', `/api/auth/api-keys/${id}`)).status).toBe(404);
  });

  it('can do no more than their creator, and do not end in the past', async () => {
    const key = await server.current.createKey(['apikey:manage', 'backup:read']);
    const body = { name: 'more', permissions: ['backup:delete'] };
    expect((await server.current.api('POST', '/api/auth/api-keys', body, key)).status).toBe(403);
    const past = { name: 'past', permissions: ['backup:read'], expiresAt: '2020-01-01T00:00:00Z' };
    expect((await server.current.api('POST', '/api/auth/api-keys', past)).body.fields).toEqual({
      expiresAt: 'must lie in the future',
    });
  });

  it('of one organization are not there for another, and nothing is taken that a key can not be made with', async () => {
    const other = await server.current.createOrganization(newId('name'));
    const made = await server.current.api<{ id: string }>('POST', '/api/auth/api-keys', {
      name: 'a',
      permissions: ['backup:read'],
    });
    expect((await server.current.api('DELETE', `/api/auth/api-keys/${made.body.data.id}`, undefined, other.key)).status).toBe(
      404,
    );
    for (const extra of [
      { organizationId: other.id },
      { is_bootstrap: true },
      { id: 'mine' },
      { key: 'bsk_mine' },
      { instanceOwner: true },
    ]) {
      const answer = await server.current.api('POST', '/api/auth/api-keys', {
        name: 'a',
        permissions: ['backup:read'],
        ...extra,
      });
      expect(answer.status).toBe(400);
    }
  });

  it('can do no more than whoever made them can now, also by way of another key, and nothing once they have left', async () => {
    const organization = await makeOrganization();
    await addMember(organization.id, newId('first').replace('_', '-') + '@example.org', 'owner');
    const email = newId('maker').replace('_', '-') + '@example.org';
    const maker = await addMember(organization.id, email, 'owner');
    const { token } = await login(email);
    const permissions = ['apikey:manage', 'backup:read', 'backup:delete'];
    const made = await as<{ id: string; key: string }>(token, 'POST', '/api/auth/api-keys', { name: 'a', permissions });
    const byKey = { name: 'b', permissions: ['backup:read', 'backup:delete'] };
    const child = await server.current.api<{ id: string; key: string }>('POST', '/api/auth/api-keys', byKey, made.body.data.key);
    const keys = [made.body.data, child.body.data];
    const status = async (method: string, path: string) =>
      Promise.all(keys.map(async ({ key }) => (await server.current.api(method, path, undefined, key)).status));
    const pin = '/api/backups/backup_2025-12-22_14-30-00_zzzzzz/pin';
    const member = `/api/organizations/${organization.id}/members/${maker}`;
    expect(await status('POST', pin)).toEqual([404, 404]);

    await good(server.current.api('PUT', member, { role: 'viewer' }));
    expect(await status('POST', pin)).toEqual([403, 403]);
    expect(await status('GET', '/api/backups/list')).toEqual([200, 200]);
    const headers = { 'x-organization': organization.id };
    const shown = await server.current.request('GET', `/api/auth/api-keys/${keys[0]?.id}`, { headers });
    expect(shown.body.data).toMatchObject({ permissions, effectivePermissions: ['backup:read'] });

    await good(server.current.api('PUT', member, { role: 'admin' }));
    expect(await status('POST', pin)).toEqual([404, 404]);
    await good(server.current.api('DELETE', member));
    expect(await status('GET', '/api/backups/list')).toEqual([401, 401]);
    const after = await server.current.request('GET', `/api/auth/api-keys/${keys[1]?.id}`, { headers });
    expect(after.body.data).toMatchObject({ effectivePermissions: [] });
  });

  it('of the bootstrap are not revoked by a request', async () => {
    const listed = await server.current.api<{ id: string; bootstrap: boolean }[]>('GET', '/api/auth/api-keys?limit=100');
    const own = listed.body.data.find(({ bootstrap }) => bootstrap);
    expect((await server.current.api('DELETE', `/api/auth/api-keys/${own?.id}`)).status).toBe(409);
  });
});

describe('sessions', () => {
  let organization: Named;
  beforeAll(async () => {
    organization = await makeOrganization();
  });

  it('end at once at logout', async () => {
    await addMember(organization.id, 'out@example.org', 'viewer');
    const { token, refreshToken } = await login('out@example.org');
    expect((await as(token, 'GET', '/api/auth/me')).status).toBe(200);
    expect((await as(token, 'POST', '/api/auth/logout')).status).toBe(200);
    expect((await as(token, 'GET', '/api/auth/me')).status).toBe(401);
    expect((await server.current.api('POST', '/api/auth/refresh', { refreshToken }, null)).status).toBe(401);
  });

  it('rotate: the old tokens end, and one that comes twice ends the session', async () => {
    await addMember(organization.id, 'rotate@example.org', 'viewer');
    const first = await login('rotate@example.org');
    const second = await server.current.api<Tokens>('POST', '/api/auth/refresh', { refreshToken: first.refreshToken }, null);
    expect(second.status).toBe(200);
    expect((await as(first.token, 'GET', '/api/auth/me')).status).toBe(401);
    expect((await as(second.body.data.token, 'GET', '/api/auth/me')).status).toBe(200);
    expect((await server.current.api('POST', '/api/auth/refresh', { refreshToken: first.refreshToken }, null)).status).toBe(401);
    expect((await as(second.body.data.token, 'GET', '/api/auth/me')).status).toBe(401);
  });

  it('of others end when the password is changed, which needs the current one and a strong new one', async () => {
    await addMember(organization.id, 'change@example.org', 'viewer');
    const [one, two] = [await login('change@example.org'), await login('change@example.org')];
    const change = (currentPassword: string, newPassword: string) =>
      as(one.token, 'POST', '/api/auth/password', { currentPassword, newPassword });
    expect((await change('wrong', 'another harbour at dusk')).body.fields).toEqual({ currentPassword: 'is wrong' });
    for (const weak of ['short', 'password1234', 'aaaaaaaaaaaaaa', 'change-2026-x!'])
      expect(Object.keys((await change(PASSWORD, weak)).body.fields ?? {})).toEqual(['newPassword']);
    expect((await change(PASSWORD, 'another harbour at dusk')).status).toBe(200);
    expect((await as(one.token, 'GET', '/api/auth/me')).status).toBe(200);
    expect((await as(two.token, 'GET', '/api/auth/me')).status).toBe(401);
    await login('change@example.org', 'another harbour at dusk');
  });

  it('are refused alike for a wrong password and an unknown address, which is then slowed down alike', async () => {
    await addMember(organization.id, 'known@example.org', 'viewer');
    const tries: string[][] = [];
    for (const email of ['known@example.org', 'unknown@example.org']) {
      const answers: string[] = [];
      for (let i = 0; i < 7; i += 1) {
        const { status, body } = await server.current.api('POST', '/api/auth/login', { email, password: 'not this one' }, null);
        answers.push(`${status} ${body.error.replace(/\d+/, 'N')}`);
      }
      tries.push(answers);
    }
    expect(tries[0]).toEqual(tries[1]);
    expect(tries[0]?.[0]).toMatch(/^401/);
    expect(tries[0]?.at(-1)).toMatch(/^429/);
  });
});
