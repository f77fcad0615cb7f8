import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ArchiveInspector } from '../../src/engine/archive/archive-inspector.js';
import type { ArchiveSummary, ArchiveTable } from '../../src/engine/archive/archive-reader.js';
import { readToc, writeHeaderOnlyArchive } from '../../src/engine/archive/header-only.js';
import { chooseClientPrograms, type ClientPrograms, findClientPrograms } from '../../src/engine/postgres/client-programs.js';
import { pgEnvironment } from '../../src/engine/postgres/environment.js';
import { startProgram } from '../../src/engine/postgres/run-program.js';
import { usePostgres } from '../support/postgres.js';

const SAMPLE = `
  CREATE SCHEMA "odd ""schema""";
  CREATE TABLE public.users (id bigint PRIMARY KEY, name text, doubled bigint GENERATED ALWAYS AS (id * 2) STORED, photo bytea);
  INSERT INTO public.users (id, name, photo) SELECT i, CASE WHEN i % 3 = 0 THEN NULL ELSE 'line' || chr(10) || 'tab' || chr(9) || '\\.' || i END,
    decode(md5(i::text), 'hex') FROM generate_series(1, 20000) i;
  CREATE TABLE public.empty (id int);
  CREATE TABLE public.nothing ();
  INSERT INTO public.nothing SELECT FROM generate_series(1, 7);
  CREATE TABLE public.wide (body text);
  INSERT INTO public.wide SELECT repeat(md5(i::text), i * 4000) FROM generate_series(1, 12) i;
  CREATE TABLE "odd ""schema"""."a""b;--" ("x, y" int, "(" text, "Ünï" text);
  INSERT INTO "odd ""schema"""."a""b;--" VALUES (1, E'\\n\\n', 'é'), (2, '\\.', NULL), (3, '', '日本');
  CREATE TABLE public.${'n'.repeat(63)} (v int REFERENCES public.users);
  INSERT INTO public.${'n'.repeat(63)} SELECT i FROM generate_series(1, 100) i;
  CREATE TABLE public.events (at date, note text) PARTITION BY RANGE (at);
  CREATE TABLE public.events_2024 PARTITION OF public.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
  CREATE TABLE public.events_2025 PARTITION OF public.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
  INSERT INTO public.events SELECT date '2024-06-01' + i, 'event ' || i FROM generate_series(1, 500) i;
  CREATE SEQUENCE public.counter; SELECT nextval('public.counter');
  CREATE MATERIALIZED VIEW public.summary AS SELECT count(*) FROM public.users;
  SELECT lo_from_bytea(i, decode(repeat(md5(i::text), (i - 20000) * 5), 'hex')) FROM generate_series(20001, 20120) i;
  SELECT lo_create(4000000000);
`;

describe('the inventory of an archive that pg_dump made', () => {
  const postgres = usePostgres();
  let programs: ClientPrograms;
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'backstay-archive-'));
    programs = chooseClientPrograms(await findClientPrograms({ binDirs: [] }), postgres.current.cluster.major);
    await postgres.current.createDatabase('shop');
    await postgres.current.exec('shop', SAMPLE);
  });
  afterAll(() => rm(folder, { recursive: true }));

  function environment(database: string): Record<string, string> {
    return pgEnvironment(postgres.current.connection(database), { applicationName: 'test' });
  }

  async function run(program: string, args: readonly string[], database: string, input?: Readable): Promise<Buffer> {
    const running = startProgram(program, args, { env: environment(database), stdin: input ? 'pipe' : 'ignore' });
    const [output] = await Promise.all([
      buffer(running.stdout),
      input && running.stdin ? pipeline(input, running.stdin) : undefined,
      running.done,
    ]);
    return output;
  }

  /** What the database holds, by way of a dump through a pipe, or through a file where pg_dump can go back to note places. */
  async function inspect(database: string, file?: string): Promise<{ summary: ArchiveSummary; archive: Buffer }> {
    const inspector = new ArchiveInspector();
    const args = ['--format=custom', '--compress=0'];
    if (file) {
      await run(programs.pgDump, [...args, `--file=${file}`], database);
      const [archive] = await Promise.all([buffer(inspector), pipeline(createReadStream(file), inspector)]);
      return { summary: inspector.summary(), archive };
    }
    const dump = startProgram(programs.pgDump, args, { env: environment(database) });
    const [archive] = await Promise.all([buffer(inspector), pipeline(dump.stdout, inspector), dump.done]);
    return { summary: inspector.summary(), archive };
  }

  /** Rows and hash of a table as `COPY … TO STDOUT` gives them now. */
  async function copied(database: string, table: ArchiveTable): Promise<Pick<ArchiveTable, 'rows' | 'bytes' | 'sha256'>> {
    const copy = table.copyStmt.replace(' FROM stdin;', ' TO STDOUT');
    const bytes = await run(programs.psql ?? 'psql', ['--no-psqlrc', '--quiet', `--command=${copy}`], database);
    const counted = copy.replace(/^COPY (.*?)(?: \(.*)? TO STDOUT\n$/s, 'SELECT count(*)::int AS rows FROM $1');
    const [count] = await postgres.current.query(database, counted);
    return { rows: Number(count?.rows), bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  }

  async function expectToEqualCopies(database: string, { tables }: ArchiveSummary): Promise<void> {
    for (const table of tables) expect(table).toMatchObject(await copied(database, table));
  }

  it('has the rows and hashes that count(*) and COPY give', async () => {
    const { summary } = await inspect('shop');
    expect(summary.tables.map(({ name, rows }) => [name, rows]).sort()).toEqual([
      ['a"b;--', 3],
      ['empty', 0],
      ['events_2024', 213],
      ['events_2025', 287],
      ['n'.repeat(63), 100],
      ['nothing', 7],
      ['users', 20_000],
      ['wide', 12],
    ]);
    await expectToEqualCopies('shop', summary);
    expect(summary.tables.find(({ name }) => name === 'a"b;--')).toMatchObject({
      schema: 'odd "schema"',
      columns: ['x, y', '(', 'Ünï'],
    });
    expect(summary.toc).toMatchObject({
      databaseName: 'shop',
      serverVersion: expect.stringContaining(postgres.current.cluster.version),
    });
  });

  it('has the hash of the large objects that SQL gives', async () => {
    const { summary } = await inspect('shop');
    const [expected] = await postgres.current.query(
      'shop',
      `SELECT count(*)::int AS count, sum(length(content))::int AS bytes,
          encode(sha256(string_agg(substring(int8send(oid::bigint) FROM 5) || int8send(length(content)) || sha256(content), '' ORDER BY oid)), 'hex') AS sha256
        FROM (SELECT oid, lo_get(oid) AS content FROM pg_largeobject_metadata) AS object`,
    );
    expect(summary.largeObjects).toEqual(expected);
    expect(summary.largeObjects?.count).toBe(121);
  });

  it('is the same when pg_dump writes a file and notes where its blocks are', async () => {
    const piped = await inspect('shop');
    const filed = await inspect('shop', join(folder, 'shop.dump'));
    expect(filed.summary.tables).toEqual(piped.summary.tables);
    expect(filed.summary.largeObjects).toEqual(piped.summary.largeObjects);
    const offsets = filed.summary.toc.entries.filter((entry) => entry.hadDumper).map((entry) => entry.dataOffset);
    expect(offsets).not.toContain(null);
  });

  it('is the same after a restore that has only the header on disk and streams the data', async () => {
    const { summary, archive } = await inspect('shop');
    const path = join(folder, 'header.dump');
    await writeHeaderOnlyArchive(inChunks(archive), path);
    expect((await run(programs.pgRestore, ['--list', path], 'postgres')).toString()).toContain('TABLE DATA public users');
    await postgres.current.createDatabase('copy');
    const restore = ['--exit-on-error', '--dbname=copy'];
    await run(programs.pgRestore, [...restore, '--section=pre-data', path], 'copy');
    await run(programs.pgRestore, [...restore, '--section=data'], 'copy', inChunks(archive));
    await run(programs.pgRestore, [...restore, '--section=post-data', path], 'copy');
    const restored = (await inspect('copy')).summary;
    expect(inventory(restored)).toEqual(inventory(summary));
    expect(restored.largeObjects).toEqual(summary.largeObjects);
    await expectToEqualCopies('copy', summary);
  });

  it('reads names and hashes rows of a database in LATIN1', async () => {
    await postgres.current.createDatabase('latin', "ENCODING 'LATIN1' LOCALE 'C'");
    await postgres.current.exec('latin', `CREATE TABLE public."Ünï" ("é" text); INSERT INTO public."Ünï" VALUES ('ß'), ('ÿ')`);
    const { summary } = await inspect('latin');
    const rows = createHash('sha256').update(Buffer.from('ß\nÿ\n', 'latin1')).digest('hex');
    expect(summary.tables).toMatchObject([{ name: 'Ünï', columns: ['é'], rows: 2, bytes: 4, sha256: rows }]);
  });

  it('stops pg_dump when only the table of contents is wanted', async () => {
    const dump = startProgram(programs.pgDump, ['--format=custom', '--compress=0'], { env: environment('shop') });
    const { toc, header } = await readToc(dump.stdout);
    expect(toc.entries.some(({ desc, tag }) => desc === 'MATERIALIZED VIEW' && tag === 'summary')).toBe(true);
    expect(header.length).toBeGreaterThan(1000);
    await expect(dump.done).rejects.toMatchObject({ stopped: true });
  });
});

function inventory({ tables }: ArchiveSummary): string[] {
  return tables.map(({ schema, name, rows, bytes, sha256 }) => JSON.stringify({ schema, name, rows, bytes, sha256 })).sort();
}

function inChunks(archive: Buffer): Readable {
  const chunks = Array.from({ length: Math.ceil(archive.length / 65_536) }, (_, index) =>
    archive.subarray(index * 65_536, (index + 1) * 65_536),
  );
  return Readable.from(chunks);
}
