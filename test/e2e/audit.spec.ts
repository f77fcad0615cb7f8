import { describe, expect, it } from '@jest/globals';
import { createHash } from 'node:crypto';
import { sql } from 'kysely';
import { AuditRetention } from '../../src/audit/audit-retention.js';
import { newId } from '../../src/common/identifiers.js';
import { type Answer, useServer } from '../support/server.js';

interface Entry {
  id: string;
  seq: number;
  actor: { kind: string; id: string; name: string };
  action: string;
  result: string;
  requestId: string;
  userAgent: string;
  previousHash: string;
  hash: string;
  hashed: string;
}
interface Check {
  intact: boolean;
  entries: number;
  removed: number;
  head: string;
  brokenAt: { seq: number; kind: string } | null;
}

const server = useServer({ AUDIT_RETENTION_DAYS: '30' });

async function organization(): Promise<{ id: string; key: string }> {
  return server.current.createOrganization(newId('name'));
}

async function check(key: string): Promise<Check> {
  return (await server.current.api<Check>('GET', '/api/audit/check', undefined, key)).body.data;
}

function makeKeys(key: string, count: number): Promise<{ status: number }[]> {
  const body = { name: 'made', permissions: ['backup:read'] };
  return Promise.all(Array.from({ length: count }, () => server.current.api('POST', '/api/auth/api-keys', body, key)));
}

/** As somebody who can write to the catalog's database past everything. */
async function tamper(statement: ReturnType<typeof sql>): Promise<void> {
  await server.current.foundation.catalog.transaction(async (trx) => {
    await sql`SET LOCAL session_replication_role = replica`.execute(trx);
    await statement.execute(trx);
  });
}

describe('the audit trail', () => {
  it('says who did what from where, by which request, and what was denied', async () => {
    const { key } = await organization();
    const made = await server.current.request<{ id: string }>('POST', '/api/auth/api-keys', {
      key,
      headers: { 'x-request-id': 'req-of-the-test', 'user-agent': 'curl/8' },
      body: { name: 'ci', permissions: ['backup:read'] },
    });
    await server.current.api('GET', '/api/sources', undefined, (made.body.data as unknown as { key: string }).key);
    const { data } = (await server.current.api<Entry[]>('GET', '/api/audit', undefined, key)).body;
    expect(data).toMatchObject([
      { seq: 2, action: 'access.denied', result: 'denied', actor: { kind: 'api-key', name: 'ci' } },
      {
        seq: 1,
        action: 'api-key.created',
        result: 'ok',
        requestId: 'req-of-the-test',
        userAgent: 'curl/8',
        address: '127.0.0.1',
        resource: { kind: 'api-key', id: made.body.data.id },
        previousHash: '',
        hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    ]);
  });

  it('is one whole chain after many writes at once, and is read on by its cursor without gaps', async () => {
    const { key } = await organization();
    const answers = await makeKeys(key, 40);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(await check(key)).toMatchObject({ intact: true, entries: 40, removed: 0, brokenAt: null });
    const seen: number[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const page: Answer<Entry[]> = await server.current.api<Entry[]>(
        'GET',
        `/api/audit?limit=15${cursor && `&cursor=${cursor}`}`,
        undefined,
        key,
      );
      seen.push(...page.body.data.map(({ seq }) => seq));
      cursor = (page.body.meta as unknown as { nextCursor: string | null }).nextCursor;
    }
    expect(seen).toEqual(Array.from({ length: 40 }, (_, i) => 40 - i));
  });

  it('is filtered by action, actor and time', async () => {
    const { key } = await organization();
    await makeKeys(key, 3);
    const count = async (query: string) =>
      (await server.current.api<Entry[]>('GET', `/api/audit?${query}`, undefined, key)).body.data.length;
    const { data } = (await server.current.api<Entry[]>('GET', '/api/audit', undefined, key)).body;
    const actor = data[0]?.actor.id ?? '';
    expect(await count('action=api-key.created')).toBe(3);
    expect(await count('action=api-key.*')).toBe(3);
    expect(await count('action=api-key.revoked')).toBe(0);
    expect(await count(`actor=${actor}`)).toBe(3);
    expect(await count('actor=nobody')).toBe(0);
    expect(await count('from=2020-01-01T00:00:00Z')).toBe(3);
    expect(await count('to=2020-01-01T00:00:00Z')).toBe(0);
    for (const bad of ['action=x', 'from=yesterday', 'cursor=0', 'limit=101', 'page=2'])
      expect((await server.current.api('GET', `/api/audit?${bad}`, undefined, key)).status).toBe(400);
  });

  it('is exported as lines of JSON whose hashes anybody can compute', async () => {
    const { key } = await organization();
    await makeKeys(key, 5);
    const exported = await server.current.api('GET', '/api/audit/export', undefined, key);
    expect(exported.headers['content-type']).toContain('application/x-ndjson');
    const entries = exported.bytes
      .toString()
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Entry);
    expect(entries.map(({ action }) => action)).toEqual([...Array<string>(5).fill('api-key.created'), 'audit.exported']);
    let previous = '';
    for (const entry of entries) {
      expect(entry.previousHash).toBe(previous);
      expect(createHash('sha256').update(`${previous}\n${entry.hashed}`).digest('hex')).toBe(entry.hash);
      expect(JSON.parse(entry.hashed)).toEqual(expect.arrayContaining([entry.seq, entry.action, entry.actor.id]));
      previous = entry.hash;
    }
  });

  it('can not be changed by a statement of the server', async () => {
    const { id, key } = await organization();
    await makeKeys(key, 1);
    const { db } = server.current.foundation.catalog;
    for (const statement of [
      sql`UPDATE audit_entries SET actor_name = 'somebody else' WHERE organization_id = ${id}`,
      sql`DELETE FROM audit_entries WHERE organization_id = ${id}`,
      sql`TRUNCATE audit_entries`,
    ])
      await expect(statement.execute(db)).rejects.toThrow('append-only');
  });

  it.each<[what: string, statement: (id: string) => ReturnType<typeof sql>, broken: object]>([
    [
      'changed',
      (id) => sql`UPDATE audit_entries SET actor_name = 'x' WHERE organization_id = ${id} AND seq = 3`,
      { seq: 3, kind: 'changed' },
    ],
    ['removed', (id) => sql`DELETE FROM audit_entries WHERE organization_id = ${id} AND seq = 3`, { seq: 3, kind: 'missing' }],
    [
      'cut off at its end',
      (id) => sql`DELETE FROM audit_entries WHERE organization_id = ${id} AND seq > 3`,
      { seq: 4, kind: 'head' },
    ],
    [
      'cut off at its beginning',
      (id) => sql`DELETE FROM audit_entries WHERE organization_id = ${id} AND seq < 3`,
      { seq: 1, kind: 'missing' },
    ],
    [
      'changed with its hash',
      (id) =>
        sql`UPDATE audit_entries e SET result = 'ok', action = 'x.y', hash = backstay.audit_link(previous_hash, 'x') WHERE organization_id = ${id} AND seq = 2`,
      { seq: 2, kind: 'changed' },
    ],
  ])('shows where it was %s by somebody with the database', async (_, statement, broken) => {
    const { id, key } = await organization();
    await makeKeys(key, 5);
    expect((await check(key)).intact).toBe(true);
    await tamper(statement(id));
    expect(await check(key)).toMatchObject({ intact: false, brokenAt: broken });
  });

  it('is cut by its retention at the beginning alone, says so, and is whole after it', async () => {
    const { id, key } = await organization();
    await makeKeys(key, 4);
    const retention = server.current.running.app.get(AuditRetention, { strict: false });
    expect(await retention.run(new Date())).toBe(0);
    expect(await retention.run(new Date(Date.now() + 31 * 86_400_000))).toBeGreaterThan(0);
    expect(await check(key)).toMatchObject({ intact: true, entries: 2, removed: 3 });
    const { data } = (await server.current.api<Entry[]>('GET', '/api/audit', undefined, key)).body;
    expect(data).toMatchObject([{ seq: 5, action: 'audit.pruned', actor: { kind: 'system' } }, { seq: 4 }]);
    await tamper(sql`DELETE FROM audit_entries WHERE organization_id = ${id} AND seq = 4`);
    expect(await check(key)).toMatchObject({ intact: false, brokenAt: { seq: 4 } });
  });
});
