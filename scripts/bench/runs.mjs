import { spawn } from 'node:child_process';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const BENCH = fileURLToPath(new URL('../bench.mjs', import.meta.url));

/** Runs a program to its end and gives what it printed. */
export async function run(program, args, { env = process.env, input = '' } = {}) {
  const child = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const ended = new Promise((resolve, reject) => child.once('error', reject).once('close', resolve));
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${stderr.slice(-2000)}`);
  return { stdout, stderr };
}

/** What libpq reads of a connection. */
function libpqEnvironment({ host, port, user, password, database }) {
  return { PATH: process.env.PATH, PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: database };
}

/** Runs a pipeline of the shell; its CPU seconds are those of all its programs. */
async function pipeline(script, env, args = []) {
  const startedAt = performance.now();
  const { stdout } = await run('bash', ['-c', `set -o pipefail; ${script} && times`, 'bench', ...args], { env });
  const seconds = (performance.now() - startedAt) / 1000;
  // `times` prints user and system of the shell, then of its children: 0m1.234s
  const times = [...stdout.matchAll(/(\d+)m([\d.]+)s/g)].map(([, minutes, rest]) => Number(minutes) * 60 + Number(rest));
  return { seconds, cpuSeconds: times.reduce((sum, time) => sum + time, 0) };
}

/** `pg_dump -Fc -Z0 | zstd -3 > file`, the measure of all speed. Nothing encrypts, hashes, counts or syncs here. */
export async function plainBackup({ programs, connection, folder }) {
  const file = join(folder, 'plain.dump.zst');
  await rm(file, { force: true });
  const measured = await pipeline('"$1" -Fc -Z0 | zstd -q -3 > "$2"', libpqEnvironment(connection), [programs.pgDump, file]);
  return { ...measured, storedBytes: (await stat(file)).size, file };
}

/** `zstd -d | pg_restore` into an empty database. */
export async function plainRestore({ programs, connection, file }) {
  const script = 'zstd -q -d < "$2" | "$1" --exit-on-error -d "$PGDATABASE"';
  return pipeline(script, libpqEnvironment(connection), [programs.pgRestore, file]);
}

/** `pg_restore -j2` of a plain local archive of the custom format: the measure of a restore. */
export async function parallelRestore({ programs, connection, file }) {
  const script = 'pg_restore="$1"; "$pg_restore" --exit-on-error -j2 -d "$PGDATABASE" "$2"';
  return pipeline(script, libpqEnvironment(connection), [programs.pgRestore, file]);
}

/** `zstd -d -o file` and `pg_restore -j2 file` of a packed archive: the measure of a drill. */
export async function unpackedRestore({ programs, connection, file, unpacked }) {
  const script = 'zstd -q -d -f "$2" -o "$3" && "$1" --exit-on-error -j2 -d "$PGDATABASE" "$3"';
  return pipeline(script, libpqEnvironment(connection), [programs.pgRestore, file, unpacked]);
}

/** The archive that it reads. */
export async function plainArchive({ programs, connection, folder }) {
  const file = join(folder, 'plain.dump');
  await pipeline('"$1" -Fc -Z0 -f "$2"', libpqEnvironment(connection), [programs.pgDump, file]);
  return file;
}

/** A backup or a restore by the engine, in a process of its own. */
export async function engineRun(dist, job) {
  const { stdout } = await run(process.execPath, [BENCH, '--engine-process', dist.href], { input: JSON.stringify(job) });
  const measured = JSON.parse(stdout);
  return { ...measured, cpuSeconds: measured.ownCpuSeconds + measured.childrenCpuSeconds };
}
