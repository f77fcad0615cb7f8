import { beforeAll, describe, expect, it } from '@jest/globals';
import { generateAgeKeyPair, generateSigningKeyPair } from './artifact/keys.js';
import { keysInText } from './recovery-kit.js';

let identity: string;
const pair = generateSigningKeyPair();
beforeAll(async () => {
  identity = (await generateAgeKeyPair()).identity;
});

const commented = (text: string) => text.replace(/^/gm, '# ');

describe('the keys in a text', () => {
  it('are found in a kit, whose other lines are comments', () => {
    const text = `# BACKSTAY RECOVERY KIT\n#\n  ${identity}\r\n${commented(pair.publicKeyPem)}`;
    expect(keysInText(text)).toEqual({ identities: [identity], verifyingKeys: [pair.publicKeyPem] });
  });

  it('are the public ones of private keys too, each once', () => {
    const text = `${identity}\n${identity}\n${pair.privateKeyPem}${commented(pair.publicKeyPem)}`;
    expect(keysInText(text)).toEqual({ identities: [identity], verifyingKeys: [pair.publicKeyPem] });
  });

  it('are none where a line holds more than the key', () => {
    expect(keysInText(`key: ${identity}`).identities).toEqual([]);
  });

  it('are looked for once in each line, however many are empty', () => {
    // Searched anew from each line end, it would take a quarter of an hour.
    expect(keysInText(`${'\n'.repeat(1_000_000)}${identity}`).identities).toEqual([identity]);
  });
});
