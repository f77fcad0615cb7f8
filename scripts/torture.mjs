/**
 * The long form of what the tests show in short:
 *
 *     npm run torture -- [rounds of kills, 300 unless given] [rounds of stops and of damage to the catalog, 50 unless given]
 *
 * Kills and stops whatever takes part in backups and restores (`torture-runs.mjs`), damages the embedded catalog (`torture-catalog.mjs`),
 * then kills the server at more moments, damages backups, fills disks, lets them fail with EIO, and runs into every fault that the tests
 * know, those of a bucket at ten points of a backup and of a restore; kills it in removals, and holds retention's laws against 100,000 random histories. Last, 10,000 events go to receivers that misbehave, while servers are killed. Goes through all of it, whatever fails.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { buildIfNeeded, ROOT } from './build.mjs';

const SPECS = [
  'crash',
  'workers',
  'runs',
  'faults',
  'store-faults',
  'damage',
  'disk',
  'io-errors',
  'removal',
  'choose-kept',
  'webhook-torture',
  'audit-kills',
];
const [kills, others] = [Number(process.argv[2] ?? 300), Number(process.argv[3] ?? 50)];
if (![kills, others].every((rounds) => Number.isInteger(rounds) && rounds >= 1)) {
  process.stderr.write('Give the numbers of rounds as whole numbers from 1.\n');
  process.exit(1);
}
await buildIfNeeded();
const script = (name, ...args) => run(process.execPath, [join(ROOT, 'scripts', name), ...args]);
const failed = [];
if ((await script('torture-runs.mjs', '--kills', String(kills), '--stops', String(others))) !== 0)
  failed.push('torture-runs.mjs');
if ((await script('torture-catalog.mjs', '--rounds', String(others))) !== 0) failed.push('torture-catalog.mjs');
const jest = ['run', 'jest', '--', '--runInBand', '--verbose'];
if ((await run('npm', [...jest, '--testPathPatterns', `/(${SPECS.join('|')})\\.spec`])) !== 0) failed.push('the specs');
process.stdout.write(
  failed.length === 0 ? 'The torture found nothing.\n' : `The torture found faults in ${failed.join(', ')}.\n`,
);
process.exit(failed.length === 0 ? 0 : 1);

/** @returns its exit code */
async function run(program, args) {
  const env = {
    ...process.env,
    TORTURE_ROUNDS: String(others),
    REMOVAL_KILLS: String(kills),
    AUDIT_KILLS: String(others),
    RETENTION_HISTORIES: '100000',
    STORE_FAULTS: 'all',
  };
  const [code] = await once(spawn(program, args, { cwd: ROOT, env, stdio: 'inherit' }), 'exit');
  return code ?? 1;
}
