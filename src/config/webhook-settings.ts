import { fault, type EnvironmentReader } from './environment-reader.js';

/** How a message that comes in may prove where it is from. */
export const SIGNATURE_MODES = ['hmac', 'standard', 'secret'] as const;
export type SignatureMode = (typeof SIGNATURE_MODES)[number];

const SHORTEST_SECRET = 8;

/** What is taken in by POST /api/webhooks/backup-complete. */
export interface WebhookSettings {
  /** `WEBHOOK_SECRET`: what senders of the first organization share with this server; null when none is set. */
  secret: string | null;
  /** `WEBHOOK_SIGNATURE_MODES`: the ways to prove it that are taken. */
  modes: readonly SignatureMode[];
}

/** Reads and checks the settings of inbound webhooks; faults are gathered in the reader. */
export function webhookSettings(read: EnvironmentReader): WebhookSettings {
  const secret = read.text('WEBHOOK_SECRET') ?? null;
  if (secret !== null && (secret.length < SHORTEST_SECRET || !/^[\x21-\x7e]+$/.test(secret))) {
    read.faults.push(
      fault(
        'WEBHOOK_SECRET',
        `must have ${SHORTEST_SECRET} printable characters at least, without spaces`,
        'make one with `openssl rand -hex 32`',
      ),
    );
  }
  const listed = read.list('WEBHOOK_SIGNATURE_MODES', ',').map((mode) => mode.toLowerCase());
  for (const mode of listed) {
    if (!(SIGNATURE_MODES as readonly string[]).includes(mode)) {
      read.faults.push(
        fault('WEBHOOK_SIGNATURE_MODES', `holds "${mode}", which is no mode`, `choose from ${SIGNATURE_MODES.join(', ')}`),
      );
    }
  }
  return { secret, modes: listed.length === 0 ? SIGNATURE_MODES : SIGNATURE_MODES.filter((mode) => listed.includes(mode)) };
}
