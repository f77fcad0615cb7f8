import { chown, chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openToEveryone } from '../../src/engine/postgres/server-programs.js';
import type { CertificateDto } from '../../src/verifications/verification.dto.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, good, type Run, verify } from '../support/runs.js';
import { urlOf } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';

/** `daemon`, which every Linux has: PostgreSQL wants a user that has a name, as that of the image has. */
const USER = { uid: 1, gid: 1 };
/** Only root can start it as another user, who must be able to read the program; who is not root runs every other test so. */
const may =
  process.getuid?.() === 0 && (await openToEveryone(process.execPath)) && (await openToEveryone(join(process.cwd(), 'dist')));

const SQL = `CREATE EXTENSION pg_trgm; CREATE TABLE items (id int PRIMARY KEY, body text NOT NULL);
  INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 200) n; CREATE INDEX ON items USING gin (body gin_trgm_ops);
  CREATE SEQUENCE counter; SELECT setval('counter', 42); SELECT lo_from_bytea(4711, 'content');
  ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON items TO reader USING (id > 5); GRANT SELECT ON items TO reader`;

(may ? describe : describe.skip)('a drill of a server that is not root, as in the image', () => {
  const postgres = usePostgres();
  let folder: string;
  let server: ServerProcess;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'du-'));
    await chmod(folder, 0o700);
    await chown(folder, USER.uid, USER.gid);
    await postgres.current.exec('postgres', 'CREATE ROLE reader; CREATE ROLE other');
    for (const [name, more] of [
      ['one', ''],
      ['several', 'ALTER TABLE items OWNER TO other'],
      [
        'strong',
        "CREATE FUNCTION t() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER watch ON sql_drop EXECUTE FUNCTION t(); CREATE EXTENSION pageinspect",
      ],
    ] as const) {
      await postgres.current.createDatabase(name);
      await postgres.current.exec(name, `${SQL}; ${more}`);
    }
    server = await ServerProcess.start(join(folder, 'data'), { TMPDIR: folder }, USER);
    for (const name of ['one', 'several', 'strong'])
      await good(server.api('POST', '/api/sources', { name, url: urlOf(postgres.current.connection(name)) }));
  });
  afterAll(async () => {
    await server?.end('SIGTERM');
    await rm(folder, { recursive: true, force: true });
  });

  const drill = async (source: string): Promise<Run & { drill: Record<string, unknown> }> => {
    const { id } = await verify(server, (await backUp(server, { source })).id, 4);
    const { certificate } = await good(server.api<CertificateDto>('GET', `/api/verifications/${id}/certificate`));
    const run = await good(server.api<Run>('GET', `/api/verifications/${id}`));
    return { ...run, drill: (certificate as { drill: Record<string, unknown> }).drill };
  };

  it('proves a database of one owner equal, as a role without rights, and leaves nothing', async () => {
    const run = await drill('one');
    expect({ status: run.status, error: run.error, level: run.provenLevel }).toEqual({
      status: 'completed',
      error: null,
      level: 4,
    });
    expect(run.drill).toMatchObject({ isolation: { ownUser: false, plainRole: true }, leftOut: [], tables: 1, rows: 200 });
    expect((await readdir(folder)).filter((name) => name.startsWith('backstay-'))).toEqual([]);
  });

  it.each([
    ['several', 3, /owners and rights of postgres/],
    [
      'strong',
      2,
      /Left out: the extension pageinspect \(.*\), what only a superuser may make \(EVENT TRIGGER watch\); nothing else depends on that/,
    ],
  ])('names what caps the proof of %s, and never calls it broken', async (source, level, why) => {
    const run = await drill(source);
    expect({ code: run.error?.code, level: run.provenLevel }).toEqual({ code: 'DRILL_IMPOSSIBLE', level });
    expect(run.error?.message).toMatch(why);
    expect(run.checks?.filter(({ ok }) => !ok)).toEqual([]);
  });
});
