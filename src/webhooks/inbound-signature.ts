import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { Webhook } from 'standardwebhooks';
import type { SignatureMode } from '../config/webhook-settings.js';

/** What proved a message, and under which name it must not come again. */
export interface Proven {
  mode: SignatureMode;
  /** Id and time of a message by Standard Webhooks; the other modes have none. */
  messageId: string | null;
}

/**
 * Checks who has sent a message: `x-webhook-signature: sha256=<hex HMAC-SHA256 of the body>`, the headers of Standard Webhooks (no
 * older than five minutes), or the secret itself in `x-webhook-signature` or `x-webhook-secret`. Compares in constant time.
 * @param body the exact bytes
 * @param secrets all that are valid now
 * @returns undefined when nothing proves it
 */
export function proveSender(
  headers: IncomingHttpHeaders,
  body: Buffer,
  secrets: readonly string[],
  modes: readonly SignatureMode[],
): Proven | undefined {
  const sent = one(headers['x-webhook-signature']);
  const bare = one(headers['x-webhook-secret']) ?? sent;
  const id = one(headers['webhook-id']);
  const timestamp = one(headers['webhook-timestamp']);
  const signature = one(headers['webhook-signature']);
  for (const secret of secrets) {
    if (modes.includes('standard') && id && timestamp && signature && isStandard(secret, { id, timestamp, signature }, body))
      return { mode: 'standard', messageId: `${id}.${Number(timestamp)}` };
    if (modes.includes('hmac') && sent && isHmac(secret, sent, body)) return { mode: 'hmac', messageId: null };
    if (modes.includes('secret') && bare && isEqual(bare, secret)) return { mode: 'secret', messageId: null };
  }
  return undefined;
}

function isHmac(secret: string, sent: string, body: Buffer): boolean {
  return isEqual(sent.toLowerCase(), `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`);
}

function isStandard(secret: string, sent: { id: string; timestamp: string; signature: string }, body: Buffer): boolean {
  if (!/^\d{1,12}$/.test(sent.timestamp) || !/^[\x21-\x7e]{1,200}$/.test(sent.id)) return false;
  try {
    const webhook = secret.startsWith('whsec_') ? new Webhook(secret) : new Webhook(secret, { format: 'raw' });
    webhook.verify(
      body,
      { 'webhook-id': sent.id, 'webhook-timestamp': sent.timestamp, 'webhook-signature': sent.signature },
      { jsonParse: false },
    );
    return true;
  } catch {
    return false;
  }
}

/** Texts of any length, compared by their hashes. */
function isEqual(left: string, right: string): boolean {
  const hash = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(hash(left), hash(right));
}

function one(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' && header !== '' ? header : undefined;
}
