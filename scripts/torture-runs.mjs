/**
 * Kills, and stops for longer than a heartbeat, whatever takes part in backups and restores, at random moments:
 *
 *     node scripts/torture-runs.mjs [--kills 300] [--stops 50] [--seed 1] [--dist dist]      after `npm run build`
 *
 * Each round begins a backup and a restore (by each mode in turn) and then ends with `kill -9`, or stops for 25 s and lets go on, the
 * server, a worker, a pg_dump, a pg_restore or a backend of the database. Afterwards: both runs have ended with a state that is true,
 * the source is what it was and the target untouched or whole (sorted dumps are compared), no database, schema, session, process, stored
 * or temporary file is left over. Each completed backup is restored, at the latest in the end, and its dump is the source's.
 */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { ROOT } from './build.mjs';
import { seeded } from '../test/support/folder-damage.ts';

const { values: options } = parseArgs({
  options: {
    kills: { type: 'string', default: '300' },
    stops: { type: 'string', default: '50' },
    seed: { type: 'string', default: '1' },
    dist: { type: 'string', default: 'dist' },
  },
});

const KEY = 'bsk_torture-of-the-runs-0123456789abcdef01';
/** A worker that is not heard of for 20 s has lost its run. */
const STOPPED_MS = 25_000;
/** Two heartbeats of 20 s, the supervisor's 10 s, and a run under load. */
const ENDS_WITHIN_MS = 240_000;
const SWEPT_WITHIN_MS = 60_000;
const VICTIMS = ['server', 'worker', 'pg_dump', 'pg_restore', 'backend'];
const MODES = ['new-database', 'url', 'swap', 'in-place', 'side-schema'];
const dist = resolve(options.dist);
const random = seeded(Number(options.seed));
const say = (line) => process.stdout.write(`${line}\n`);
const { ThrowawayCluster } = await import(pathToFileURL(join(dist, 'engine/postgres/throwaway-cluster.js')).href);
const { findClientPrograms } = await import(pathToFileURL(join(dist, 'engine/postgres/client-programs.js')).href);

const urlOf = ({ host, port, user, password, database }) =>
  `postgresql://${[user, ...(password === undefined ? [] : [password])].map(encodeURIComponent).join(':')}@${host}:${port}/${encodeURIComponent(database)}`;

async function until(what, condition, limitMs) {
  const end = Date.now() + limitMs;
  let last;
  while (Date.now() < end) {
    last = await condition().catch((error) => ({ error: error.message }));
    if (last === true) return;
    await delay(200);
  }
  throw new Error(`${what}: not within ${limitMs / 1000} s: ${JSON.stringify(last)}`);
}

/** One server or worker; begun anew where it was killed. */
class Server {
  constructor(role, env) {
    Object.assign(this, { role, env });
  }

  async start() {
    this.output = '';
    this.child = spawn(process.execPath, [join(dist, 'main.js')], { env: { ...this.env, ROLE: this.role } });
    const hear = (chunk) => (this.output += chunk);
    this.child.stdout.on('data', hear);
    this.child.stderr.on('data', hear);
    await until(
      `start of ${this.role}`,
      async () => this.child.exitCode !== null || /listens on|works on queued/.test(this.output),
      120_000,
    );
    if (this.child.exitCode !== null) throw new Error(`the server ended with ${this.child.exitCode}:\n${this.output}`);
    this.url = /listens on (http\S+)/.exec(this.output)?.[1];
  }

  async api(method, path, body) {
    const headers = { 'x-api-key': KEY, ...(body ? { 'content-type': 'application/json' } : {}) };
    const request = { method, headers, signal: AbortSignal.timeout(120_000), ...(body ? { body: JSON.stringify(body) } : {}) };
    const answer = await (await fetch(this.url + path, request)).json();
    if (!answer.success) throw new Error(`${method} ${path}: ${JSON.stringify(answer)}`);
    return answer.data;
  }

  async end(signal) {
    if (this.child === undefined || this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'close');
    this.child.kill(signal);
    const [code] = await ended;
    if (signal === 'SIGTERM' && code !== 0) throw new Error(`${this.role} stopped with ${code}:\n${this.output.slice(-3000)}`);
  }
}

class Torture {
  known = new Set();
  unproven = [];
  counts = {};
  failures = 0;

  constructor(cluster, programs, servers, folder, env) {
    Object.assign(this, { cluster, programs, servers, folder, env });
    this.source = cluster.connection('shop');
  }

  get api() {
    const [server] = this.servers;
    return server.api.bind(server);
  }

  async query(sql, database = 'postgres', values = []) {
    const client = new pg.Client({ connectionString: urlOf(this.cluster.connection(database)) });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query(sql, values)).rows;
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** A hash of everything in a database: the lines of a plain dump, sorted, since rows may come back in another order. */
  async digest(database) {
    const { host, port, user, password } = this.cluster.connection(database);
    const env = {
      PATH: process.env.PATH,
      PGHOST: host,
      PGPORT: String(port),
      PGUSER: user,
      PGPASSWORD: password ?? '',
      PGDATABASE: database,
      // A database's own settings change how values are written.
      PGOPTIONS: '-c TimeZone=UTC -c bytea_output=hex -c lc_monetary=C',
    };
    const child = spawn(this.programs.pgDump, ['--no-password', '--exclude-schema=restored_*'], { env });
    const [out, errors] = [[], []];
    child.stdout.on('data', (chunk) => out.push(chunk));
    child.stderr.on('data', (chunk) => errors.push(chunk));
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`pg_dump of ${database}: ${Buffer.concat(errors)}`);
    const lines = Buffer.concat(out).toString('latin1').split('\n');
    return createHash('sha256')
      .update(
        lines
          .filter((line) => !/^\\(un)?restrict/.test(line))
          .sort()
          .join('\n'),
        'latin1',
      )
      .digest('hex');
  }

  show(id) {
    return this.api('GET', id.startsWith('backup') ? `/api/backups/${id}/details` : `/api/restores/${id}`);
  }

  async ended(id) {
    let run;
    await until(
      `the end of ${id}`,
      async () => ['completed', 'failed', 'canceled'].includes((run = await this.show(id)).status) || run,
      ENDS_WITHIN_MS,
    );
    if (run.status === 'failed' && !(run.error?.message.length > 10)) throw new Error(`${id} failed without a cause`);
    return run;
  }

  /** Programs of runs that are alive, by name. */
  programsOfRuns(name) {
    return readdirSync('/proc')
      .filter((pid) => {
        if (!/^\d+$/.test(pid)) return false;
        try {
          return (
            readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === name &&
            readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`PGPORT=${this.source.port}\0`) &&
            /PGAPPNAME=backstay:/.test(readFileSync(`/proc/${pid}/environ`, 'utf8'))
          );
        } catch {
          return false;
        }
      })
      .map(Number);
  }

  async pidOf(victim) {
    if (victim === 'server' || victim === 'worker') return this.servers.at(victim === 'server' ? 0 : -1).child.pid;
    if (victim !== 'backend') return this.programsOfRuns(victim)[0];
    const rows = await this.query("SELECT pid FROM pg_stat_activity WHERE application_name ~ '^backstay:(backup|restore)_'");
    return rows[random(Math.max(rows.length, 1))]?.pid;
  }

  async target(mode, round) {
    const name = `t_${round}_${randomBytes(2).toString('hex')}`;
    if (mode === 'new-database') return { target: { mode, database: name }, database: name };
    if (mode === 'in-place') return { target: { mode, confirm: 'default' }, database: 'shop' };
    if (mode === 'swap') return { target: { mode, keepPreviousHours: 0 }, database: 'shop' };
    if (mode === 'side-schema') return { target: { mode }, tables: ['public.lines'], database: 'shop' };
    await this.query(`CREATE DATABASE "${name}" TEMPLATE template0`);
    return { target: { mode, url: urlOf(this.cluster.connection(name)) }, database: name };
  }

  /** @returns whether there was a victim to be met */
  async round(number, victim, signal) {
    const mode = MODES[number % MODES.length];
    const backupId = this.unproven[0] ?? [...this.known].at(-1);
    const { database, ...asked } = await this.target(mode, number);
    const restore = await this.api('POST', `/api/backups/${backupId}/restore`, asked);
    const backup = await this.api('POST', '/api/backups/create', { source: 'default' });
    await delay(random(3000));
    let pid;
    const over = async () =>
      ![await this.show(backup.id), await this.show(restore.id)].some(({ status }) => ['queued', 'running'].includes(status));
    for (let tries = 0; pid === undefined && tries < 100; tries += 1) {
      pid = await this.pidOf(victim).catch(() => undefined);
      if (pid === undefined && (await over())) break;
    }
    let met = false;
    if (pid !== undefined) {
      try {
        process.kill(pid, signal);
        met = true;
      } catch {
        // It has just ended by itself.
      }
      if (met && signal === 'SIGSTOP') {
        await delay(STOPPED_MS);
        try {
          process.kill(pid, 'SIGCONT');
        } catch {
          // Its server ended it meanwhile.
        }
      } else if (met && (victim === 'server' || victim === 'worker')) {
        await delay(random(1500));
        await this.servers.at(victim === 'server' ? 0 : -1).start();
      }
    }
    const [backedUp, restored] = [await this.ended(backup.id), await this.ended(restore.id)];
    if (backedUp.status === 'completed') this.complete(backup.id);
    await this.check(mode, database, restored, backupId);
    const outcome = `backup ${backedUp.status} (${backedUp.attempt}), ${mode} ${restored.status} (${restored.attempt})`;
    say(
      `${new Date().toISOString().slice(11, 19)} ${number}. ${signal} ${victim} ${pid ?? '(none)'}: ${outcome}${restored.error ? ` ${restored.error.code}` : ''}${backedUp.error ? ` ${backedUp.error.code}` : ''}`,
    );
    const key = `${signal} ${victim}`;
    if (met) this.counts[key] = (this.counts[key] ?? 0) + 1;
    if (restored.status === 'failed' || backedUp.status === 'failed') this.failures += 1;
    return met;
  }

  complete(id) {
    this.known.add(id);
    this.unproven.push(id);
  }

  async check(mode, database, restored, backupId) {
    // The server may be in recovery after the kill of one of its backends.
    await until('the database server is up', async () => (await this.query('SELECT 1')).length === 1, 60_000);
    const there = (await this.query('SELECT 1 FROM pg_database WHERE datname = $1', 'postgres', [database])).length === 1;
    const found = there ? await this.digest(database) : null;
    const whole = found === this.expected;
    if (restored.status === 'completed') {
      if (!whole) throw new Error(`${restored.id} (${mode}) is completed, and ${database} is not equal`);
      if (restored.countsEqual !== true)
        throw new Error(`${restored.id} is completed, and countsEqual is ${restored.countsEqual}`);
      if (mode !== 'side-schema') this.unproven = this.unproven.filter((id) => id !== backupId);
      if (mode === 'in-place') this.complete(restored.safetyBackupId);
    } else if (mode === 'new-database' ? there : found !== (mode === 'url' ? this.empty : this.expected)) {
      throw new Error(`${restored.id} (${mode}) is ${restored.status}, and ${database} is not what it was`);
    }
    if (database !== 'shop' && there) await this.query(`DROP DATABASE "${database}"`);
    if (restored.safetyBackupId && restored.status !== 'completed') {
      const safety = await this.ended(restored.safetyBackupId);
      if (safety.status === 'completed') this.complete(safety.id);
    }
    if (restored.status === 'completed' && restored.target.schema)
      await this.query(`DROP SCHEMA "${restored.target.schema}" CASCADE`, 'shop');
    for (const { datname } of await this.query("SELECT datname FROM pg_database WHERE datname ~ '^shop_(before|reverted)_'")) {
      if (restored.status === 'completed' && mode === 'swap' && datname === restored.previousDatabase)
        await this.query(`DROP DATABASE "${datname}"`);
      else throw new Error(`${datname} is left over`);
    }
    if ((await this.digest('shop')) !== this.expected) throw new Error('the source is not what it was');
    await until('nothing is left over', () => this.leftOver(), SWEPT_WITHIN_MS);
  }

  /** true, or what is left over. */
  async leftOver() {
    const databases = await this.query("SELECT datname FROM pg_database WHERE datname LIKE 'backstay%'");
    const schemas = await this.query("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'restored\\_%'", 'shop');
    const sessions = await this.query(
      "SELECT application_name, state FROM pg_stat_activity WHERE application_name ~ '^backstay:(backup|restore)_'",
    );
    const programs = [
      ...this.programsOfRuns('pg_dump'),
      ...this.programsOfRuns('pg_restore'),
      ...this.programsOfRuns('pg_dumpall'),
    ];
    const root = join(this.env.DATA_DIR, 'backups');
    const files = (await readdir(root, { recursive: true, withFileTypes: true }))
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
      .filter((file) => {
        const [, , , backup, , ...deeper] = file.split('/');
        return file.split('/')[1] !== 'catalog' && (!this.known.has(backup) || deeper.length > 0);
      });
    const temporary = await readdir(this.env.TMPDIR);
    const left = { databases, schemas, sessions, programs, files, temporary };
    return Object.values(left).every((list) => list.length === 0) || left;
  }

  async prepare() {
    await this.query('CREATE DATABASE shop TEMPLATE template0');
    await this.query(await readFile(join(ROOT, 'scripts/sample-database.sql'), 'utf8'), 'shop');
    await this.query(
      `CREATE TABLE public.lines (id bigint PRIMARY KEY, body text NOT NULL);
      INSERT INTO public.lines SELECT n, md5(n::text) || repeat(md5((n * 13)::text), 4) FROM generate_series(1, 60000) n; CREATE INDEX ON public.lines (body)`,
      'shop',
    );
    // A server that a killed backend takes with it empties its unlogged tables and lets sequences run ahead, through no fault of ours.
    await this.query(
      `DO $$ DECLARE found record; BEGIN
         FOR found IN SELECT oid::regclass AS name FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r' LOOP EXECUTE format('ALTER TABLE %s SET LOGGED', found.name); END LOOP;
         FOR found IN SELECT format('%I.%I', schemaname, sequencename) AS name, last_value FROM pg_sequences WHERE last_value IS NOT NULL LOOP PERFORM setval(found.name::regclass, found.last_value); END LOOP;
       END $$`,
      'shop',
    );
    this.expected = await this.digest('shop');
    await this.query('CREATE DATABASE nothing TEMPLATE template0');
    this.empty = await this.digest('nothing');
    for (const server of this.servers) await server.start();
    const { id } = await this.api('POST', '/api/backups/create', { source: 'default' });
    const first = await this.ended(id);
    if (first.status !== 'completed') throw new Error(`the first backup: ${JSON.stringify(first.error)}`);
    this.complete(id);
  }

  async run(rounds, signal) {
    await this.prepare();
    let met = 0;
    for (let number = 0; met < rounds && number < rounds * 3; number += 1)
      if (await this.round(number, VICTIMS[(number % 7) % 5], signal)) met += 1;
    for (const id of this.unproven) {
      const { database, ...asked } = await this.target('new-database', id.slice(-6));
      const restored = await this.ended((await this.api('POST', `/api/backups/${id}/restore`, asked)).id);
      if (restored.status !== 'completed') throw new Error(`${id} does not restore: ${JSON.stringify(restored.error)}`);
      await this.check('new-database', database, restored, id);
    }
    for (const server of this.servers) await server.end('SIGTERM');
    say(
      `${met} × ${signal} of ${JSON.stringify(this.counts)}: ${this.known.size} completed backups, all restored equal; in ${this.failures} rounds a run failed, with its cause.`,
    );
    if (met < rounds) throw new Error(`only ${met} of ${rounds} met a victim`);
  }
}

async function torture(rounds, signal) {
  const found = await findClientPrograms({ binDirs: [] });
  const maxMajor = Math.max(...found.map(({ major }) => major));
  const cluster = await ThrowawayCluster.start({ maxMajor });
  // Workers that lose their runs to each other need a catalog that they share; it must not fall with the database under torture.
  const catalog = signal === 'SIGSTOP' ? await ThrowawayCluster.start({ maxMajor }) : undefined;
  const folder = await mkdtemp(join(tmpdir(), 'backstay-torture-'));
  const env = {
    PATH: process.env.PATH,
    DATA_DIR: join(folder, 'data'),
    TMPDIR: join(folder, 'tmp'),
    PORT: '0',
    HOST: '127.0.0.1',
    LOG_FORMAT: 'json',
    LOG_LEVEL: 'warn',
    BOOTSTRAP_API_KEY: KEY,
    SOURCE_DATABASE_URL: urlOf(cluster.connection('shop')),
    ...(catalog ? { DATABASE_URL: urlOf(catalog.connection('postgres')), SECRET_KEY: randomBytes(32).toString('base64') } : {}),
    RATE_LIMIT_DEFAULT: '0',
    RATE_LIMIT_STRICT: '0',
    RATE_LIMIT_LENIENT: '0',
  };
  await mkdir(env.TMPDIR);
  const servers = [new Server('all', env), ...(catalog ? [new Server('worker', env)] : [])];
  const programs = found.find(({ major }) => major >= cluster.major);
  const work = new Torture(cluster, programs, servers, folder, env);
  try {
    await work.run(rounds, signal);
    await rm(folder, { recursive: true, force: true });
  } catch (error) {
    const logs = servers.map(({ role, output }) => `--- ${role}\n${(output ?? '').slice(-6000)}`).join('\n');
    say(`${error.stack}\n${logs}\n${JSON.stringify(work.counts)}\nThe data folder is kept: ${folder}`);
    process.exitCode = 1;
  } finally {
    for (const server of servers) {
      server.child?.kill('SIGCONT');
      await server.end('SIGKILL');
    }
    await cluster.stop();
    await catalog?.stop();
  }
}

if (Number(options.kills) > 0) await torture(Number(options.kills), 'SIGKILL');
if (Number(options.stops) > 0) await torture(Number(options.stops), 'SIGSTOP');
