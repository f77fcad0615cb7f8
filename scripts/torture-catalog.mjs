/**
 * Damages the embedded catalog again and again: `node scripts/torture-catalog.mjs [--rounds 50] [--seed 1] [--dist dist]`, after
 * `npm run build`. Each round makes a backup, stops or kills the server, cuts, empties, removes and flips files of the catalog (now
 * and then the snapshots too, or puts older files back as a power loss does), and starts it again. Every backup that was ever
 * answered as completed must be listed with its artifacts and tables, and verify at level 2.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { damageFile, damageSome, filesBelow, seeded } from '../test/support/folder-damage.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '50' },
    seed: { type: 'string', default: '1' },
    dist: { type: 'string', default: 'dist' },
  },
});

const KEY = 'bsk_torture-of-the-embedded-catalog-0123456789';
const dist = resolve(options.dist);
const random = seeded(Number(options.seed));
/** The one that runs now; it must not outlive this script. */
let running;
const say = (line) => process.stdout.write(`${line}\n`);

class Server {
  output = '';

  constructor(dataDir, sourceUrl) {
    this.child = spawn(process.execPath, [join(dist, 'main.js')], {
      env: {
        PATH: process.env.PATH,
        DATA_DIR: dataDir,
        PORT: '0',
        HOST: '127.0.0.1',
        LOG_FORMAT: 'json',
        LOG_LEVEL: 'warn',
        BOOTSTRAP_API_KEY: KEY,
        SOURCE_DATABASE_URL: sourceUrl,
        RATE_LIMIT_DEFAULT: '0',
        RATE_LIMIT_STRICT: '0',
        RATE_LIMIT_LENIENT: '0',
      },
    });
    running = this.child;
    this.ended = once(this.child, 'close');
    this.ready = new Promise((resolve, reject) => {
      const hear = (chunk) => {
        this.output += chunk;
        this.url ??= /listens on (http\S+)/.exec(this.output)?.[1];
        if (this.url) resolve();
      };
      this.child.stdout.on('data', hear);
      this.child.stderr.on('data', hear);
      this.child.on('close', (code) => reject(new Error(`the server ended with ${code}:\n${this.output}`)));
    });
  }

  async api(method, path, body) {
    const response = await fetch(this.url + path, {
      method,
      headers: { 'x-api-key': KEY, ...(body ? { 'content-type': 'application/json' } : {}) },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const answer = await response.json();
    if (!answer.success) throw new Error(`${method} ${path}: ${JSON.stringify(answer)}`);
    return answer.data;
  }

  async end(signal) {
    this.child.kill(signal);
    const [code] = await this.ended;
    if (signal === 'SIGTERM' && code !== 0) throw new Error(`the server stopped with ${code}:\n${this.output}`);
  }
}

/** What must be the same after every rebuild. */
function evidence({ id, status, broken, artifacts, tables, rowCount, type, components }) {
  return JSON.stringify({ id, status, broken, artifacts, tables, rowCount, type, components });
}

async function checkAll(server, known) {
  const missing = [];
  for (const [id, expected] of known) {
    const found = await server.api('GET', `/api/backups/${id}/details`).then(evidence, (error) => error.message);
    if (found !== expected) missing.push(`${id}:\n  expected ${expected.slice(0, 300)}\n  found    ${found.slice(0, 300)}`);
  }
  if (missing.length > 0) throw new Error(`${missing.length} backups are not what they were:\n${missing.join('\n')}`);
}

async function verify(server, id) {
  const { id: run } = await server.api('POST', `/api/backups/${id}/verify`, { level: 2 });
  for (;;) {
    const { status, provenLevel, error } = await server.api('GET', `/api/verifications/${run}`);
    if (status === 'completed' && provenLevel === 2) return;
    if (status === 'failed' || status === 'canceled') throw new Error(`${id} does not verify: ${JSON.stringify(error)}`);
    await new Promise((wake) => setTimeout(wake, 100));
  }
}

/** Does what the round's number asks for; gives it as text. */
async function damage(home, older, round) {
  const pgdata = join(home, 'pgdata');
  const done = [];
  if (round % 5 === 4) {
    for (const file of filesBelow(join(older, 'pgdata')).filter(() => random(2) === 0))
      await cp(file, file.replace(older, home), { recursive: true });
    done.push('half of the files are older');
  } else done.push(...damageSome(pgdata, random));
  if (round % 10 === 7) for (const file of filesBelow(join(home, 'snapshots'))) done.push(damageFile(file, 'flip', random));
  if (round % 10 === 9) {
    await rm(join(home, 'snapshots'), { recursive: true, force: true });
    done.push('no snapshots');
  }
  return done.map((line) => line.replace(`${home}/`, '')).join('; ');
}

async function torture(sourceUrl, dataDir) {
  const home = join(dataDir, 'catalog');
  const older = join(dataDir, 'older');
  const known = new Map();
  let rebuilt = 0;
  let server = new Server(dataDir, sourceUrl);
  await server.ready;
  for (let round = 0; round < Number(options.rounds); round += 1) {
    await rm(older, { recursive: true, force: true });
    await cp(home, older, { recursive: true });
    const made = await server.api('POST', '/api/backups/create?wait=120', { source: 'default' });
    if (made.status !== 'completed') throw new Error(`round ${round}: the backup did not complete: ${JSON.stringify(made)}`);
    const details = await server.api('GET', `/api/backups/${made.id}/details`);
    if (details.tables.length !== 3) throw new Error(`the backup has ${details.tables.length} tables`);
    known.set(made.id, evidence(details));
    const signal = random(2) === 0 ? 'SIGTERM' : 'SIGKILL';
    await server.end(signal);
    const done = await damage(home, older, round);
    const started = Date.now();
    server = new Server(dataDir, sourceUrl);
    await server.ready;
    const took = Date.now() - started;
    await checkAll(server, known);
    await verify(server, [...known.keys()][random(known.size)]);
    const told = /"event":"catalog\.rebuilt".*?"cause":"((?:[^"\\]|\\.)*)"/.exec(server.output)?.[1];
    if (told !== undefined) rebuilt += 1;
    say(
      `${round + 1}. ${signal}; ${done} → ${told === undefined ? 'kept' : `rebuilt: ${told}`} (${took} ms, ${known.size} backups)`,
    );
  }
  for (const id of known.keys()) await verify(server, id);
  await server.end('SIGTERM');
  say(`${options.rounds} rounds, ${rebuilt} rebuilt: all ${known.size} completed backups are there and verify.`);
}

/** Three tables, so that there are digests to lose. */
async function fill(connectionString) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  for (const [name, rows] of Object.entries({ users: 100, orders: 1000, empty: 0 }))
    await client.query(`CREATE TABLE ${name} AS SELECT n AS id, md5(n::text) AS value FROM generate_series(1, ${rows}) n`);
  await client.end();
}

const { ThrowawayCluster } = await import(pathToFileURL(join(dist, 'engine/postgres/throwaway-cluster.js')).href);
const { findClientPrograms } = await import(pathToFileURL(join(dist, 'engine/postgres/client-programs.js')).href);
const programs = await findClientPrograms({ binDirs: [] });
const cluster = await ThrowawayCluster.start({ maxMajor: Math.max(...programs.map(({ major }) => major)) });
const dataDir = await mkdtemp(join(tmpdir(), 'backstay-torture-'));
try {
  const { host, port, user, password, database } = cluster.connection('postgres');
  const credentials = [user, ...(password === undefined ? [] : [password])].map(encodeURIComponent).join(':');
  const url = `postgresql://${credentials}@${host}:${port}/${database}`;
  await fill(url);
  await torture(url, dataDir);
  await rm(dataDir, { recursive: true, force: true });
} catch (error) {
  say(`${error.stack}\nThe data folder is kept: ${dataDir}`);
  process.exitCode = 1;
} finally {
  if (running?.exitCode === null && running.signalCode === null) running.kill('SIGKILL');
  await cluster.stop();
}
