import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { StagedBackup } from '../../src/engine/backup.js';
import { EngineError } from '../../src/engine/errors.js';
import { backupPrefix } from '../../src/engine/store/layout.js';
import { type Verification, verifyBackup } from '../../src/engine/verify.js';
import { EngineRuns } from '../support/engine-runs.js';
import { usePostgres } from '../support/postgres.js';
import { backUp, createRestore, ended, good, type Run, show, storedFiles, verify } from '../support/runs.js';
import { TestServer, urlOf } from '../support/server.js';

const FLIPS = 100;
const CUTS = 50;
/** One restore is tried for this many damages: it stops at the same checks. */
const RESTORE_EVERY = 10;
const SEED = 20_261_122;
/** What says that the backup is damaged, and not that something else is wrong. */
const DAMAGE = /^(?:OBJECT_MISSING|ARTIFACT_CORRUPT|ARCHIVE_CORRUPT|MANIFEST_CORRUPT|SIGNATURE_INVALID)$/;

const postgres = usePostgres();

beforeAll(async () => {
  await postgres.current.createDatabase('shop');
  await postgres.current.exec(
    'shop',
    `CREATE TABLE orders (id int PRIMARY KEY, body text);
     INSERT INTO orders SELECT n, md5(n::text) FROM generate_series(1, 3000) n;
     CREATE TABLE notes (id int)`,
  );
});

/** Numbers from 0 up to 1, the same ones at each run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One bit is another, near the end. */
function flipped(original: Buffer): Buffer {
  const bytes = Buffer.from(original);
  bytes[bytes.length - 40]! ^= 4;
  return bytes;
}

interface Damage {
  what: string;
  bytes: Buffer;
}

function* damages(original: Buffer): Generator<Damage> {
  const random = seeded(SEED);
  for (let index = 0; index < FLIPS; index += 1) {
    const position = Math.floor(random() * original.length);
    const bit = Math.floor(random() * 8);
    const bytes = Buffer.from(original);
    bytes[position]! ^= 1 << bit;
    yield { what: `bit ${bit} of byte ${position} of ${original.length}`, bytes };
  }
  for (let index = 0; index < CUTS; index += 1) {
    const length = index === 0 ? original.length - 1 : Math.floor(random() * original.length);
    yield { what: `cut to ${length} of ${original.length} bytes`, bytes: original.subarray(0, length) };
  }
  yield { what: 'a byte more', bytes: Buffer.concat([original, Buffer.of(0)]) };
}

describe('a stored backup', () => {
  let runs: EngineRuns;
  let older: StagedBackup;
  let backup: StagedBackup;

  beforeAll(async () => {
    runs = await EngineRuns.open();
    const full = { type: 'full', components: ['database', 'config'] } as const;
    older = await runs.backUp(postgres.current.connection('shop'), {}, full);
    backup = await runs.backUp(postgres.current.connection('shop'), {}, full);
  });
  afterAll(() => runs.close());

  const folderOf = (of: StagedBackup) => join(runs.folder, 'store', backupPrefix(of.ids));

  function look(level = 2): Promise<Verification> {
    return verifyBackup({
      ids: backup.ids,
      level,
      assertions: [],
      store: runs.store,
      verifyingKeys: [runs.signing.publicKeyPem],
      identities: [runs.age.identity],
      signal: new AbortController().signal,
      onProgress: () => undefined,
      runId: 'verification_1',
      programs: { binDirs: [], requirePatched: false },
    });
  }

  /** Tries to restore; gives the code of the refusal, and fails when anything was begun at the target. */
  async function refusal(): Promise<string> {
    let begun = false;
    const server = postgres.current.connection();
    const restoring = runs.restore(
      backup,
      { mode: 'new-database', server, database: 'damaged_copy' },
      { beforeChange: async () => void (begun = true) },
    );
    const code = await restoring.then(
      () => 'restored',
      (error: unknown) => (error instanceof EngineError ? error.code : String(error)),
    );
    return begun ? `${code}, after the target was touched` : code;
  }

  it('is proven to level 2 as it was written', async () => {
    expect(await look()).toMatchObject({ provenLevel: 2, failure: null });
  });

  it.each(['database.dump.zst.age', 'globals.sql.zst.age', 'config.tar.zst.age', 'manifest.json', 'manifest.json.sig'])(
    'is found damaged by any bit flipped and any byte cut in %s, and is not restored',
    async (name) => {
      const file = join(folderOf(backup), name);
      const original = await readFile(file);
      const unnoticed: string[] = [];
      let count = 0;
      try {
        for (const { what, bytes } of damages(original)) {
          await writeFile(file, bytes);
          const { failure } = await look().catch((error: unknown) => ({ failure: error as EngineError }));
          if (!DAMAGE.test(failure?.code ?? '')) unnoticed.push(`${what}: verified with ${failure?.code ?? 'success'}`);
          count += 1;
          if (count % RESTORE_EVERY !== 1) continue;
          const code = await refusal();
          if (!DAMAGE.test(code)) unnoticed.push(`${what}: ${code}`);
        }
      } finally {
        await writeFile(file, original);
      }
      expect(unnoticed).toEqual([]);
      expect(count).toBe(FLIPS + CUTS + 1);
      expect(await look()).toMatchObject({ provenLevel: 2, failure: null });
    },
  );

  it.each([['database.dump.zst.age'], ['globals.sql.zst.age'], ['config.tar.zst.age'], ['manifest.json', 'manifest.json.sig']])(
    'is found damaged, and is not restored, with %s of an older backup of the same source',
    async (...names) => {
      const kept = await mkdtemp(join(tmpdir(), 'damage-'));
      try {
        for (const name of names) {
          await copyFile(join(folderOf(backup), name), join(kept, name));
          await copyFile(join(folderOf(older), name), join(folderOf(backup), name));
        }
        expect((await look()).failure?.code).toMatch(DAMAGE);
        expect(await refusal()).toMatch(DAMAGE);
      } finally {
        for (const name of names) await copyFile(join(kept, name), join(folderOf(backup), name));
        await rm(kept, { recursive: true });
      }
      expect(await look()).toMatchObject({ provenLevel: 2, failure: null });
    },
  );

  it('that is exchanged after its check is not committed to an empty database', async () => {
    const database = await postgres.current.createDatabase('exchanged');
    const other = await runs.backUp(postgres.current.connection('shop'));
    const [stored, replacement] = [backup, other].map((of) => join(folderOf(of), 'database.dump.zst.age')) as [string, string];
    const original = await readFile(stored);
    try {
      const restoring = runs.restore(
        backup,
        { mode: 'url', connection: postgres.current.connection(database) },
        { beforeChange: () => copyFile(replacement, stored) },
      );
      await expect(restoring).rejects.toMatchObject({ code: expect.stringMatching(DAMAGE) });
    } finally {
      await writeFile(stored, original);
    }
    expect(await postgres.current.query(database, "SELECT 1 FROM pg_class WHERE relname IN ('orders', 'notes')")).toEqual([]);
  });

  it('leaves no database behind when it is not restored', async () => {
    const rows = await postgres.current.query(
      'postgres',
      "SELECT datname FROM pg_database WHERE datname ~ 'damaged_copy|^backstay'",
    );
    expect(rows).toEqual([]);
  });
});

describe('a damaged backup over HTTP', () => {
  let server: TestServer;
  let folder: string;
  let backup: Run;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'damage-server-'));
    const dataDir = join(folder, 'data');
    await mkdir(dataDir);
    server = await TestServer.start({ DATA_DIR: dataDir, SOURCE_DATABASE_URL: urlOf(postgres.current.connection('shop')) });
    backup = await backUp(server);
  });
  afterAll(async () => {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  async function fileOf(name: string): Promise<string> {
    const found = (await storedFiles(server.dataDir)).find((file) => file.endsWith(`${backup.id}/${name}`));
    if (found === undefined) throw new Error(`${name} is not stored`);
    return join(server.dataDir, 'backups', found);
  }

  const download = () => server.request('GET', `/api/backups/${backup.id}/download?form=decrypted`);

  it.each([
    ['database.dump.zst.age', 'flipped', flipped],
    ['database.dump.zst.age', 'cut', (bytes: Buffer) => bytes.subarray(0, -1)],
    ['manifest.json', 'flipped', flipped],
    ['manifest.json.sig', 'cut', (bytes: Buffer) => bytes.subarray(0, -1)],
  ])('with %s %s is called broken, is neither sent nor restored, and is whole again once mended', async (name, _, damage) => {
    const file = await fileOf(name);
    const original = await readFile(file);
    await writeFile(file, damage(original));

    expect(await verify(server, backup.id)).toMatchObject({ status: 'failed', error: { code: expect.stringMatching(DAMAGE) } });
    expect(await show(server, backup.id)).toMatchObject({ broken: true, brokenCause: expect.stringMatching(/\w+: .+\./) });
    const answer = await download();
    expect(answer.status).toBe(422);
    expect(answer.body).toMatchObject({ success: false, error: expect.stringMatching(/\.$/) });

    const asked = await server.api<Run>('POST', `/api/backups/${backup.id}/restore`, {
      target: { mode: 'new-database', database: 'never' },
    });
    if (asked.status === 200)
      expect(await ended(server, asked.body.data.id)).toMatchObject({
        status: 'failed',
        error: { code: expect.stringMatching(DAMAGE) },
      });
    else expect(asked.status).toBe(422);
    expect(await postgres.current.query('postgres', "SELECT 1 FROM pg_database WHERE datname ~ 'never|^backstay'")).toEqual([]);

    await writeFile(file, original);
    expect(await verify(server, backup.id)).toMatchObject({ status: 'completed', provenLevel: 2 });
    expect(await show(server, backup.id)).toMatchObject({ broken: false, brokenCause: null, proofLevel: 2 });
    expect((await download()).status).toBe(200);
  });

  it('is restored once mended', async () => {
    const { id } = await createRestore(server, backup.id, { mode: 'new-database', database: 'mended' });
    expect(await ended(server, id)).toMatchObject({ status: 'completed', countsEqual: true });
    expect(await readdir(join(server.dataDir, 'backups'))).toHaveLength(1);
    expect(await good(server.api<Run[]>('GET', '/api/backups/list'))).toHaveLength(1);
  });
});
