/**
 * Measures backups and restores against the plain programs: `npm run bench`, or `npm run bench -- --gb 4 --runs 5`.
 * Both sides run by turns, so that whatever else the machine does meets both; the medians are compared.
 * `npm run bench -- --drills 3 --gb 1.1` compares restore drills with `zstd -d` and `pg_restore -j2`.
 * `npm run bench -- --destinations` compares two destinations with one, and measures the memory that a slow one takes.
 * `npm run bench -- --schedules 10000` measures instead how soon three servers queue that many backups of the same moment, one of them
 * being killed in the middle. docs/BENCHMARKS.md says what each line means.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { databaseSql } from './bench/database.mjs';
import { compareDrills } from './bench/drills.mjs';
import { runEngineProcess } from './bench/engine-process.mjs';
import { median } from './bench/measure.mjs';
import { engineRun, parallelRestore, plainArchive, plainBackup, plainRestore, run } from './bench/runs.mjs';
import { serverRun } from './bench/server.mjs';
import { startSlowBucket } from './bench/slow-bucket.mjs';

const { values: options } = parseArgs({
  options: {
    gb: { type: 'string', default: '1' },
    runs: { type: 'string', default: '5' },
    restores: { type: 'string', default: '1' },
    /** The built server; by default the one that is built now. */
    dist: { type: 'string' },
    'engine-process': { type: 'string' },
    schedules: { type: 'string' },
    destinations: { type: 'boolean', default: false },
    /** How many drills, instead of backups and restores. */
    drills: { type: 'string' },
  },
});

const MB = 1e6;
const LEAST_RATIO = 0.8;
const MOST_RESTORE_RATIO = 1.1;
const MOST_GROWTH = 150 * MB;
const MOST_FOR_TWO = 1.2;
const SLOW = 1 * MB;
const say = (line = '') => process.stdout.write(`${line}\n`);
const shown = (value, digits = 2) => value.toFixed(digits);

if (options['engine-process']) await runEngineProcess(new URL(options['engine-process']));
else if (options.schedules) process.exitCode = await benchSchedules(options.schedules);
else process.exitCode = await bench();

/** The test of it, with more of them. */
async function benchSchedules(count) {
  if (!(Number(count) >= 1)) throw new Error('Say --schedules as a positive number.');
  await run('npm', ['run', 'build']);
  const jest = spawn('npm', ['run', 'jest', '--', '--runTestsByPath', 'test/integration/schedules.spec.ts'], {
    env: { ...process.env, SCHEDULES: count },
    stdio: 'inherit',
  });
  return (await once(jest, 'exit'))[0] ?? 1;
}

async function bench() {
  const gigabytes = Number(options.gb);
  const runs = Number(options.runs);
  if (!(gigabytes > 0) || !(runs >= 1)) throw new Error('Say --gb and --runs as positive numbers.');
  await run('zstd', ['--version']).catch(() => {
    throw new Error('The comparison needs the program zstd: install the package zstd.');
  });
  if (!options.dist) await run('npm', ['run', 'build']);
  const dist = pathToFileURL(`${options.dist ?? 'dist'}/`);
  const { ThrowawayCluster } = await import(new URL('engine/postgres/throwaway-cluster.js', dist));
  const { findClientPrograms, chooseClientPrograms } = await import(new URL('engine/postgres/client-programs.js', dist));
  const found = await findClientPrograms({ binDirs: [] });
  const cluster = await ThrowawayCluster.start({ maxMajor: Math.max(...found.map(({ major }) => major)) });
  const folder = await mkdtemp(join(tmpdir(), 'backstay-bench-'));
  await chmod(folder, 0o700);
  try {
    const programs = chooseClientPrograms(found, cluster.major);
    say(
      `PostgreSQL ${cluster.version}, pg_dump ${programs.version}, Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model}`,
    );
    const context = { cluster, dist, folder, programs, gigabytes };
    await makeDatabase(context);
    if (options.drills) return await benchDrills(context, Number(options.drills));
    return options.destinations ? await compareDestinations(context, runs) : await compare(context, runs);
  } finally {
    await cluster.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function sql({ cluster, dist }, database, statements) {
  const { withClient } = await import(new URL('engine/postgres/client.js', dist));
  const settings = { search_path: 'public', max_parallel_workers_per_gather: '0' };
  return withClient(cluster.connection(database), { applicationName: 'bench', settings }, async (client) => {
    for (const statement of statements) await client.query(statement);
  });
}

async function makeDatabase(context) {
  const startedAt = performance.now();
  await sql(context, 'postgres', ['CREATE DATABASE measured TEMPLATE template0']);
  await sql(context, 'measured', databaseSql(context.gigabytes).split(/;\n/));
  say(
    `A database for a dump of about ${context.gigabytes} GB was made in ${shown((performance.now() - startedAt) / 1000, 0)} s.`,
  );
}

async function compare(context, runs) {
  const { cluster, dist, folder, programs } = context;
  const connection = cluster.connection('measured');
  const { generateAgeKeyPair, generateSigningKeyPair } = await import(new URL('engine/artifact/keys.js', dist));
  const keys = { age: await generateAgeKeyPair(), signing: generateSigningKeyPair() };
  const [plain, engine] = [[], []];
  for (let index = 0; index < runs; index++) {
    plain.push(await plainBackup({ programs, connection, folder }));
    engine.push(await engineRun(dist, backupJob(context, keys, `run${index}`)));
  }
  const plainBytes = engine[0].plainBytes;
  const gb = plainBytes / 1e9;
  const speed = (all) => plainBytes / MB / median(all.map(({ seconds }) => seconds));
  const cpu = (all, field = 'cpuSeconds') => median(all.map((each) => each[field])) / gb;
  const ratio = speed(engine) / speed(plain);
  const growth = Math.max(...engine.map(({ grownBytes }) => grownBytes));
  say(
    `Dump: ${shown(plainBytes / MB, 0)} MB; stored: ${shown(engine[0].storedBytes / MB, 0)} MB, plain ${shown(plain[0].storedBytes / MB, 0)} MB`,
  );
  say(`pg_dump -Fc -Z0 | zstd -3   ${shown(speed(plain), 0)} MB/s   ${shown(cpu(plain))} CPU s/GB   [${spread(plain)}]`);
  say(
    `backup by the engine        ${shown(speed(engine), 0)} MB/s   ${shown(cpu(engine))} CPU s/GB (${shown(cpu(engine, 'ownCpuSeconds'))} own)   [${spread(engine)}]`,
  );
  say(`ratio of throughput         ${shown(ratio)}   (at least ${LEAST_RATIO})`);
  say(`memory over idle            ${shown(growth / MB, 0)} MB   (below ${MOST_GROWTH / MB} MB)`);
  await compareRestores(context, keys, { file: plain[0].file, ids: engine[0].ids, gb });
  const server = await serverRun({ ...context, connection });
  say(
    `the real server             ${shown(plainBytes / MB / server.seconds, 0)} MB/s, memory ${shown(server.idleBytes / MB, 0)} MB idle, ${shown(server.grownBytes / MB, 0)} MB over that at the peak`,
  );
  const good = ratio >= LEAST_RATIO && growth < MOST_GROWTH && server.grownBytes < MOST_GROWTH;
  say(good ? 'Within the limits.' : 'NOT within the limits.');
  return good ? 0 : 1;
}

async function benchDrills(context, runs) {
  if (!(runs >= 1)) throw new Error('Say --drills as a positive number.');
  const { generateAgeKeyPair, generateSigningKeyPair } = await import(new URL('engine/artifact/keys.js', context.dist));
  const keys = { age: await generateAgeKeyPair(), signing: generateSigningKeyPair() };
  const good = await compareDrills(context, keys, backupJob(context, keys, 'drilled'), runs, say);
  say(good ? 'Within the limits.' : 'NOT within the limits.');
  return good ? 0 : 1;
}

/** One dump to one destination and to two, by turns; and to one that takes 1 MB a second, for its memory. */
async function compareDestinations(context, runs) {
  const { dist, folder } = context;
  const { generateAgeKeyPair, generateSigningKeyPair } = await import(new URL('engine/artifact/keys.js', dist));
  const keys = { age: await generateAgeKeyPair(), signing: generateSigningKeyPair() };
  const [first, second] = [{ folder: join(folder, 'first') }, { folder: join(folder, 'second') }];
  const [one, two] = [[], []];
  for (let index = 0; index < runs; index++) {
    one.push(await engineRun(dist, { ...backupJob(context, keys, `one${index}`), destinations: [first] }));
    two.push(await engineRun(dist, { ...backupJob(context, keys, `two${index}`), destinations: [first, second] }));
  }
  const seconds = (all) => median(all.map((each) => each.seconds));
  const ratio = seconds(two) / seconds(one);
  say(`one destination             ${shown(seconds(one), 1)} s   [${spread(one)}]`);
  say(`two destinations            ${shown(seconds(two), 1)} s   [${spread(two)}]`);
  say(`ratio of time               ${shown(ratio)}   (at most ${MOST_FOR_TWO})`);
  const bucket = await startSlowBucket(SLOW);
  try {
    const job = { ...backupJob(context, keys, 'slow'), destinations: [{ bucket: bucket.config }], stageOnly: true };
    const slow = await engineRun(dist, job);
    say(
      `a bucket at 1 MB/s          ${shown(slow.seconds, 0)} s for ${shown(slow.storedBytes / MB, 0)} MB, memory ${shown(slow.grownBytes / MB, 0)} MB over idle   (below ${MOST_GROWTH / MB} MB)`,
    );
    const good = ratio <= MOST_FOR_TWO && slow.grownBytes < MOST_GROWTH;
    say(good ? 'Within the limits.' : 'NOT within the limits.');
    return good ? 0 : 1;
  } finally {
    await bucket.stop();
  }
}

function spread(all) {
  return all.map(({ seconds }) => `${shown(seconds, 1)} s`).join(', ');
}

async function compareRestores(context, keys, { file, ids, gb }) {
  const { cluster, dist, programs, folder } = context;
  const [plain, parallel, engine] = [[], [], []];
  const archive =
    Number(options.restores) > 0 && (await plainArchive({ programs, connection: cluster.connection('measured'), folder }));
  for (let index = 0; index < Number(options.restores); index++) {
    await sql(context, 'postgres', ['DROP DATABASE IF EXISTS restored', 'CREATE DATABASE restored TEMPLATE template0']);
    plain.push(await plainRestore({ programs, connection: cluster.connection('restored'), file }));
    await sql(context, 'postgres', ['DROP DATABASE restored', 'CREATE DATABASE restored TEMPLATE template0']);
    parallel.push(await parallelRestore({ programs, connection: cluster.connection('restored'), file: archive }));
    await sql(context, 'postgres', ['DROP DATABASE restored']);
    engine.push(
      await engineRun(dist, {
        folder,
        publicKeyPem: keys.signing.publicKeyPem,
        restore: {
          runId: `restore${index}`,
          ids,
          target: { mode: 'new-database', server: cluster.connection(), database: 'restored' },
          identities: [keys.age.identity],
          programs: { binDirs: [], requirePatched: false },
          selection: {},
          createRoles: false,
          attempt: 1,
          jobs: 2,
        },
      }),
    );
    await sql(context, 'postgres', ['DROP DATABASE restored']);
  }
  if (plain.length === 0) return;
  for (const [name, all] of [
    ['zstd -d | pg_restore        ', plain],
    ['pg_restore -j2, plain file  ', parallel],
    ['restore by the engine       ', engine],
  ]) {
    const cpu = median(all.map(({ cpuSeconds }) => cpuSeconds)) / gb;
    say(`${name}${shown(median(all.map(({ seconds }) => seconds)), 1)} s   ${shown(cpu)} CPU s/GB`);
  }
  const growth = Math.max(...engine.map(({ grownBytes }) => grownBytes));
  const seconds = (all) => median(all.map((each) => each.seconds));
  say(`ratio to pg_restore -j2     ${shown(seconds(engine) / seconds(parallel))}   (the aim is ${MOST_RESTORE_RATIO})`);
  say(`memory of it over idle      ${shown(growth / MB, 0)} MB`);
}

function backupJob({ cluster, folder }, keys, backup) {
  return {
    folder,
    publicKeyPem: keys.signing.publicKeyPem,
    backup: {
      ids: { installation: 'bench', organization: 'bench', source: 'bench', backup },
      attempt: '1',
      source: {
        name: 'bench',
        connection: cluster.connection('measured'),
        excludeSchemas: [],
        excludeTables: [],
        lockTimeoutMs: 60_000,
        statementTimeoutMs: 0,
        maxRunMs: 3_600_000,
        configPaths: [],
      },
      type: 'database',
      components: ['database'],
      compress: true,
      configRoots: [],
      programs: { binDirs: [], requirePatched: false },
      recipients: [keys.age.recipient],
      signingKeyPem: keys.signing.privateKeyPem,
      previousManifestSha256: null,
      backstayVersion: '0.0.0',
    },
  };
}
