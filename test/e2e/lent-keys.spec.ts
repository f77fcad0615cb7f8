import { beforeAll, describe, expect, it } from '@jest/globals';
import { RunControl } from '../../src/jobs/run-control.js';
import { generateAgeKeyPair, type AgeKeyPair } from '../../src/engine/artifact/keys.js';
import type { KeysDto } from '../../src/keys/key.dto.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, ended, good, type Run } from '../support/runs.js';
import { urlOf, useServer } from '../support/server.js';

const postgres = usePostgres();
let operator: AgeKeyPair;
const server = useServer();

beforeAll(async () => {
  operator = await generateAgeKeyPair();
  await postgres.current.createDatabase('shop');
  await postgres.current.exec('shop', 'CREATE TABLE items AS SELECT g AS id FROM generate_series(1, 1000) AS g');
  await good(server.current.api('POST', '/api/sources', { name: 'shop', url: urlOf(postgres.current.connection('shop')) }));
});

const verifyWith = (id: string, body: object) =>
  server.current.api<Run>('POST', `/api/backups/${id}/verify`, { level: 2, ...body });

describe('a backup that the server holds no key of', () => {
  let backup: Run;

  beforeAll(async () => {
    const keys = await good(server.current.api<KeysDto>('POST', '/api/keys', { recipients: [operator.recipient] }));
    expect(keys).toMatchObject({ recipients: [operator.recipient], serverHoldsIdentity: false });
    backup = await backUp(server.current, { type: 'database' });
    expect(backup).toMatchObject({ status: 'completed' });
  });

  it('is verified, restored, compared and downloaded with the identity that comes with the request, and not without', async () => {
    const other = (await generateAgeKeyPair()).identity;
    const restore = { target: { mode: 'new-database', database: 'shop_lent' } };
    expect(await verifyWith(backup.id, {})).toMatchObject({
      status: 422,
      body: { error: expect.stringMatching(/x-age-identity/) },
    });
    expect(await verifyWith(backup.id, { identity: other })).toMatchObject({
      status: 422,
      body: { error: expect.stringMatching(/does not open/) },
    });
    expect((await verifyWith(backup.id, { identity: 'no key' })).status).toBe(400);
    expect((await server.current.api('POST', `/api/backups/${backup.id}/restore`, restore)).status).toBe(422);
    const { id } = await good(verifyWith(backup.id, { identity: operator.identity }));
    expect(await ended(server.current, id)).toMatchObject({ status: 'completed', provenLevel: 2 });
    const { id: restored } = await good(
      server.current.api<Run>('POST', `/api/backups/${backup.id}/restore`, { ...restore, identity: operator.identity }),
    );
    expect(await ended(server.current, restored)).toMatchObject({ status: 'completed', countsEqual: true });
    const download = (headers: Record<string, string>) =>
      server.current.request('GET', `/api/backups/${backup.id}/download?form=decrypted`, { headers });
    expect((await download({})).status).toBe(422);
    expect((await download({ 'x-age-identity': operator.identity })).bytes.subarray(0, 5).toString()).toBe('PGDMP');
    const compare = async (headers: Record<string, string>) =>
      (
        await server.current.request<{ schema: object | null }>(
          'GET',
          `/api/backups/compare?base=${backup.id}&head=${backup.id}`,
          { headers },
        )
      ).body.data.schema;
    expect(await compare({})).toBeNull();
    expect(await compare({ 'x-age-identity': operator.identity })).not.toBeNull();
    // What a lent key opened is kept for nobody.
    expect(await compare({})).toBeNull();
  });

  it('leaves the identity nowhere', async () => {
    const { db } = server.current.foundation.catalog;
    expect(await db.selectFrom('run_identities').selectAll().execute()).toEqual([]);
    for (const table of ['restores', 'verifications', 'audit_entries', 'outbox'] as const)
      expect(JSON.stringify(await db.selectFrom(table).selectAll().execute())).not.toContain(operator.identity);
  });

  it('fails clearly when the process that held the identity is gone', async () => {
    const { db } = server.current.foundation.catalog;
    const { id } = await good(verifyWith(backup.id, { identity: operator.identity }));
    await ended(server.current, id);
    await db
      .insertInto('run_identities')
      .values({ run_id: id, sealed: Buffer.from('sealed to a key that is gone').toString('base64') })
      .execute();
    await db.updateTable('verifications').set({ status: 'queued', finished_at: null }).where('id', '=', id).execute();
    const runs = server.current.running.app.get(RunControl);
    await server.current.foundation.catalog.transaction((trx) => runs.enqueue(trx, 'verification', id));
    await runs.queued('verification', id);
    expect(await ended(server.current, id)).toMatchObject({ status: 'failed', error: { code: 'KEY_UNAVAILABLE' } });
  });
});

describe('keys', () => {
  it('are made anew, and what was made under the old ones still opens', async () => {
    await good(server.current.api('POST', '/api/keys', { recipients: [] }));
    const before = await backUp(server.current, { type: 'database' });
    const old = await good(server.current.api<KeysDto>('GET', '/api/keys'));
    await good(server.current.api('POST', '/api/keys', {}));
    const keys = await good(server.current.api<KeysDto>('POST', '/api/keys', { kind: 'signing' }));
    expect(keys.recipients).not.toEqual(old.recipients);
    expect(keys).toMatchObject({ savedAt: null, serverHoldsIdentity: true });
    expect(keys.signingKeys.map(({ publicKey }) => publicKey)).toEqual([keys.signingPublicKey, old.signingPublicKey]);
    const after = await backUp(server.current, { type: 'database' });
    for (const { id } of [before, after]) {
      const { id: verification } = await good(verifyWith(id, {}));
      expect(await ended(server.current, verification)).toMatchObject({ status: 'completed', provenLevel: 2 });
    }
  });

  it('that are made at the same time are all kept', async () => {
    const { keys } = server.current.foundation;
    const before = keys.identities.length;
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => server.current.api<KeysDto>('POST', '/api/keys', { scope: 'server' })),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    await keys.refresh();
    expect(new Set(keys.identities).size).toBe(before + 4);
    for (const { body } of answers) expect(keys.ownRecipients).toEqual(expect.arrayContaining(body.data.recipients));
  });

  it('may be opened by a passphrase alone', async () => {
    const passphrase = 'a passphrase of some length';
    await good(server.current.api('POST', '/api/keys', { passphrase }));
    const backup = await backUp(server.current, { type: 'database' });
    expect((await verifyWith(backup.id, {})).status).toBe(422);
    expect((await verifyWith(backup.id, { passphrase: 'another one entirely' })).status).toBe(422);
    const { id } = await good(verifyWith(backup.id, { passphrase }));
    expect(await ended(server.current, id)).toMatchObject({ status: 'completed', provenLevel: 2 });
  });

  it('of a source go before those of its organization', async () => {
    await good(server.current.api('PUT', '/api/sources/shop', { recipients: [operator.recipient] }));
    const { id } = await backUp(server.current, { type: 'database' });
    const row = await server.current.foundation.catalog.db
      .selectFrom('backups')
      .select('recipients')
      .where('id', '=', id)
      .executeTakeFirst();
    expect(row?.recipients).toEqual([operator.recipient]);
  });
});
