import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { PassThrough, Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { LocalStore } from '../store/local-store.js';
import { createAgeDecryptor } from './age-decrypt.js';
import { createAgeEncryptor } from './age-encrypt.js';
import { artifactName, isCompressed } from './artifact-name.js';
import { checkArtifact, readArtifactPlain } from './artifact-reader.js';
import { writeArtifact, type ArtifactDigest, type WriteArtifactOptions } from './artifact-writer.js';
import { generateAgeKeyPair, type AgeKeyPair } from './keys.js';
import { until } from '../../../test/support/until.js';

const CHUNK = 64 * 1024;
let root: string;
let store: LocalStore;
let keys: AgeKeyPair;
let count = 0;

beforeAll(async () => {
  root = await mkdtemp(path.join(os.tmpdir(), 'backstay-artifact-'));
  store = new LocalStore(root);
  keys = await generateAgeKeyPair();
});
afterAll(() => rm(root, { recursive: true }));

interface Stored {
  key: string;
  name: string;
  digest: ArtifactDigest;
}

async function write(plain: Buffer, compress = true): Promise<Stored> {
  const name = artifactName('database.dump', compress);
  const key = `${(count += 1)}/${name}`;
  const digest = await writeArtifact({
    store,
    key,
    source: Readable.from(pieces(plain, 9973)),
    compress,
    recipients: [keys.recipient],
  });
  return { key, name, digest };
}

async function read(
  { key, name, digest }: Stored,
  identities = [keys.identity],
  expected: ArtifactDigest | undefined = digest,
): Promise<Buffer> {
  return Buffer.concat((await (await readArtifactPlain({ store, key, name, identities, expected })).toArray()) as Buffer[]);
}

/** The same artifact with other bytes in the store. */
async function replaced(stored: Stored, bytes: Buffer): Promise<Stored> {
  await writeFile(path.join(root, stored.key), bytes);
  return stored;
}

const bytesOf = ({ key }: Stored) => readFile(path.join(root, key));

describe('an artifact', () => {
  describe.each([true, false])('with compress %s', (compress) => {
    it.each([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * 1024 * 1024])('of %d bytes comes back as it was', async (size) => {
      const plain = randomBytes(size);
      const stored = await write(plain, compress);
      expect((await read(stored)).equals(plain)).toBe(true);
      const bytes = await bytesOf(stored);
      expect(stored.digest).toEqual({
        plainBytes: size,
        plainSha256: hash(plain),
        storedBytes: bytes.length,
        storedSha256: hash(bytes),
      });
      await checkArtifact({ store, ...stored, expected: stored.digest });
      await checkArtifact({ store, ...stored, expected: stored.digest, identities: [keys.identity] });
    });

    it('never ends well with a bit flipped, with or without the manifest', async () => {
      const stored = await write(rows(300_000), compress);
      const bytes = await bytesOf(stored);
      const random = seeded(42);
      for (let round = 0; round < 200; round += 1) {
        // The first hundred fall into the header, where a flip could look like a wrong key.
        const at = Math.floor(random() * (round < 100 ? 220 : bytes.length));
        const changed = Buffer.from(bytes);
        changed[at]! ^= 1 << Math.floor(random() * 8);
        await replaced(stored, changed);
        await expect(read(stored)).rejects.toMatchObject({
          code: 'ARTIFACT_CORRUPT',
          message: expect.stringContaining(stored.name),
        });
        if (round % 4 > 0) continue;
        const withoutManifest = await readArtifactPlain({ store, ...stored, identities: [keys.identity] });
        await expect(withoutManifest.toArray()).rejects.toMatchObject({
          code: expect.stringMatching(/^(ARTIFACT_CORRUPT|KEY_UNAVAILABLE)$/),
        });
        await expect(checkArtifact({ store, ...stored, expected: stored.digest })).rejects.toMatchObject({
          code: 'ARTIFACT_CORRUPT',
        });
      }
    });

    it('never ends well when it is cut or lengthened', async () => {
      const stored = await write(randomBytes(3 * CHUNK), compress);
      const bytes = await bytesOf(stored);
      const random = seeded(7);
      const cuts = [
        0,
        1,
        21,
        22,
        100,
        bytes.length - 1,
        bytes.length - 16,
        bytes.length - 17,
        ...Array.from({ length: 60 }, () => Math.floor(random() * bytes.length)),
      ];
      for (const changed of [
        ...cuts.map((cut) => bytes.subarray(0, cut)),
        Buffer.concat([bytes, Buffer.alloc(1)]),
        Buffer.concat([bytes, bytes]),
      ]) {
        await replaced(stored, changed);
        await expect(read(stored)).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
        await expect(checkArtifact({ store, ...stored, expected: stored.digest })).rejects.toMatchObject({
          code: 'ARTIFACT_CORRUPT',
        });
        await expect(
          checkArtifact({ store, ...stored, expected: stored.digest, identities: [keys.identity] }),
        ).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
      }
    });
  });

  it('is refused when it is genuine but not the one that the manifest names', async () => {
    const [wanted, other] = [await write(rows(200_000)), await write(rows(200_001))];
    await replaced(wanted, await bytesOf(other));
    await expect(read(wanted)).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
  });

  it.each(['storedBytes', 'storedSha256', 'plainBytes', 'plainSha256'] as const)(
    'is refused when its %s differs from the manifest',
    async (field) => {
      const stored = await write(rows(200_000));
      const value = field.endsWith('Bytes') ? stored.digest[field as 'plainBytes'] + 1 : '0'.repeat(64);
      await expect(read(stored, undefined, { ...stored.digest, [field]: value })).rejects.toMatchObject({
        code: 'ARTIFACT_CORRUPT',
        message: expect.stringContaining(field),
      });
    },
  );

  it('stops early when it holds more than the manifest says', async () => {
    const stored = await write(Buffer.alloc(50_000_000));
    const given: number[] = [];
    const stream = await readArtifactPlain({
      store,
      ...stored,
      identities: [keys.identity],
      expected: { ...stored.digest, plainBytes: 1000 },
    });
    stream.on('data', (chunk: Buffer) => given.push(chunk.length));
    await expect(new Promise((_, reject) => stream.once('error', reject))).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
    expect(given).toEqual([]);
  });

  it('does not open with another key, and says so', async () => {
    const stored = await write(rows(100_000));
    const other = await generateAgeKeyPair();
    await expect(read(stored, [other.identity])).rejects.toMatchObject({
      code: 'KEY_UNAVAILABLE',
      message: expect.stringContaining(stored.name),
    });
    await expect(
      checkArtifact({ store, ...stored, expected: stored.digest, identities: [other.identity] }),
    ).rejects.toMatchObject({ code: 'KEY_UNAVAILABLE' });
    expect((await read(stored, [other.identity, keys.identity])).equals(rows(100_000))).toBe(true);
  });

  it('is refused when its compressed data is cut or followed by other bytes, though age finds it whole', async () => {
    const stored = await write(rows(100_000));
    const packed = zstdCompressSync(rows(100_000));
    for (const inside of [
      packed.subarray(0, packed.length - 1),
      packed.subarray(0, 1000),
      Buffer.alloc(0),
      Buffer.concat([packed, Buffer.from('more')]),
      Buffer.concat([packed, Buffer.alloc(300_000)]),
    ]) {
      const encryptor = await createAgeEncryptor([keys.recipient]);
      const [, sealed] = await Promise.all([pipeline(Readable.from([inside]), encryptor), encryptor.toArray()]);
      await replaced(stored, Buffer.concat(sealed as Buffer[]));
      const stream = await readArtifactPlain({ store, ...stored, identities: [keys.identity] });
      await expect(stream.toArray()).rejects.toMatchObject({ code: 'ARTIFACT_CORRUPT' });
    }
  });

  it('says that it is missing when it is', async () => {
    const options = { store, key: 'no/such', name: 'database.dump.age', identities: [keys.identity] };
    await expect(readArtifactPlain(options)).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  });

  it('tells by its name how it is read', () => {
    expect(artifactName('database.dump', true)).toBe('database.dump.zst.age');
    expect(artifactName('database.dump', false)).toBe('database.dump.age');
    expect([true, false].map((compress) => isCompressed(artifactName('a.zst', compress)))).toEqual([true, true]);
    expect(isCompressed('database.dump.age')).toBe(false);
  });

  it('is zstd in age, as any other program reads them', async () => {
    const stored = await write(rows(100_000));
    const decryptor = await createAgeDecryptor([keys.identity]);
    const [, packed] = await Promise.all([pipeline(Readable.from([await bytesOf(stored)]), decryptor), decryptor.toArray()]);
    expect(zstdDecompressSync(Buffer.concat(packed as Buffer[])).equals(rows(100_000))).toBe(true);
  });
});

describe('writing an artifact', () => {
  it('passes the plain bytes through the given streams, in large chunks, and tells how far it is', async () => {
    const seen: number[] = [];
    const told: number[] = [];
    const inspector = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        seen.push(chunk.length);
        done(null, chunk);
      },
    });
    const plain = rows(1_000_000);
    await writeArtifact({
      store,
      key: 'seen',
      source: Readable.from(pieces(plain, 1000)),
      through: [inspector],
      compress: true,
      recipients: [keys.recipient],
      onBytes: (bytes) => told.push(bytes),
    });
    expect(seen.reduce((sum, length) => sum + length)).toBe(plain.length);
    expect(seen.length).toBeLessThanOrEqual(5);
    expect(told.at(-1)).toBe(plain.length);
    expect(told).toEqual([...told].sort((a, b) => a - b));
  });

  it('leaves nothing and throws the cause when the source fails in the middle', async () => {
    const source = endless(() => new Error('the dump broke'));
    await expect(attempt(source)).rejects.toThrow('the dump broke');
    await expectNothingLeft(source);
  });

  it('leaves nothing and throws the cause when a stream on the way fails, even at the very end', async () => {
    const inspector = new Transform({
      transform: (chunk: Buffer, _encoding, done) => done(null, chunk),
      flush: (done) => done(new Error('the archive is cut')),
    });
    const source = Readable.from(pieces(rows(500_000), 50_000));
    await expect(attempt(source, { through: [inspector] })).rejects.toThrow('the archive is cut');
    await expectNothingLeft(source, inspector);
  });

  it('ends the source and throws what the store threw when the store fails', async () => {
    const source = endless();
    const full = new LocalStore(root);
    full.write = async (_key, body) => {
      let taken = 0;
      for await (const chunk of body as AsyncIterable<Buffer>) {
        taken += chunk.length;
        if (taken > 500_000) throw Object.assign(new Error('the disk is full'), { code: 'DISK_FULL' });
      }
      return { bytes: taken };
    };
    await expect(attempt(source, { store: full })).rejects.toMatchObject({ code: 'DISK_FULL' });
    await expectNothingLeft(source);
  });

  it('refuses an existing key before the source has run dry', async () => {
    const source = endless();
    await store.write('taken/artifact', [Buffer.from('x')]);
    await expect(attempt(source, { key: 'taken/artifact' })).rejects.toMatchObject({ code: 'OBJECT_EXISTS' });
    expect(source.destroyed).toBe(true);
  });

  it('does not believe a store that took fewer bytes than it was given', async () => {
    const forgetful = new LocalStore(root);
    forgetful.write = async (_key, body) => {
      let taken = 0;
      for await (const chunk of body as AsyncIterable<Buffer>) taken += chunk.length;
      return { bytes: taken - 1 };
    };
    await expect(attempt(Readable.from([rows(1000)]), { store: forgetful })).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });

  it('ends everything with the reason when it is aborted while the source is silent', async () => {
    const abort = new AbortController();
    const source = new PassThrough();
    source.write(Buffer.alloc(1_000_000));
    const writing = attempt(source, {
      signal: abort.signal,
      onBytes: () => setImmediate(() => abort.abort(new Error('enough'))),
    });
    await expect(writing).rejects.toThrow('enough');
    await expectNothingLeft(source);
  });

  it('ends the source when a recipient is refused', async () => {
    const source = new PassThrough();
    await expect(attempt(source, { recipients: ['age1nonsense'] })).rejects.toMatchObject({ code: 'KEY_INVALID' });
    await expect(attempt(source, { recipients: [] })).rejects.toMatchObject({ code: 'KEY_INVALID' });
    await expectNothingLeft(source);
  });

  it('reads its source no faster than the store takes', async () => {
    let given = 0;
    const source = new Readable({
      read() {
        given += 65_536;
        this.push(randomBytes(65_536));
      },
    });
    const abort = new AbortController();
    const stuck = new LocalStore(root);
    stuck.write = (_key, body, options) =>
      new Promise((_, reject) => {
        // Takes one chunk and never asks for another.
        void (body as AsyncIterable<Buffer>)[Symbol.asyncIterator]().next();
        options?.signal?.addEventListener('abort', () => reject(new Error('stopped')));
      });
    const writing = attempt(source, { store: stuck, compress: false, signal: abort.signal });
    // Before the first read there is nobody yet who would hear of an abort.
    await until(() => given > 0);
    await settled(() => given);
    expect(given).toBeLessThan(16 * 1024 * 1024);
    abort.abort(new Error('enough'));
    await expect(writing).rejects.toThrow('enough');
  });
});

describe('reading an artifact', () => {
  it('lets go of the store when its reader stops early, even before the first byte', async () => {
    const stored = await write(randomBytes(5_000_000));
    const opened: Readable[] = [];
    const watched = new LocalStore(root);
    const original = watched.read.bind(watched);
    watched.read = async (...args) => {
      const stream = await original(...args);
      opened.push(stream);
      return stream;
    };
    const untouched = await readArtifactPlain({ store: watched, ...stored, identities: [keys.identity] });
    untouched.destroy();
    const begun = await readArtifactPlain({ store: watched, ...stored, identities: [keys.identity] });
    for await (const _ of begun) break;
    await Promise.all(opened.map((stream) => stream.closed || new Promise((resolve) => stream.once('close', resolve))));
    expect(opened).toHaveLength(2);
  });

  it('ends with the reason when it is aborted', async () => {
    const stored = await write(randomBytes(5_000_000));
    const abort = new AbortController();
    const stream = await readArtifactPlain({
      store,
      ...stored,
      identities: [keys.identity],
      expected: stored.digest,
      signal: abort.signal,
    });
    const reading = (async () => {
      for await (const _ of stream) abort.abort(new Error('enough'));
    })();
    await expect(reading).rejects.toThrow('enough');
    await expect(
      checkArtifact({ store, ...stored, expected: stored.digest, signal: AbortSignal.abort(new Error('no')) }),
    ).rejects.toThrow('no');
  });
});

function attempt(source: Readable, options: Partial<WriteArtifactOptions> = {}): Promise<ArtifactDigest> {
  return writeArtifact({ store, key: 'failed/artifact', source, compress: true, recipients: [keys.recipient], ...options });
}

async function expectNothingLeft(...streams: Readable[]): Promise<void> {
  expect(await readdir(root)).not.toContain('failed');
  expect(streams.map(({ destroyed }) => destroyed)).toEqual(streams.map(() => true));
}

function* pieces(bytes: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Text as in a dump: compressible, the same for the same length. */
function rows(length: number): Buffer {
  const random = seeded(length);
  let text = '';
  while (text.length < length) text += `${Math.floor(random() * 1e9)}\tsome text that comes again\t${random()}\n`;
  return Buffer.from(text.slice(0, length));
}

/** Random bytes without an end, or up to 3 MB and then a failure. */
function endless(failure?: () => Error): Readable {
  let given = 0;
  return new Readable({
    read() {
      if (failure !== undefined && given > 3_000_000) return void this.destroy(failure());
      given += 65_536;
      this.push(randomBytes(65_536));
    },
  });
}

/** Resolves once a number has stayed the same over many turns of the event loop. */
async function settled(value: () => number): Promise<void> {
  let [last, same] = [value(), 0];
  while (same < 500) {
    await new Promise((resolve) => setImmediate(resolve));
    same = value() === last ? same + 1 : 0;
    last = value();
  }
}

function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
