import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, constants, readdir, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));
const BUILD_INPUTS = ['src', 'package.json', 'nest-cli.json', 'tsconfig.json', 'tsconfig.build.json'];
const NEST = join(ROOT, 'node_modules/@nestjs/cli/bin/nest.js');
/** The compiler writes it at each build that changed anything. */
const STAMP = join(ROOT, 'dist/.tsbuildinfo');
const MAIN = join(ROOT, 'dist/main.js');

/**
 * Compiles the server where `dist` is missing or older than the sources. An image has neither sources nor compiler, and a
 * read-only file system takes no new build: what was built is run there.
 * @throws Error with what to do, when there is nothing to run
 */
export async function buildIfNeeded() {
  const built = await exists(MAIN);
  if (built && !(await isStale())) return;
  const canBuild = (await exists(join(ROOT, 'src/main.ts'))) && (await exists(NEST)) && (await isWritable());
  if (canBuild) await build();
  else if (!built)
    throw new Error(
      'There is no build in dist, and it cannot be made here. Run `npm ci` and `npm run build` in a writable clone.',
    );
}

async function isStale() {
  const builtAt = await changedAt(STAMP);
  for (const input of BUILD_INPUTS) if ((await newest(join(ROOT, input))) > builtAt) return true;
  return false;
}

async function newest(path) {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = entries
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.spec.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
  return Math.max(...(await Promise.all([path, ...files].map(changedAt))));
}

async function build() {
  process.stderr.write('Building …\n');
  const compiler = spawn(process.execPath, [NEST, 'build'], { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] });
  const [code] = await once(compiler, 'exit');
  // A build that found nothing changed leaves its stamp old, and one that failed leaves a new one.
  const stamp = new Date(code === 0 ? Date.now() : 0);
  await utimes(STAMP, stamp, stamp).catch(() => undefined);
  if (code !== 0) throw new Error('The build failed; the compiler said why above.');
}

async function isWritable() {
  return access((await exists(join(ROOT, 'dist'))) ? join(ROOT, 'dist') : ROOT, constants.W_OK).then(
    () => true,
    () => false,
  );
}

async function changedAt(path) {
  return (await stat(path).catch(() => undefined))?.mtimeMs ?? 0;
}

async function exists(path) {
  return (await changedAt(path)) > 0;
}
