import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { stopBeforePostgres, usePostgres } from '../support/postgres.js';
import { good } from '../support/runs.js';
import { send, urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';

/** `npm run torture` sets it: so many kills instead of the few usual ones. */
const ROUNDS = Number(process.env['AUDIT_KILLS'] ?? 2);
const WRITERS = 6;
/** Writes that are answered before one of the servers is killed; the others are in the middle of something then. */
const BEFORE_KILL = 40;

jest.setTimeout(120_000 + ROUNDS * 30_000);

const postgres = usePostgres();
const servers: ServerProcess[] = [];
let folder: string;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'backstay-audit-'));
  await postgres.current.createDatabase('catalog');
  env = {
    DATABASE_URL: urlOf(postgres.current.connection('catalog')),
    SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
    ROLE: 'api',
  };
  stopBeforePostgres(stop);
  servers.push(await ServerProcess.start(folder, env), await ServerProcess.start(folder, env));
});
afterAll(async () => {
  await stop();
  await rm(folder, { recursive: true, force: true });
});

async function stop(): Promise<void> {
  await Promise.all(servers.splice(0).map((server) => server.end()));
}

interface Line {
  seq: number;
  action: string;
  resource: { id: string };
}

describe('an audit trail that two servers write to at once, one of them being killed', () => {
  it('is one whole chain without a gap, and has every write that was answered, once', async () => {
    const answered: string[] = [];
    let cutOff = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const [survivor, victim] = servers as [ServerProcess, ServerProcess];
      const goal = answered.length + BEFORE_KILL;
      let isOver = false;
      const write = async (server: ServerProcess, writer: number) => {
        for (let n = 0; !isOver; n += 1) {
          const body = { name: `k-${round}-${writer}-${n}`, permissions: ['backup:read'] };
          const answer = await server.api<{ id: string }>('POST', '/api/auth/api-keys', body).catch(() => undefined);
          if (answer?.status === 200) answered.push(answer.body.data.id);
          else if (server === victim) return void (cutOff += 1);
          if (answered.length >= goal && !isOver) {
            isOver = true;
            await victim.end('SIGKILL');
          }
        }
      };
      await Promise.all(Array.from({ length: WRITERS * 2 }, (_, i) => write(i % 2 === 0 ? survivor : victim, i)));
      servers[1] = await ServerProcess.start(folder, env);

      // The export writes an entry about itself first, and holds it.
      const exported = await send(survivor.url, 'GET', '/api/audit/export');
      const lines = exported.bytes
        .toString()
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Line);
      const check = await good(survivor.api('GET', '/api/audit/check'));
      expect(check).toMatchObject({ intact: true, entries: lines.length });
      expect(lines.map(({ seq }) => seq)).toEqual(lines.map((_, i) => i + 1));
      const written = lines.filter(({ action }) => action === 'api-key.created').map(({ resource }) => resource.id);
      expect(new Set(written).size).toBe(written.length);
      expect(answered.filter((id) => !written.includes(id))).toEqual([]);
      // What was cut off is there with its entry, or neither is.
      const keys = await postgres.current.query<{ id: string }>(
        'catalog',
        'SELECT id FROM backstay.api_keys WHERE NOT is_bootstrap',
      );
      expect(keys.map(({ id }) => id).sort()).toEqual([...written].sort());
    }
    expect(cutOff).toBeGreaterThan(0);
  });
});
