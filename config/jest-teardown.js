import { rm } from 'node:fs/promises';

/** After all tests: what they shared goes. */
export default async function tearDown() {
  await rm(process.env['TEST_CACHE'], { recursive: true, force: true });
}
