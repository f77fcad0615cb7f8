import { describe, expect, it } from '@jest/globals';
import { Decrypter, Encrypter } from 'age-encryption';
import { randomBytes } from 'node:crypto';
import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AgeFailure, createAgeDecryptor } from './age-decrypt.js';
import { createAgeEncryptor } from './age-encrypt.js';
import { generateAgeKeyPair } from './keys.js';

const CHUNK = 64 * 1024;
const SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * 1024 * 1024];

async function through(input: Buffer, stage: Transform, piece = 50_000): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (let at = 0; at < input.length; at += piece) pieces.push(input.subarray(at, at + piece));
  const [, output] = await Promise.all([pipeline(Readable.from(pieces), stage), stage.toArray()]);
  return Buffer.concat(output as Buffer[]);
}

const encrypt = async (plain: Buffer, recipients: string[], piece?: number) =>
  through(plain, await createAgeEncryptor(recipients), piece);
const decrypt = async (sealed: Buffer, identities: string[], piece?: number) =>
  through(sealed, await createAgeDecryptor(identities), piece);

describe('age files', () => {
  it.each(SIZES)('of %d bytes made here are opened by the age library', async (size) => {
    const { identity, recipient } = await generateAgeKeyPair();
    const plain = randomBytes(size);
    const decrypter = new Decrypter();
    decrypter.addIdentity(identity);
    const opened = await decrypter.decrypt(await encrypt(plain, [recipient]));
    expect(Buffer.from(opened).equals(plain)).toBe(true);
  });

  it.each(SIZES)('of %d bytes made by the age library are opened here', async (size) => {
    const { identity, recipient } = await generateAgeKeyPair();
    const plain = randomBytes(size);
    const encrypter = new Encrypter();
    encrypter.addRecipient(recipient);
    const sealed = Buffer.from(await encrypter.encrypt(plain));
    expect((await decrypt(sealed, [identity])).equals(plain)).toBe(true);
  });

  it('come out the same in whatever pieces they go in', async () => {
    const { identity, recipient } = await generateAgeKeyPair();
    const plain = randomBytes(3 * CHUNK);
    for (const piece of [1009, CHUNK - 1, CHUNK, CHUNK + 16, 3 * CHUNK]) {
      const sealed = await encrypt(plain, [recipient], piece);
      expect((await decrypt(sealed, [identity], piece)).equals(plain)).toBe(true);
    }
    const small = await encrypt(Buffer.from('small'), [recipient], 1);
    expect(String(await decrypt(small, [identity], 1))).toBe('small');
  });

  it('open with the key of any of their recipients, and with no other', async () => {
    const keys = await Promise.all([generateAgeKeyPair(), generateAgeKeyPair(), generateAgeKeyPair()]);
    const sealed = await encrypt(Buffer.from('for two'), [keys[0].recipient, keys[1].recipient]);
    expect(String(await decrypt(sealed, [keys[0].identity]))).toBe('for two');
    expect(String(await decrypt(sealed, [keys[2].identity, keys[1].identity]))).toBe('for two');
    await expect(decrypt(sealed, [keys[2].identity])).rejects.toMatchObject({ reason: 'key' });
    await expect(decrypt(sealed, [])).rejects.toMatchObject({ reason: 'key' });
  });

  it('never use a key or a nonce twice', async () => {
    const { recipient } = await generateAgeKeyPair();
    const [one, two] = [await encrypt(Buffer.alloc(1000), [recipient]), await encrypt(Buffer.alloc(1000), [recipient])];
    expect(one.subarray(-1016).equals(two.subarray(-1016))).toBe(false);
  });

  it('do not open when they are cut at any byte of the header or around any chunk', async () => {
    const { identity, recipient } = await generateAgeKeyPair();
    const sealed = await encrypt(randomBytes(2 * CHUNK + 5), [recipient]);
    const payload = sealed.length - (2 * (CHUNK + 16) + 5 + 16);
    const cuts = Array.from({ length: payload + 2 }, (_, cut) => cut);
    for (const end of [payload + CHUNK + 16, payload + 2 * (CHUNK + 16), sealed.length])
      cuts.push(end - 17, end - 16, end - 1, ...(end < sealed.length ? [end, end + 1, end + 16] : []));
    for (const cut of cuts) {
      await expect(decrypt(sealed.subarray(0, cut), [identity])).rejects.toBeInstanceOf(AgeFailure);
    }
  });

  it('do not open with a byte, a chunk or a whole file appended, or with their chunks exchanged', async () => {
    const { identity, recipient } = await generateAgeKeyPair();
    for (const size of [0, 10, CHUNK, 2 * CHUNK]) {
      const sealed = await encrypt(randomBytes(size), [recipient]);
      for (const tail of [Buffer.alloc(1), Buffer.alloc(CHUNK + 16), sealed]) {
        await expect(decrypt(Buffer.concat([sealed, tail]), [identity])).rejects.toMatchObject({ reason: 'damaged' });
      }
    }
    const sealed = await encrypt(randomBytes(3 * CHUNK), [recipient]);
    const start = sealed.length - 3 * (CHUNK + 16);
    const chunk = (n: number) => sealed.subarray(start + n * (CHUNK + 16), start + (n + 1) * (CHUNK + 16));
    const exchanged = Buffer.concat([sealed.subarray(0, start), chunk(1), chunk(0), chunk(2)]);
    await expect(decrypt(exchanged, [identity])).rejects.toMatchObject({ reason: 'damaged' });
  });

  it('give no byte of a chunk that was changed', async () => {
    const { identity, recipient } = await generateAgeKeyPair();
    const sealed = await encrypt(randomBytes(CHUNK * 2), [recipient]);
    sealed[sealed.length - 1]! ^= 1;
    const stage = await createAgeDecryptor([identity]);
    let given = 0;
    stage.on('data', (chunk: Buffer) => (given += chunk.length));
    await expect(pipeline(Readable.from([sealed]), stage)).rejects.toMatchObject({ reason: 'damaged' });
    expect(given).toBeLessThanOrEqual(CHUNK);
  });

  it('are not looked for in endless bytes without a header', async () => {
    const { identity } = await generateAgeKeyPair();
    let given = 0;
    const endless = Readable.from(
      (function* () {
        for (;;) yield Buffer.alloc((given += 65_536) && 65_536, 'a');
      })(),
    );
    await expect(pipeline(endless, await createAgeDecryptor([identity]))).rejects.toMatchObject({ reason: 'damaged' });
    expect(given).toBeLessThan(4 * 1024 * 1024);
  });
});
