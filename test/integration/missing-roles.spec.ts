import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { rolesOf, withoutRoles } from '../../src/engine/archive/archive-roles.js';
import { readToc } from '../../src/engine/archive/header-only.js';
import { rewriteHeader } from '../../src/engine/archive/header-writer.js';
import type { RoleChange } from '../../src/engine/archive/role-changes.js';
import { chooseClientPrograms, type ClientPrograms, findClientPrograms } from '../../src/engine/postgres/client-programs.js';
import { pgEnvironment } from '../../src/engine/postgres/environment.js';
import { startProgram } from '../../src/engine/postgres/run-program.js';
import { type TestPostgres, usePostgres } from '../support/postgres.js';
import { foundPolicies, foundRights, type Right } from '../support/rights.js';

const EVERYWHERE = ['keeper', 'app', 'K; TO "x"'];
const MISSING = ['a"b;--', 'Ünï rôle', 'gone', 'new\nline'];

const SAMPLE = `
  CREATE SCHEMA "s TO gone" AUTHORIZATION gone;
  CREATE SCHEMA s AUTHORIZATION keeper;
  GRANT USAGE ON SCHEMA s TO PUBLIC;
  GRANT ALL ON SCHEMA s TO "Ünï rôle";

  CREATE TABLE s.users (id int PRIMARY KEY, "a ""col; TO gone" text, name text);
  INSERT INTO s.users VALUES (1, 'x', 'ann'), (2, NULL, 'bob');
  ALTER TABLE s.users OWNER TO "a""b;--";
  CREATE INDEX ON s.users (name);
  GRANT SELECT, INSERT ON s.users TO app, "Ünï rôle";
  GRANT SELECT ON s.users TO PUBLIC;
  GRANT UPDATE, DELETE ON s.users TO keeper WITH GRANT OPTION;
  GRANT SELECT ("a ""col; TO gone"), UPDATE (name) ON s.users TO "K; TO ""x""", gone;
  GRANT REFERENCES (id) ON s.users TO app WITH GRANT OPTION;
  SET SESSION AUTHORIZATION keeper;
  GRANT UPDATE ON s.users TO app, "new\nline" WITH GRANT OPTION;
  GRANT DELETE ON s.users TO "a""b;--", "K; TO ""x""";
  RESET SESSION AUTHORIZATION;

  CREATE TABLE public.orders (id int);
  ALTER TABLE public.orders OWNER TO keeper;
  GRANT SELECT ON public.orders TO gone WITH GRANT OPTION;
  GRANT INSERT ON public.orders TO gone;
  SET SESSION AUTHORIZATION gone;
  GRANT SELECT ON public.orders TO app WITH GRANT OPTION;
  SET SESSION AUTHORIZATION app;
  GRANT SELECT ON public.orders TO "K; TO ""x""";
  GRANT SELECT (id) ON public.orders TO "Ünï rôle";
  RESET SESSION AUTHORIZATION;

  CREATE FUNCTION s.f(a int DEFAULT 1, b text DEFAULT 'x; TO gone') RETURNS int LANGUAGE sql AS $$ SELECT 1; $$;
  ALTER FUNCTION s.f OWNER TO gone;
  REVOKE ALL ON FUNCTION s.f FROM PUBLIC;
  GRANT EXECUTE ON FUNCTION s.f TO app WITH GRANT OPTION;
  GRANT EXECUTE ON FUNCTION s.f TO "Ünï rôle";
  CREATE PROCEDURE s.p() LANGUAGE sql AS 'SELECT 1';
  GRANT EXECUTE ON PROCEDURE s.p TO "new\nline";
  CREATE AGGREGATE s.total (int) (SFUNC = int4pl, STYPE = int);
  ALTER AGGREGATE s.total (int) OWNER TO "Ünï rôle";
  CREATE OPERATOR s.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
  ALTER OPERATOR s.=== (int, int) OWNER TO gone;
  CREATE SEQUENCE s.counter;
  GRANT USAGE ON SEQUENCE s.counter TO app, gone;
  CREATE TYPE s."mood TO gone" AS ENUM ('ok');
  REVOKE ALL ON TYPE s."mood TO gone" FROM PUBLIC;
  GRANT USAGE ON TYPE s."mood TO gone" TO gone, app;
  CREATE DOMAIN s.short AS text CHECK (length(VALUE) < 9);
  ALTER DOMAIN s.short OWNER TO gone;
  CREATE VIEW s.names AS SELECT name FROM s.users;
  ALTER VIEW s.names OWNER TO "Ünï rôle";
  CREATE MATERIALIZED VIEW s.counted AS SELECT 1 AS one;
  ALTER MATERIALIZED VIEW s.counted OWNER TO gone;
  CREATE PUBLICATION changes FOR TABLE public.orders;
  ALTER PUBLICATION changes OWNER TO gone;

  SELECT lo_from_bytea(70001, 'photo'), lo_from_bytea(70002, 'sound');
  ALTER LARGE OBJECT 70001 OWNER TO gone;
  GRANT SELECT ON LARGE OBJECT 70001, 70002 TO app, "a""b;--";

  ALTER DEFAULT PRIVILEGES FOR ROLE keeper IN SCHEMA s GRANT SELECT ON TABLES TO app, "a""b;--";
  ALTER DEFAULT PRIVILEGES FOR ROLE keeper GRANT USAGE ON SEQUENCES TO app WITH GRANT OPTION;
  ALTER DEFAULT PRIVILEGES FOR ROLE keeper REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
  ALTER DEFAULT PRIVILEGES FOR ROLE "a""b;--" GRANT ALL ON TABLES TO app;

  ALTER TABLE s.users ENABLE ROW LEVEL SECURITY;
  CREATE POLICY shared ON s.users FOR SELECT TO gone, app, "a""b;--", "K; TO ""x""" USING (name = ' TO gone USING (');
  CREATE POLICY "only TO app" ON s.users AS RESTRICTIVE FOR SELECT TO "a""b;--", gone USING (name <> 'x');
  COMMENT ON POLICY "only TO app" ON s.users IS 'goes with it';
  CREATE POLICY everyone ON s.users USING (true) WITH CHECK (name <> 'a;b');
  COMMENT ON POLICY everyone ON s.users IS 'stays';

  CREATE FOREIGN DATA WRAPPER wrapper;
  CREATE SERVER "srv; TO x" FOREIGN DATA WRAPPER wrapper OPTIONS (host 'h;x');
  ALTER SERVER "srv; TO x" OWNER TO keeper;
  GRANT USAGE ON FOREIGN SERVER "srv; TO x" TO app, gone;
  CREATE USER MAPPING FOR "a""b;--" SERVER "srv; TO x" OPTIONS (password 'it''s; SERVER');
  CREATE USER MAPPING FOR app SERVER "srv; TO x" OPTIONS ("user" 'gone');
  CREATE USER MAPPING FOR PUBLIC SERVER "srv; TO x";
`;

describe('restoring where some roles of the archive are missing', () => {
  const source = usePostgres();
  const target = usePostgres();
  let programs: ClientPrograms;
  let folder: string;
  let archive: Buffer;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'backstay-roles-'));
    programs = chooseClientPrograms(await findClientPrograms({ binDirs: [] }), source.current.cluster.major);
    await createRoles(source.current, [...EVERYWHERE, ...MISSING]);
    await createRoles(target.current, EVERYWHERE);
    await source.current.createDatabase('shop');
    await source.current.exec('shop', SAMPLE);
    archive = await dump('shop');
  });
  afterAll(() => rm(folder, { recursive: true }));

  function dump(database: string, ...args: string[]): Promise<Buffer> {
    return run(source.current, programs.pgDump, ['--format=custom', '--compress=0', ...args], database);
  }

  function restore(database: string, args: string[], input?: Buffer): Promise<Buffer> {
    return run(target.current, programs.pgRestore, ['--exit-on-error', `--dbname=${database}`, ...args], database, input);
  }

  /** The archive for the roles that the target's database sees, as a restore would make it. */
  async function adapt(
    whole: Buffer,
    database = 'postgres',
  ): Promise<{ header: Buffer; adapted: Buffer; changes: RoleChange[] }> {
    const { header, toc } = await readToc(inChunks(whole));
    const roles = await target.current.query<{ rolname: string }>(database, 'SELECT rolname FROM pg_roles');
    const existing = new Set(roles.map(({ rolname }) => rolname));
    const missing = new Set([...rolesOf(toc)].filter((role) => !existing.has(role)));
    const result = withoutRoles(header, toc, missing);
    return { ...result, adapted: Buffer.concat([result.header, whole.subarray(header.length)]) };
  }

  async function expectSameRights(database: string): Promise<void> {
    const rights = (await foundRights(target.current, database)).sort(byText);
    const right = {
      object: 's.users',
      owner: 'postgres',
      grantee: 'app',
      grantor: 'keeper',
      privilege: 'UPDATE',
      grantable: true,
    };
    expect(rights).toContainEqual(right);
    const order = { object: 'orders', owner: 'keeper', privilege: 'SELECT' };
    expect(rights).toContainEqual({ ...order, grantee: 'app', grantor: 'keeper', grantable: true });
    expect(rights).toContainEqual({ ...order, grantee: 'K; TO "x"', grantor: 'app', grantable: false });
    expect(rights).toEqual(withoutMissing(await foundRights(source.current, 'shop')));
    expect(await foundPolicies(target.current, database)).toEqual([
      {
        name: 'everyone',
        permissive: 'PERMISSIVE',
        roles: ['public'],
        using: 'true',
        check: expect.any(String),
        comment: 'stays',
      },
      {
        name: 'shared',
        permissive: 'PERMISSIVE',
        roles: ['K; TO "x"', 'app'],
        using: expect.any(String),
        check: null,
        comment: null,
      },
    ]);
    const mappings = await target.current.query(database, 'SELECT usename FROM pg_user_mappings ORDER BY 1');
    expect(mappings.map(({ usename }) => String(usename))).toEqual(['app', 'public']);
    const [content] = await target.current.query(
      database,
      'SELECT (SELECT count(*)::int FROM s.users) AS users, lo_get(70001) AS photo, lo_get(70002) AS sound',
    );
    expect(content).toEqual({ users: 2, photo: Buffer.from('photo'), sound: Buffer.from('sound') });
  }

  it('needs every role of the source', async () => {
    const { toc } = await readToc(inChunks(archive));
    expect([...rolesOf(toc)].filter((role) => !role.startsWith('pg_')).sort()).toEqual(
      [...EVERYWHERE, ...MISSING, 'postgres'].sort(),
    );
  });

  it('is not possible with the archive as it is', async () => {
    await target.current.createDatabase('refused');
    await expect(restore('refused', [], archive)).rejects.toMatchObject({
      stderr: expect.stringMatching(/role ".*" does not exist/s),
    });
  });

  it('succeeds with another header, and keeps the rights of the roles that exist', async () => {
    const { adapted, changes } = await adapt(archive);
    await target.current.createDatabase('streamed');
    await restore('streamed', [], adapted);
    await expectSameRights('streamed');
    expect(new Set(changes.map(({ kind }) => kind))).toEqual(
      new Set(['owner', 'grant', 'grantor', 'policy', 'default-privilege', 'user-mapping']),
    );
    expect(changes).toEqual(
      expect.arrayContaining([
        { kind: 'owner', object: 'TABLE s.users', role: 'a"b;--' },
        { kind: 'grant', object: 'TABLE s.users', role: 'new\nline' },
        { kind: 'grantor', object: 'TABLE public.orders', role: 'gone' },
        { kind: 'policy', object: 'POLICY shared ON s.users', role: 'gone' },
        { kind: 'policy', object: 'RESTRICTIVE POLICY "only TO app" ON s.users', role: 'gone', dropped: true },
        { kind: 'user-mapping', object: 'SERVER "srv; TO x"', role: 'a"b;--' },
      ]),
    );
  });

  it('lists an owner for each object that belongs to another now, and no more', async () => {
    const { changes } = await adapt(archive);
    const owners = changes.filter(({ kind }) => kind === 'owner').map(({ object }) => object);
    expect(owners.sort()).toEqual([
      'AGGREGATE s.total(integer)',
      expect.stringMatching(/^BLOB.*70001/),
      'DOMAIN s.short',
      'FUNCTION s.f(integer, text)',
      'MATERIALIZED VIEW s.counted',
      'OPERATOR s.===',
      'PUBLICATION changes',
      'SCHEMA s TO gone',
      'TABLE s.users',
      'VIEW s.names',
    ]);
  });

  it('succeeds section by section, with a file of the header alone before and after the data', async () => {
    const { header, adapted } = await adapt(archive);
    const path = join(folder, 'header.dump');
    await writeFile(path, header, { mode: 0o600 });
    await target.current.createDatabase('sections');
    await restore('sections', ['--section=pre-data', path]);
    await restore('sections', ['--section=data'], adapted);
    await restore('sections', ['--section=post-data', path]);
    await expectSameRights('sections');
  });

  it('succeeds with parallel jobs, which look for the data where the header says it is', async () => {
    const path = join(folder, 'whole.dump');
    await dump('shop', `--file=${path}`);
    const { adapted } = await adapt(await readFile(path));
    await writeFile(path, adapted);
    await target.current.createDatabase('parallel');
    await restore('parallel', ['--jobs=2', path]);
    await expectSameRights('parallel');
  });

  it('succeeds with an archive in another encoding', async () => {
    await source.current.createDatabase('latin', "ENCODING 'LATIN1' LOCALE 'C'");
    // Names of roles are stored in the encoding of the session that makes them.
    await source.current.exec('latin', 'CREATE ROLE "élan"; CREATE ROLE "Ärger"');
    await source.current.exec(
      'latin',
      `CREATE TABLE "Ünï" (v text); INSERT INTO "Ünï" VALUES ('ß'); ALTER TABLE "Ünï" OWNER TO gone; GRANT SELECT ON "Ünï" TO "élan", app, "Ärger"`,
    );
    await target.current.createDatabase('latin', "ENCODING 'LATIN1' LOCALE 'C'");
    await target.current.exec('latin', 'CREATE ROLE "Ärger"');
    const { adapted, changes } = await adapt(await dump('latin'), 'latin');
    await restore('latin', [], adapted);
    const [row] = await target.current.query('latin', `SELECT v, relacl::text AS acl FROM "Ünï", pg_class WHERE relname = 'Ünï'`);
    const acl = /^\{postgres=\w+\/postgres,app=r\/postgres,"\\"Ärger\\"=r\/postgres"\}$/;
    expect(row).toEqual({ v: 'ß', acl: expect.stringMatching(acl) });
    expect(changes).toContainEqual({ kind: 'grant', object: 'TABLE public."Ünï"', role: 'élan' });
  });

  it('changes no byte of a header when nothing is to change', async () => {
    const { header } = await readToc(inChunks(archive));
    expect(rewriteHeader(header, () => undefined).equals(header)).toBe(true);
    expect(rewriteHeader(header, ({ owner, defn }) => ({ owner, defn })).equals(header)).toBe(true);
  });
});

/**
 * What is left of rights where roles are missing: what an owner had and gave, the restoring role has and gives; what others
 * gave who are missing, the owner gives; all else of missing roles is gone.
 */
function withoutMissing(rights: Right[]): Right[] {
  return rights
    .map((right) => {
      if (right.object.startsWith('default ')) return right;
      const { grantee, grantor } = right;
      const owner = isMissing(right.owner) ? 'postgres' : right.owner;
      const byOwner = grantor === right.owner;
      return {
        ...right,
        owner,
        grantor: byOwner || isMissing(grantor) ? owner : grantor,
        grantee: byOwner && grantee === right.owner ? owner : grantee,
      };
    })
    .filter(({ owner, grantee, grantor }) => ![owner, grantee, grantor].some(isMissing))
    .sort(byText);
}

function isMissing(role: string): boolean {
  return MISSING.includes(role);
}

function byText(left: Right, right: Right): number {
  const [a, b] = [JSON.stringify(left), JSON.stringify(right)];
  return a < b ? -1 : Number(a > b);
}

async function run(postgres: TestPostgres, program: string, args: string[], database: string, input?: Buffer): Promise<Buffer> {
  const env = pgEnvironment(postgres.connection(database), { applicationName: 'test' });
  const running = startProgram(program, args, { env, stdin: input ? 'pipe' : 'ignore' });
  const [output] = await Promise.all([
    buffer(running.stdout),
    input && running.stdin ? pipeline(inChunks(input), running.stdin).catch(() => undefined) : undefined,
    running.done,
  ]);
  return output;
}

async function createRoles(postgres: TestPostgres, roles: readonly string[]): Promise<void> {
  for (const role of roles) await postgres.exec('postgres', `CREATE ROLE "${role.replaceAll('"', '""')}"`);
}

function inChunks(archive: Buffer): Readable {
  const chunks = Array.from({ length: Math.ceil(archive.length / 65_536) }, (_, index) =>
    archive.subarray(index * 65_536, (index + 1) * 65_536),
  );
  return Readable.from(chunks);
}
