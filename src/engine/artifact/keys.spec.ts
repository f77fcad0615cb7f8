import { describe, expect, it } from '@jest/globals';
import { EngineError } from '../errors.js';
import {
  assertRecipient,
  assertRecipients,
  generateAgeKeyPair,
  generateSigningKeyPair,
  keyId,
  publicKeyOf,
  recipientOf,
} from './keys.js';

describe('keys', () => {
  it('are made as age and OpenSSL know them', async () => {
    const { identity, recipient } = await generateAgeKeyPair();
    expect(identity).toMatch(/^AGE-SECRET-KEY-1[A-Z0-9]{58}$/);
    expect(recipient).toMatch(/^age1[a-z0-9]{58}$/);
    expect(await recipientOf(identity)).toBe(recipient);
    const { privateKeyPem, publicKeyPem } = generateSigningKeyPair();
    expect(privateKeyPem).toMatch(/^-----BEGIN PRIVATE KEY-----/);
    expect(publicKeyPem).toMatch(/^-----BEGIN PUBLIC KEY-----/);
    expect(publicKeyOf(privateKeyPem)).toBe(publicKeyPem);
    expect(keyId(publicKeyPem)).toMatch(/^[0-9a-f]{32}$/);
    expect(keyId(publicKeyPem)).not.toBe(keyId(generateSigningKeyPair().publicKeyPem));
  });

  it.each([
    '',
    'age1',
    'age1short',
    'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI',
    'age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t',
  ])('that are no age public keys are refused as recipients: %j', (recipient) =>
    expect(() => assertRecipient(recipient)).toThrow(expect.objectContaining({ code: 'KEY_INVALID' })),
  );

  it('with one letter wrong are refused', async () => {
    const { recipient } = await generateAgeKeyPair();
    const wrong = recipient.slice(0, -1) + (recipient.endsWith('q') ? 'p' : 'q');
    expect(() => assertRecipient(wrong)).toThrow(expect.objectContaining({ code: 'KEY_INVALID' }));
  });

  it('are trimmed, and named once though given twice; none at all is refused', async () => {
    const { recipient } = await generateAgeKeyPair();
    expect(assertRecipients([recipient, ` ${recipient}\n`])).toEqual([recipient]);
    expect(() => assertRecipients([])).toThrow(expect.objectContaining({ code: 'KEY_INVALID' }));
  });

  it('never show a secret in an error', async () => {
    const { identity } = await generateAgeKeyPair();
    const secret = identity.slice(20, 50);
    const broken = `${identity.slice(0, -1)}${identity.endsWith('Q') ? 'P' : 'Q'}`;
    const failures = [
      await recipientOf(broken).catch((error: unknown) => error),
      await recipientOf(identity.toLowerCase()).catch((error: unknown) => error),
      thrownBy(() => assertRecipient(identity)),
      thrownBy(() => assertRecipient(identity.toLowerCase())),
      thrownBy(() => publicKeyOf(`-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----`)),
    ];
    for (const failure of failures) {
      expect(failure).toMatchObject({ code: 'KEY_INVALID' });
      const { message, hint, stack, cause } = failure as EngineError;
      expect(`${message} ${hint} ${stack} ${String(cause)}`.toUpperCase()).not.toContain(secret);
    }
  });
});

function thrownBy(action: () => unknown): unknown {
  try {
    return action();
  } catch (error) {
    return error;
  }
}
