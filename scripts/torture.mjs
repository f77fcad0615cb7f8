/**
 * Kills the server in the middle of backups and restores, again and again at random moments, then damages backups, fills disks and
 * runs into every fault that the tests know. Last, 10,000 events go to receivers that misbehave, while servers are killed.
 *
 *     npm run torture -- [rounds of kills, 50 unless given]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { buildIfNeeded, ROOT } from './build.mjs';

const SPECS = ['crash', 'workers', 'runs', 'faults', 'damage', 'disk', 'webhook-torture'];
const rounds = Number(process.argv[2] ?? 50);
if (!Number.isInteger(rounds) || rounds < 1) {
  process.stderr.write('Give the number of rounds as a whole number from 1.\n');
  process.exit(1);
}
await buildIfNeeded();
const args = ['run', 'jest', '--', '--selectProjects', 'integration', '--runInBand', '--verbose'];
const jest = spawn('npm', [...args, '--testPathPatterns', `integration/(${SPECS.join('|')})\\.spec`], {
  cwd: ROOT,
  env: { ...process.env, TORTURE_ROUNDS: String(rounds) },
  stdio: 'inherit',
});
const [code] = await once(jest, 'exit');
process.exit(code ?? 1);
