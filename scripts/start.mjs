/** `npm start`: builds what is not built, then becomes the server, in this very process, so that signals reach it. */
import './require-node.mjs';
import { buildIfNeeded } from './build.mjs';

try {
  await buildIfNeeded();
} catch (error) {
  process.stderr.write(`Backstay can't start.\n${error.message}\n`);
  process.exit(1);
}
await import('../dist/main.js');
