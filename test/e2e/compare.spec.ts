import { beforeAll, describe, expect, it } from '@jest/globals';
import type { ComparisonDto } from '../../src/comparisons/comparison.dto.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, good, type Run } from '../support/runs.js';
import { urlOf, useServer } from '../support/server.js';

const SECRET = 'canary-of-a-mapping';
const CHANGED_SECRET = 'canary-after-rotation';

const postgres = usePostgres();
const server = useServer();

let before: Run;
let after: Run;
const compare = (base: string, head: string) =>
  server.current.api<ComparisonDto>('GET', `/api/backups/compare?base=${base}&head=${head}`);
const objectsOf = (comparison: ComparisonDto) =>
  (comparison.schema?.objects ?? []).map(({ change, kind, schema, name }) => `${change} ${kind} ${schema ?? '-'} ${name}`);

beforeAll(async () => {
  const database = await postgres.current.createDatabase('shop');
  await postgres.current.exec('postgres', 'CREATE ROLE keeper; CREATE ROLE guest');
  await postgres.current.exec(
    database,
    `CREATE TABLE kept (id int PRIMARY KEY, note text);
     INSERT INTO kept SELECT n, 'note ' || n FROM generate_series(1, 100) n;
     CREATE TABLE same AS SELECT n FROM generate_series(1, 10) n;
     CREATE TABLE "gone; a""way" AS SELECT 1 AS n;
     CREATE TABLE owned (id int);
     CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.kept';
     CREATE EXTENSION postgres_fdw;
     CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'far.example');
     CREATE USER MAPPING FOR keeper SERVER far OPTIONS (user 'reader', password '${SECRET}')`,
  );
  await good(server.current.api('POST', '/api/sources', { name: 'shop', url: urlOf(postgres.current.connection(database)) }));
  before = await backUp(server.current);
  await postgres.current.exec(
    database,
    `DROP TABLE "gone; a""way";
     CREATE TABLE "new Ünï" AS SELECT n FROM generate_series(1, 7) n;
     DELETE FROM kept WHERE id > 60;
     ALTER TABLE owned OWNER TO keeper;
     CREATE INDEX kept_note ON kept (note);
     ALTER TABLE kept ENABLE ROW LEVEL SECURITY;
     CREATE POLICY mine ON kept USING (id > 0);
     GRANT SELECT ON kept TO guest;
     CREATE OR REPLACE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) + 1 FROM public.kept';
     ALTER USER MAPPING FOR keeper SERVER far OPTIONS (SET password '${CHANGED_SECRET}');
     ALTER DATABASE shop SET statement_timeout = '5min';
     CREATE ROLE newcomer; GRANT keeper TO newcomer;
     DROP EXTENSION IF EXISTS pgcrypto`,
  );
  after = await backUp(server.current);
});

describe('a comparison of two backups', () => {
  it('tells tables that came, went and changed, with their rows and bytes', async () => {
    const comparison = await good(compare(before.id, after.id));
    expect(comparison.tables).toEqual({
      added: [
        {
          schema: 'public',
          name: 'new Ünï',
          baseRows: null,
          headRows: 7,
          rowDelta: 7,
          baseBytes: null,
          headBytes: 14,
          byteDelta: 14,
        },
      ],
      removed: [expect.objectContaining({ name: 'gone; a"way', baseRows: 1, headRows: null, rowDelta: -1, byteDelta: -2 })],
      changed: [expect.objectContaining({ schema: 'public', name: 'kept', baseRows: 100, headRows: 60, rowDelta: -40 })],
      unchanged: 2,
    });
    expect(comparison).toMatchObject({ equal: false, rowDelta: -34, base: { id: before.id }, head: { id: after.id }, notes: [] });
    expect(comparison.byteDelta).toBe(comparison.tables.changed[0]!.byteDelta + 12);
  });

  it('lists every object of the schema that differs, and nothing else', async () => {
    expect(objectsOf(await good(compare(before.id, after.id)))).toEqual([
      'changed USER MAPPING - USER MAPPING keeper SERVER far',
      'added ACL public TABLE kept',
      'changed FUNCTION public total()',
      'added INDEX public kept_note',
      'added POLICY public kept mine',
      'added ROW SECURITY public kept',
      'removed TABLE public gone; a"way',
      'added TABLE public new Ünï',
      'changed TABLE public owned',
    ]);
  });

  it('shows the difference as text, without the passwords in it', async () => {
    const { body, bytes } = await compare(before.id, after.id);
    const { text, truncated } = body.data.schema!;
    expect(truncated).toBe(false);
    expect(text).toMatch(/^-.*SELECT count\(\*\) FROM public\.kept/m);
    expect(text).toMatch(/^\+.*SELECT count\(\*\) \+ 1 FROM public\.kept/m);
    expect(text).toMatch(
      /^--- TABLE public\.owned\n\+\+\+ TABLE public\.owned\n@@.*\n-\/\* owner: .* \*\/\n\+\/\* owner: keeper \*\/$/m,
    );
    expect(text).toMatch(/USER MAPPING.*\n.* a secret in it differs/);
    expect(bytes.toString()).not.toContain(SECRET);
    expect(bytes.toString()).not.toContain(CHANGED_SECRET);
  });

  it('tells settings and roles that differ', async () => {
    const { settings, roles } = await good(compare(before.id, after.id));
    expect(settings).toEqual([{ scope: 'database', name: 'statement_timeout', role: null, base: null, head: '5min' }]);
    expect(roles?.every(({ change }) => change === 'added')).toBe(true);
    expect(roles?.map(({ statement }) => statement)).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^CREATE ROLE newcomer/),
        expect.stringMatching(/^GRANT keeper TO newcomer/),
      ]),
    );
  });

  it('finds nothing between a backup and itself, and the contrary the other way round', async () => {
    expect(await good(compare(before.id, before.id))).toMatchObject({
      equal: true,
      rowDelta: 0,
      tables: { added: [], removed: [], changed: [], unchanged: 4 },
      schema: { objects: [], text: '' },
      settings: [],
      roles: [],
    });
    const back = await good(compare(after.id, before.id));
    expect(back.rowDelta).toBe(34);
    expect(back.notes).toEqual([expect.stringMatching(/newer of the two/)]);
  });

  it('says that the schemas were not compared where one of the two is of type config', async () => {
    const config = await backUp(server.current, { type: 'config' });
    const comparison = await good(compare(after.id, config.id));
    expect(comparison).toMatchObject({ schema: null, settings: expect.any(Array), roles: [] });
    expect(comparison.notes).toEqual([expect.stringMatching(/holds no database/)]);
  });

  it('refuses what is no completed backup of the organization', async () => {
    const stranger = await server.current.createOrganization('strangers');
    const path = `/api/backups/compare?base=${before.id}&head=${after.id}`;
    expect((await server.current.api('GET', path, undefined, stranger.key)).status).toBe(404);
    expect((await compare('..', after.id)).status).toBe(400);
    expect((await server.current.api('GET', `/api/backups/compare?base=${before.id}`)).body.fields).toHaveProperty('head');
    expect((await compare(before.id, 'backup_2020-01-01_00-00-00_aaaaaa')).status).toBe(404);
  });
});
