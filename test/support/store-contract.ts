import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { ArtifactStore, StoredObject } from '../../src/engine/store/artifact-store.js';
import { readAll } from '../../src/engine/store/read-all.js';

/** A store under test, and how to look at it from outside. */
export interface StoreUnderTest {
  store: ArtifactStore;
  /** Everything stored, temporary things included, by any name. */
  everything(): Promise<string[]>;
  close(): Promise<void>;
}

export const HOSTILE_KEYS = [
  '',
  '/',
  '/etc/passwd',
  '../x',
  'a/../x',
  'a/..',
  '.',
  'a/./b',
  'a//b',
  'a/',
  'a\0b',
  'a\\b',
  'a b',
  'ä',
  'a\n',
  '.tmp-x',
  'a/.tmp-x/b',
  'x'.repeat(201),
  Array(200).fill('abcdefgh').join('/'),
];

/** What every driver of the port must do. `open` gives a fresh, empty store each time. @param writes fewer for those that start a program for each call */
export function describeStoreContract(name: string, open: () => Promise<StoreUnderTest>, { writes = 15 } = {}): void {
  describe(`the store contract, kept by ${name}`, () => {
    let test: StoreUnderTest;
    let store: ArtifactStore;
    beforeEach(async () => {
      test = await open();
      store = test.store;
    });
    afterEach(() => test.close());

    const put = (key: string, content: Buffer | string, overwrite = false) =>
      store.write(key, Readable.from([Buffer.from(content)]), { overwrite });
    const get = async (key: string, range = {}) => {
      const parts: Buffer[] = [];
      for await (const part of await store.read(key, range)) parts.push(part as Buffer);
      return Buffer.concat(parts);
    };
    const keys = async (prefix: string) => (await collect(store.list(prefix))).map(({ key }) => key).sort();

    it.each([0, 1, 65_535, 65_536, 1_048_576, 5_000_003])('gives back the %d bytes that were written', async (size) => {
      const content = randomBytes(size);
      expect(await store.write('a/b/object', inPieces(content, 70_001))).toEqual({ bytes: size });
      expect((await get('a/b/object')).equals(content)).toBe(true);
      expect(await store.stat('a/b/object')).toEqual({ bytes: size, modifiedAt: expect.any(Date) });
    });

    it('takes an async iterable as well as a stream', async () => {
      await store.write(
        'it',
        (async function* () {
          yield Buffer.from('one ');
          yield Buffer.alloc(0);
          yield Buffer.from('two');
        })(),
      );
      expect(String(await get('it'))).toBe('one two');
    });

    it('reads ranges whose last byte is included', async () => {
      await put('range', '0123456789');
      expect(String(await get('range', { start: 2, end: 4 }))).toBe('234');
      expect(String(await get('range', { start: 9 }))).toBe('9');
      expect(String(await get('range', { end: 0 }))).toBe('0');
      expect(String(await get('range', { start: 5, end: 500 }))).toBe('56789');
      expect(String(await get('range', { start: 10 }))).toBe('');
    });

    it('says of a missing object that it is missing', async () => {
      expect(await store.stat('no/such')).toBeNull();
      await expect(store.read('no/such')).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
      await expect(store.rename('no/such', 'other')).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
      await expect(store.remove('no/such')).resolves.toBeUndefined();
      await expect(store.removeTree('no')).resolves.toBeUndefined();
      expect(await keys('no')).toEqual([]);
    });

    it('does not take a folder for an object', async () => {
      await put('folder/object', 'x');
      expect(await store.stat('folder')).toBeNull();
      await expect(store.read('folder')).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
    });

    it('refuses to overwrite unless told to, and then replaces the object as a whole', async () => {
      await put('twice', 'first, and longer');
      await expect(put('twice', 'second')).rejects.toMatchObject({ code: 'OBJECT_EXISTS' });
      expect(String(await get('twice'))).toBe('first, and longer');
      await put('twice', 'second', true);
      expect(String(await get('twice'))).toBe('second');
      expect(await test.everything()).toEqual(['twice']);
    });

    it('leaves the old object whole when an overwrite fails', async () => {
      await put('kept', 'old');
      await expect(store.write('kept', failingAfter(3_000_000), { overwrite: true })).rejects.toThrow('the source broke');
      expect(String(await get('kept'))).toBe('old');
      expect(await test.everything()).toEqual(['kept']);
    });

    it('leaves nothing when the body fails in the middle, and throws what the body threw', async () => {
      await expect(store.write('deep/er/object', failingAfter(3_000_000))).rejects.toThrow('the source broke');
      expect(await test.everything()).toEqual([]);
    });

    it('takes a body that is closed before its end for a failure', async () => {
      const body = new Readable({ read() {} });
      body.push(Buffer.alloc(100_000));
      setImmediate(() => body.destroy());
      await expect(store.write('cut', body)).rejects.toThrow();
      expect(await test.everything()).toEqual([]);
    });

    it('leaves nothing when it is aborted in the middle, while the body gives nothing', async () => {
      const abort = new AbortController();
      let asked = 0;
      const body = new Readable({
        read() {
          asked += 1;
          if (asked < 40) this.push(Buffer.alloc(65_536));
          else abort.abort(new Error('enough'));
        },
      });
      await expect(store.write('aborted/object', body, { signal: abort.signal })).rejects.toThrow('enough');
      expect(body.destroyed).toBe(true);
      expect(await test.everything()).toEqual([]);
    });

    it('does nothing once the signal has aborted', async () => {
      await put('object', 'x');
      const signal = AbortSignal.abort(new Error('enough'));
      await expect(store.write('other', Readable.from([Buffer.from('y')]), { signal })).rejects.toThrow('enough');
      await expect(store.read('object', { signal })).rejects.toThrow('enough');
      await expect(store.stat('object', { signal })).rejects.toThrow('enough');
      await expect(store.rename('object', 'other', { signal })).rejects.toThrow('enough');
      await expect(store.remove('object', { signal })).rejects.toThrow('enough');
      await expect(store.removeTree('object', { signal })).rejects.toThrow('enough');
      await expect(collect(store.list('', { signal }))).rejects.toThrow('enough');
      expect(await test.everything()).toEqual(['object']);
    });

    it('ends a read with the reason when it is aborted in the middle', async () => {
      await put('long', Buffer.alloc(8_000_000));
      const abort = new AbortController();
      const stream = await store.read('long', { signal: abort.signal });
      const reading = (async () => {
        for await (const _ of stream) abort.abort(new Error('enough'));
      })();
      await expect(reading).rejects.toThrow('enough');
    });

    it('destroys the body when it refuses a write, so that whoever feeds it does not hang', async () => {
      await put('there', 'x');
      const body = new Readable({ read() {} });
      await expect(store.write('there', body)).rejects.toMatchObject({ code: 'OBJECT_EXISTS' });
      expect(body.destroyed).toBe(true);
    });

    it('lets exactly one of many writers of the same key win, whole', async () => {
      const results = await Promise.allSettled(
        Array.from({ length: 8 }, (_, i) => store.write('race', inPieces(Buffer.alloc(300_000, i), 10_000))),
      );
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      const losers = results.filter((result) => result.status === 'rejected');
      expect(new Set(losers.map(({ reason }) => (reason as { code: string }).code))).toEqual(new Set(['OBJECT_EXISTS']));
      expect(new Set(await get('race')).size).toBe(1);
      expect(await test.everything()).toEqual(['race']);
    });

    it('keeps writers apart from removals that empty their folders', async () => {
      const rounds = Array.from({ length: 8 }, async (_, i) => {
        for (let round = 0; round < writes; round += 1) {
          await put(`shared/deep/object-${i}`, `${i}-${round}`);
          expect(String(await get(`shared/deep/object-${i}`))).toBe(`${i}-${round}`);
          await store.remove(`shared/deep/object-${i}`);
        }
      });
      await Promise.all(rounds);
      expect(await test.everything()).toEqual([]);
    });

    it('lists every object below a folder, and nothing beside it', async () => {
      for (const key of ['a/1', 'a/b/2', 'a/b/c/3', 'ab/4', '5']) await put(key, key);
      expect(await keys('')).toEqual(['5', 'a/1', 'a/b/2', 'a/b/c/3', 'ab/4']);
      expect(await keys('a')).toEqual(['a/1', 'a/b/2', 'a/b/c/3']);
      expect(await keys('a/')).toEqual(['a/1', 'a/b/2', 'a/b/c/3']);
      const [found] = await collect(store.list('a/b/c'));
      expect(found).toEqual({ key: 'a/b/c/3', bytes: 7, modifiedAt: expect.any(Date) });
    });

    it('shows no object before it is whole', async () => {
      const body = new Readable({ read() {} });
      const writing = store.write('slow/object', body);
      body.push(Buffer.alloc(2_000_000));
      expect(await store.stat('slow/object')).toBeNull();
      expect(await keys('')).toEqual([]);
      body.push(null);
      await writing;
      expect(await keys('')).toEqual(['slow/object']);
    });

    it('renames into a new folder, keeps the content and never overwrites', async () => {
      await put('from/.attempt-1/object', 'content');
      await put('taken', 'other');
      await expect(store.rename('from/.attempt-1/object', 'taken')).rejects.toMatchObject({ code: 'OBJECT_EXISTS' });
      expect(String(await get('taken'))).toBe('other');
      await store.rename('from/.attempt-1/object', 'to/object');
      expect(String(await get('to/object'))).toBe('content');
      expect(await test.everything()).toEqual(['taken', 'to/object']);
    });

    it('removes an object again and again, and a tree with everything in it', async () => {
      for (const key of ['t/1', 't/u/2', 'tt/3']) await put(key, key);
      await store.remove('t/1');
      await store.remove('t/1');
      expect(await keys('')).toEqual(['t/u/2', 'tt/3']);
      await store.removeTree('t/');
      expect(await test.everything()).toEqual(['tt/3']);
    });

    it.each(HOSTILE_KEYS)('refuses the key %j in every call', async (key) => {
      const refusal = { code: 'STORE_FAILED' };
      const body = new Readable({ read() {} });
      await expect(store.write(key, body)).rejects.toMatchObject(refusal);
      expect(body.destroyed).toBe(true);
      await expect(store.read(key)).rejects.toMatchObject(refusal);
      await expect(store.stat(key)).rejects.toMatchObject(refusal);
      await expect(store.rename(key, 'ok')).rejects.toMatchObject(refusal);
      await put('ok', 'x');
      await expect(store.rename('ok', key)).rejects.toMatchObject(refusal);
      await expect(store.remove(key)).rejects.toMatchObject(refusal);
      // With one slash at its end a name is that of a folder, and the empty one is the whole store.
      if (key !== 'a/') await expect(store.removeTree(key)).rejects.toMatchObject(refusal);
      if (key !== 'a/' && key !== '') await expect(collect(store.list(key))).rejects.toMatchObject(refusal);
      expect(await test.everything()).toEqual(['ok']);
    });

    it('checks itself and leaves nothing behind', async () => {
      await store.check();
      expect(await test.everything()).toEqual([]);
    });

    it('refuses at once what can never fit', async () => {
      const free = await store.freeBytes();
      if (free === null) return void expect(free).toBeNull();
      expect(free).toBeGreaterThan(0);
      await expect(store.write('huge', Readable.from([Buffer.from('x')]), { expectedBytes: 2 ** 60 })).rejects.toMatchObject({
        code: 'DISK_FULL',
      });
      expect(await test.everything()).toEqual([]);
    });

    it('reads a small object whole, and refuses one that is too large for that', async () => {
      await put('small', '12345');
      expect(String(await readAll(store, 'small', 5))).toBe('12345');
      await expect(readAll(store, 'small', 4)).rejects.toMatchObject({ code: 'STORE_FAILED' });
    });
  });
}

async function collect(objects: AsyncIterable<StoredObject>): Promise<StoredObject[]> {
  const found: StoredObject[] = [];
  for await (const object of objects) found.push(object);
  return found;
}

function inPieces(content: Buffer, size: number): Readable {
  let offset = 0;
  return new Readable({
    read() {
      const piece = content.subarray(offset, (offset += size));
      this.push(piece.length > 0 ? piece : null);
    },
  });
}

function failingAfter(bytes: number): Readable {
  let given = 0;
  return new Readable({
    read() {
      if (given >= bytes) return void this.destroy(new Error('the source broke'));
      given += 65_536;
      this.push(Buffer.alloc(65_536, 7));
    },
  });
}
