import { existsSync } from 'node:fs';
import { cp, mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { EmbeddedHome } from '../../src/catalog/embedded/home.js';

/**
 * Puts an embedded catalog that nobody has used yet into a data folder that has none: making one takes PGlite seconds, a copy none.
 * The first server of a test run makes it, as any first start does.
 */
export async function placeEmptyCatalog(dataDir: string): Promise<void> {
  const cache = process.env['TEST_CACHE'];
  if (cache === undefined) throw new Error("TEST_CACHE is set by Jest's hook, config/jest-setup.js");
  const folder = join(dataDir, 'catalog');
  if (existsSync(folder)) return;
  const made = join(cache, 'catalog');
  if (!existsSync(made)) await make(cache, made);
  await cp(made, folder, { recursive: true });
}

/** Two workers may make one each: the first is kept. */
async function make(cache: string, made: string): Promise<void> {
  const own = await mkdtemp(join(cache, 'making-'));
  const { home, opened } = await EmbeddedHome.open(own);
  await home.close(opened);
  await rename(own, made).catch(() => rm(own, { recursive: true }));
}
