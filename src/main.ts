import { isTooOld, LEAST_NODE } from './node-version.js';

// Everything else is loaded after this: an old Node would stop at the first import that it does not know, and say no more.
if (isTooOld(process.versions.node)) {
  process.stderr.write(
    `Backstay needs Node ${LEAST_NODE} or newer, and this is Node ${process.versions.node}. Install Node 24: https://nodejs.org/en/download\n`,
  );
  process.exitCode = 1;
} else {
  const { serve } = await import('./serve.js');
  await serve();
}
