/** Imported first by every script: an old Node would stop with an error about syntax or a missing export, which helps nobody. */
import { readFileSync } from 'node:fs';

const { engines } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
const [least, have] = [engines.node.replace('>=', ''), process.versions.node].map((version) => version.split('.').map(Number));
if (have[0] < least[0] || (have[0] === least[0] && have[1] < least[1])) {
  process.stderr.write(
    `Backstay needs Node ${least.join('.')} or newer, and this is Node ${process.versions.node}.\n` +
      'In a clone, run it through npm: `npm ci` installs a right Node into node_modules, and `npm start` uses it.\n' +
      'Elsewhere, install Node 24 from https://nodejs.org/en/download.\n',
  );
  process.exit(1);
}
