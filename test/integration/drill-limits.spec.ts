import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { StagedBackup } from '../../src/engine/backup.js';
import { assertRoom, neededBytes } from '../../src/engine/drill-limits.js';
import type { Progress } from '../../src/engine/progress.js';
import { openArchive } from '../../src/engine/restore-archive.js';
import { type Verification, type VerifyRequest, verifyBackup } from '../../src/engine/verify.js';
import { EngineRuns } from '../support/engine-runs.js';
import { usePostgres } from '../support/postgres.js';

const run = promisify(execFile);
const MB = 1_000_000;
const postgres = usePostgres();
const ROOM = tmpdir();
let runs: EngineRuns;
let whole: StagedBackup;

async function backUp(name: string, sql: string): Promise<StagedBackup> {
  await postgres.current.exec(await postgres.current.createDatabase(name), sql);
  return runs.backUp(postgres.current.connection(name));
}

beforeAll(async () => {
  runs = await EngineRuns.open();
  whole = await backUp(
    'whole',
    'CREATE TABLE lines AS SELECT n, md5(n::text) AS body FROM generate_series(1, 2000) n; CREATE INDEX ON lines (n)',
  );
});
afterAll(() => runs.close());

const NO_LIMITS = { diskBytes: 0, memoryBytes: 0 };
const source = ({ ids }: StagedBackup) => ({
  ids,
  store: runs.store,
  verifyingKeys: [runs.signing.publicKeyPem],
  identities: [runs.age.identity],
  programs: { binDirs: [], requirePatched: false },
});
const verify = (staged: StagedBackup, more: Partial<VerifyRequest> = {}): Promise<Verification> =>
  verifyBackup({
    ...source(staged),
    signal: new AbortController().signal,
    runId: 'verification_1',
    level: 4,
    assertions: [],
    onProgress: () => undefined,
    ...more,
  });
const verdict = ({ provenLevel, failure, impossible }: Verification) => ({
  provenLevel,
  failure,
  code: impossible?.code ?? null,
});
const REFUSED = { provenLevel: 2, failure: null, code: 'DRILL_IMPOSSIBLE' };

/** How many throwaway servers this process has. */
async function clusters(): Promise<number> {
  const folders = (await readdir(ROOM)).filter((name) => name.startsWith('backstay-cluster-'));
  const marks = await Promise.all(folders.map((name) => readFile(join(ROOM, name, 'owner.json'), 'utf8').catch(() => '{}')));
  return marks.filter((mark) => (JSON.parse(mark) as { owner?: { pid: number } }).owner?.pid === process.pid).length;
}

describe('the disk that a drill may take', () => {
  it('is looked at before it begins: what is needed, what is allowed, and how to mend it', async () => {
    const verification = await verify(whole, { drillLimits: { diskBytes: 100 * MB, memoryBytes: 0 } });
    expect(verdict(verification)).toEqual(REFUSED);
    expect(verification.impossible?.message).toMatch(/needs about 135 MB of disk, and DRILL_DISK_LIMIT_BYTES allows 100 MB/);
    expect(verification.impossible?.hint).toContain('DRILL_DISK_LIMIT_BYTES');
  });

  it('ends it when what it makes outgrows that, and nothing is left of it', async () => {
    // A few bytes in the backup, half a gigabyte when it is restored.
    const staged = await backUp(
      'blown',
      `CREATE MATERIALIZED VIEW blown AS SELECT n, md5(n::text) FROM generate_series(1, CASE WHEN current_database() = 'blown' THEN 1 ELSE 8000000 END) n`,
    );
    const before = await clusters();
    const verification = await verify(staged, { drillLimits: { diskBytes: 200 * MB, memoryBytes: 0 } });
    expect(verdict(verification)).toEqual(REFUSED);
    expect(verification.impossible?.message).toMatch(/was stopped when its server had taken \d+ MB of disk; .* allows 200 MB/);
    expect(await clusters()).toBe(before);
  });

  it('is what is free there, less a reserve (skipped where mount is not permitted)', async () => {
    const disk = await mkdtemp(join(ROOM, 'disk-'));
    const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=300m,mode=0755', 'tmpfs', disk]).then(
      () => true,
      () => false,
    );
    try {
      if (!mounted) return;
      const needed = neededBytes(await openArchive({ ...source(whole), signal: new AbortController().signal }));
      await expect(assertRoom(disk, needed, NO_LIMITS)).rejects.toMatchObject({
        code: 'DRILL_IMPOSSIBLE',
        message: expect.stringContaining(
          `needs about 135 MB of disk in ${disk} on the machine of this server, 269 MB have to stay free, and 315 MB are free`,
        ),
        hint: expect.stringContaining('TMPDIR'),
      });
      await run('mount', ['-o', 'remount,size=500m', disk]);
      await assertRoom(disk, needed, NO_LIMITS);
    } finally {
      if (mounted) await run('umount', [disk]);
      await rm(disk, { recursive: true });
    }
  });
});

describe('the memory that a drill may take', () => {
  it('is bounded by settings, however large the machine is', async () => {
    const bounded = { shared_buffers: '64MB', work_mem: '4MB', maintenance_work_mem: '64MB', temp_buffers: '8MB' };
    const assertions = Object.entries(bounded).map(([name, expectation]) => ({
      name,
      query: `SELECT current_setting('${name}')`,
      expectation,
      timeoutSeconds: 30,
    }));
    expect(verdict(await verify(whole, { level: 5, assertions }))).toEqual({ provenLevel: 5, failure: null, code: null });
  });

  (process.platform === 'linux' ? it : it.skip)('is limited for each process, which says nothing of the backup', async () => {
    const staged = await backUp('hungry', "CREATE MATERIALIZED VIEW hungry AS SELECT length(repeat('x', 300000000)) AS n");
    const verification = await verify(staged, { drillLimits: { diskBytes: 0, memoryBytes: 384 * MB } });
    expect(verdict(verification)).toEqual(REFUSED);
    expect(verification.impossible).toMatchObject({
      message: expect.stringContaining('out of memory'),
      hint: expect.stringContaining('DRILL_MEMORY_LIMIT_BYTES'),
    });
  });
});

describe('a drill that goes on', () => {
  it('tells how far it is, phase by phase, and never goes back', async () => {
    const told: Progress[] = [];
    const assertions = [{ name: 'lines', query: 'SELECT count(*) FROM lines', expectation: 2000, timeoutSeconds: 30 }];
    await verify(whole, { level: 5, assertions, onProgress: (progress) => told.push(progress) });
    const phases = told.map(({ phase }) => phase).filter((phase, index, all) => phase !== all[index - 1]);
    expect(phases).toEqual([
      'level 1',
      'level 2',
      'drill queued',
      'drill',
      'pre-data',
      'data',
      'post-data',
      'analyze',
      'compare',
      'drill compare',
      'assertions',
    ]);
    const percents = told.map(({ percent }) => percent);
    expect(percents).toEqual(percents.toSorted((a, b) => a - b));
    expect(percents.at(-1)).toBeGreaterThan(90);
  });

  it.each(['drill', 'data', 'post-data', 'drill compare', 'assertions'])(
    'is canceled in the phase %s, and leaves nothing',
    async (phase) => {
      const before = await clusters();
      const cancel = new AbortController();
      const assertions = [{ name: 'long', query: 'SELECT pg_sleep(300) IS NULL', expectation: true, timeoutSeconds: 600 }];
      const verification = verify(whole, {
        level: 5,
        assertions,
        signal: cancel.signal,
        onProgress: (progress) => {
          if (progress.phase === phase) cancel.abort(new Error('it was canceled'));
        },
      });
      await expect(verification).rejects.toThrow('it was canceled');
      expect(await clusters()).toBe(before);
    },
  );
});
