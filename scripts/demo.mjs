/**
 * `npm run demo`: the whole product in a minute, on a PostgreSQL of its own. With `--once` everything is stopped and removed after
 * the proof; exit 0 means that the restored database equals the source.
 */
import './require-node.mjs';
import { buildIfNeeded } from './build.mjs';

try {
  await buildIfNeeded();
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}
const { demo } = await import('./demo/story.mjs');
process.exit(await demo({ stopAfterProof: process.argv.includes('--once') }));
