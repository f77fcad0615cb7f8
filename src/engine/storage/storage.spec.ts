import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { FakeSupabase } from '../../../test/support/fake-supabase.js';
import { summarizeStorage } from './check-storage.js';
import { packStorage } from './pack-storage.js';
import { restoreStorage } from './restore-storage.js';

let project: FakeSupabase;
let other: FakeSupabase;
beforeAll(async () => {
  project = await FakeSupabase.start();
  other = await FakeSupabase.start();
});
afterAll(async () => {
  await project.stop();
  await other.stop();
});
const never = new AbortController().signal;
const collect = async (stream: AsyncIterable<Buffer>) => {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
};
const streamed = (bytes: Buffer) => {
  const stream = new PassThrough();
  stream.end(bytes);
  return stream;
};

it('packs, sums up and restores buckets and objects, and any changed byte shows', async () => {
  project.makeBucket('a', { public: true });
  project.makeBucket('empty');
  const names = ['plain', 'q?x#y', 'a b%20', 'ü/ñ', '...', 'zero'];
  for (const name of names) project.put('a', name, name === 'zero' ? '' : `content of ${name}`, { metadata: { my_key: name } });
  project.put('a', 'large', randomBytes(7 * 1024 * 1024), { cacheControl: 'no-cache' });
  project.put('a', 'x/../y', 'no URL can name it');
  const packed = packStorage({ access: project.config, excludeBuckets: [] }, never);
  const tar = await collect(packed.stream as AsyncIterable<Buffer>);
  const { summary, omissions } = packed.result();
  expect(summary).toMatchObject({ buckets: 2, objects: names.length + 1 });
  expect(omissions).toEqual([{ schema: 'storage', name: 'a/x/../y', kind: 'object', reason: 'no URL can name it' }]);
  expect(await summarizeStorage(streamed(tar), () => {})).toEqual(summary);
  const changed = Buffer.from(tar);
  changed[tar.indexOf('content of plain')]! ^= 1;
  expect((await summarizeStorage(streamed(changed), () => {})).sha256).not.toBe(summary.sha256);

  const options = { target: other.config, existing: 'refuse' as const, signal: never, onBytes: () => {} };
  expect(await restoreStorage({ ...options, plain: streamed(tar) })).toEqual({ summary, warnings: [] });
  const again = packStorage({ access: other.config, excludeBuckets: [] }, never);
  await pipeline(again.stream, new PassThrough().resume());
  expect(again.result().summary).toEqual(summary);
});
