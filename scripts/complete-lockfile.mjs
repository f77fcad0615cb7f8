/**
 * Gives package-lock.json an entry for each optional package that its packages name and that the registry at hand did not have, such as
 * builds for other platforms: without them `npm ci` refuses the lockfile on every machine (npm/cli#9846). Run it after `npm install`.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const FILE = new URL('../package-lock.json', import.meta.url);
const lock = JSON.parse(readFileSync(FILE, 'utf8'));

const missing = new Map();
for (const [at, entry] of Object.entries(lock.packages)) {
  for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
    const known = [`node_modules/${name}`, `${at}/node_modules/${name}`].some((place) => lock.packages[place]);
    if (!known) missing.set(name, range);
  }
}

for (const [name, range] of missing) {
  const [os] = /android|darwin|freebsd|linux|openharmony|win32/.exec(name) ?? [];
  const [cpu] = /arm64|arm(?!64)|x64|ia32|ppc64|riscv64|s390x|loong64|wasm32/.exec(name) ?? [];
  const libc = /musl/.test(name) ? 'musl' : /linux.*gnu/.test(name) ? 'glibc' : undefined;
  lock.packages[`node_modules/${name}`] = {
    version: range.replace(/^[\^~]/, ''),
    dev: true,
    optional: true,
    ...(cpu ? { cpu: [cpu] } : {}),
    ...(libc ? { libc: [libc] } : {}),
    ...(os ? { os: [os] } : {}),
  };
}

lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(FILE, `${JSON.stringify(lock, null, 2)}\n`);
process.stdout.write(`${missing.size} entries added\n`);
