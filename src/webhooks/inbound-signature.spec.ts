import { describe, expect, it } from '@jest/globals';
import { createHmac } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { SIGNATURE_MODES, type SignatureMode } from '../config/webhook-settings.js';
import { proveSender } from './inbound-signature.js';

const SECRET = 'shared-secret-of-the-test';
const WHSEC = `whsec_${Buffer.alloc(32, 5).toString('base64')}`;
const BODY = Buffer.from('{"backupId":"backup_2025-12-22_14-30-00","status":"completed"}');
const hmac = (secret = SECRET, body = BODY) => `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
const prove = (headers: Record<string, string>, modes: readonly SignatureMode[] = SIGNATURE_MODES, secrets = [SECRET]) =>
  proveSender(headers, BODY, secrets, modes);

function standard(secret: string, at = new Date(), id = 'msg_1', body = BODY): Record<string, string> {
  const webhook = secret.startsWith('whsec_') ? new Webhook(secret) : new Webhook(secret, { format: 'raw' });
  const timestamp = String(Math.floor(at.getTime() / 1000));
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': webhook.sign(id, at, body) };
}

describe('a message from outside', () => {
  it('is proven by an HMAC of its exact bytes', () => {
    expect(prove({ 'x-webhook-signature': hmac() })).toEqual({ mode: 'hmac', messageId: null });
    expect(prove({ 'x-webhook-signature': hmac().toUpperCase().replace('SHA256', 'sha256') })).toMatchObject({ mode: 'hmac' });
    expect(prove({ 'x-webhook-signature': hmac(WHSEC) }, SIGNATURE_MODES, [SECRET, WHSEC])).toMatchObject({ mode: 'hmac' });
  });

  it('is proven by Standard Webhooks, with either kind of secret', () => {
    const at = new Date();
    const messageId = `msg_1.${Math.floor(at.getTime() / 1000)}`;
    expect(prove(standard(SECRET, at))).toEqual({ mode: 'standard', messageId });
    expect(prove(standard(WHSEC, at), SIGNATURE_MODES, [WHSEC])).toEqual({ mode: 'standard', messageId });
    const rotated = { ...standard(SECRET, at), 'webhook-signature': `v1,AAAA ${standard(SECRET, at)['webhook-signature']}` };
    expect(prove(rotated)).toEqual({ mode: 'standard', messageId });
  });

  it('is proven by the secret itself', () => {
    expect(prove({ 'x-webhook-signature': SECRET })).toMatchObject({ mode: 'secret' });
    expect(prove({ 'x-webhook-secret': SECRET })).toMatchObject({ mode: 'secret' });
  });

  it.each<[string, Record<string, string>]>([
    ['nothing', {}],
    ['an empty header', { 'x-webhook-signature': '' }],
    ['the HMAC by another secret', { 'x-webhook-signature': hmac('another secret') }],
    ['the HMAC of another body', { 'x-webhook-signature': hmac(SECRET, Buffer.from('{}')) }],
    ['an HMAC without its prefix', { 'x-webhook-signature': hmac().slice(7) }],
    ['half of an HMAC', { 'x-webhook-signature': hmac().slice(0, 40) }],
    ['another algorithm', { 'x-webhook-signature': hmac().replace('sha256', 'sha1') }],
    ['another secret', { 'x-webhook-signature': `${SECRET}x` }],
    ['the beginning of the secret', { 'x-webhook-signature': SECRET.slice(0, -1) }],
    ['a message older than five minutes', standard(SECRET, new Date(Date.now() - 301_000))],
    ['a message from the future', standard(SECRET, new Date(Date.now() + 310_000))],
    ['another message id', { ...standard(SECRET), 'webhook-id': 'msg_2' }],
    [
      'another time',
      { ...standard(SECRET, new Date(Date.now() - 60_000)), 'webhook-timestamp': String(Math.floor(Date.now() / 1000)) },
    ],
    ['a time with something behind it', { ...standard(SECRET), 'webhook-timestamp': `${Math.floor(Date.now() / 1000)}x` }],
    [
      'another version of signature',
      { ...standard(SECRET), 'webhook-signature': standard(SECRET)['webhook-signature']!.replace('v1', 'v2') },
    ],
  ])('is not proven by %s', (_, headers) => expect(prove(headers)).toBeUndefined());

  it('is proven in no other way than the settings take', () => {
    expect(prove({ 'x-webhook-signature': SECRET }, ['hmac', 'standard'])).toBeUndefined();
    expect(prove({ 'x-webhook-signature': hmac() }, ['standard', 'secret'])).toBeUndefined();
    expect(prove(standard(SECRET), ['hmac', 'secret'])).toBeUndefined();
  });

  it('is never proven where no secret is set', () => {
    expect(proveSender({ 'x-webhook-signature': 'undefined' }, BODY, [], SIGNATURE_MODES)).toBeUndefined();
  });
});
