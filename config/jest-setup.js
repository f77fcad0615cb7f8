import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Before all tests: a folder for what they make once and share. Workers inherit the variable. */
export default async function setUp() {
  process.env['TEST_CACHE'] = await mkdtemp(join(tmpdir(), 'backstay-tests-'));
}
