import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile, spawnSync } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { BackupDto } from '../../src/backups/backup.dto.js';
import { chooseClientPrograms, findClientPrograms } from '../../src/engine/postgres/client-programs.js';
import { portray } from '../support/compare-databases.js';
import { type Block, blocksOf } from '../support/documented.js';
import { usePostgres } from '../support/postgres.js';
import { urlOf, useServer } from '../support/server.js';

const run = promisify(execFile);
const postgres = usePostgres();
const server = useServer();
const has = (program: string) => spawnSync(program, ['--version']).status === 0;
/** The document has one way with age and zstd, and one with Node.js alone; a machine need not have the first two. */
const itWithAge = has('age') && has('zstd') ? it : it.skip;

let backupFolder: string;
let blocks: Block[];
const folders: string[] = [];

beforeAll(async () => {
  await postgres.current.createSampleDatabase('shop');
  await server.current.api('POST', '/api/sources', { name: 'shop', url: urlOf(postgres.current.connection('shop')) });
  const backup = (await server.current.api<BackupDto>('POST', '/api/backups/create?wait=100', {})).body.data;
  expect(backup).toMatchObject({ status: 'completed' });
  const row = await server.current.foundation.catalog.db
    .selectFrom('backups')
    .select('prefix')
    .where('id', '=', backup.id)
    .executeTakeFirstOrThrow();
  backupFolder = join(server.current.dataDir, 'backups', row.prefix);
  blocks = (await blocksOf('RESTORE-BY-HAND.md')).filter(({ language }) => language === 'sh');
});

afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'backstay-by-hand-'));
  folders.push(folder);
  return folder;
}

/** The backup as it lies where the dump is too large for one object. */
async function inSegments(): Promise<string> {
  const copy = join(await newFolder(), 'backup');
  await cp(backupFolder, copy, { recursive: true });
  const dump = join(copy, 'database.dump.zst.age');
  const bytes = await readFile(dump);
  const size = Math.ceil(bytes.length / 3);
  for (const [i, name] of [dump, `${dump}.0002`, `${dump}.0003`].entries())
    await writeFile(name, bytes.subarray(i * size, (i + 1) * size));
  return copy;
}

/** Runs the document's commands from top to bottom in a folder of their own, with one of the two ways to open the files. */
async function follow(way: 'age' | 'node', target: string, backup = backupFolder): Promise<{ folder: string; output: string }> {
  const folder = await newFolder();
  await symlink(join(process.cwd(), 'node_modules'), join(folder, 'node_modules'));
  const { host, port, user, password = '' } = postgres.current.connection();
  const script = blocks
    .filter(({ tag }) => tag === '' || tag === way)
    .map(({ text }) => text)
    .join('\n');
  const { stdout, stderr } = await run('bash', ['--norc', '-c', script], {
    cwd: folder,
    maxBuffer: 16 * 1024 * 1024,
    env: {
      PATH: `${dirname(process.execPath)}${delimiter}${process.env['PATH']}`,
      BACKUP: backup,
      IDENTITY: join(server.current.dataDir, 'keys/age-identity.txt'),
      SIGNING_KEY: join(server.current.dataDir, 'keys/signing-key.pem'),
      TARGET: target,
      PGHOST: host,
      PGPORT: String(port),
      PGUSER: user,
      PGPASSWORD: password,
    },
  });
  return { folder, output: `${stdout}${stderr}` };
}

async function expectEqualCopy(target: string): Promise<void> {
  const programs = chooseClientPrograms(await findClientPrograms({ binDirs: [] }), postgres.current.cluster.major, {
    requirePatched: false,
  });
  const source = await portray(postgres.current.connection('shop'), programs);
  expect(source.tables.size).toBeGreaterThan(30);
  expect(await portray(postgres.current.connection(target), programs)).toEqual(source);
}

describe('docs/RESTORE-BY-HAND.md, followed from top to bottom', () => {
  itWithAge('gives a database that equals the source, with age and zstd', async () => {
    const { output } = await follow('age', 'by age');
    expect(output).toContain('Signature Verified Successfully');
    expect(output.match(/is as it was written/g)).toHaveLength(3);
    await expectEqualCopy('by age');
  });

  it('gives a database that equals the source, with Node.js alone, and where the dump lies in several objects', async () => {
    const { output, folder } = await follow('node', 'by node', await inSegments());
    expect(output.match(/is as it was written/g)).toHaveLength(3);
    expect(output).toMatch(/"totals": *\{/);
    expect(await readFile(join(folder, 'globals.sql'), 'utf8')).toContain('CREATE ROLE');
    await expectEqualCopy('by node');
  });

  it.each([
    ['manifest.json', /Signature Verification Failure/],
    ['database.dump.zst.age', /is not the one of the manifest/],
  ])('stops where %s is not what was written', async (name, words) => {
    const copy = join(await newFolder(), 'copy');
    await cp(backupFolder, copy, { recursive: true });
    const bytes = await readFile(join(copy, name));
    bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1);
    await writeFile(join(copy, name), bytes);
    const failure = await follow('node', 'never', copy).then(
      () => 'it went on',
      (error: { stdout: string; stderr: string }) => error.stdout + error.stderr,
    );
    expect(failure).toMatch(words);
    const made = await postgres.current.query('postgres', `SELECT FROM pg_database WHERE datname = 'never'`);
    expect(made).toEqual([]);
  });
});
