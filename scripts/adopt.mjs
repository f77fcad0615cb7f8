/** `npm run adopt -- LOCATION …`: builds what is not built, then is `backstay adopt`. */
import './require-node.mjs';
import { buildIfNeeded } from './build.mjs';

await buildIfNeeded();
process.argv.splice(2, 0, 'adopt');
await import('../dist/cli/main.js');
