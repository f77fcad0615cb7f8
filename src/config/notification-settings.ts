import { fault, type EnvironmentReader } from './environment-reader.js';

/** A mail server, with the addresses that its URL names. */
interface SmtpSettings {
  /** smtp:// or smtps://, with the credentials and without the addresses. */
  url: string;
  from: string;
  /** Who the channel that the setting makes writes to. */
  to: readonly string[];
}

/** Where people are told of what happens. */
export interface NotificationSettings {
  /** `PUBLIC_URL`: where people reach this server, for links; null leaves links out. */
  publicUrl: string | null;
  /** `SMTP_URL`: smtp://user:password@host:587?from=backstay@example.org&to=ops@example.org */
  smtp: SmtpSettings | null;
  /** `SLACK_WEBHOOK_URL` */
  slackWebhookUrl: string | null;
  /** `DISCORD_WEBHOOK_URL` */
  discordWebhookUrl: string | null;
}

const ADDRESS = /^[^\s@<>,;"]{1,64}@[^\s@<>,;"]{1,255}$/;
const FALLBACK_ADDRESS = 'backstay@localhost';

/** Reads and checks the settings of notifications; faults are gathered in the reader. */
export function notificationSettings(read: EnvironmentReader): NotificationSettings {
  return {
    publicUrl: httpUrl(read, 'PUBLIC_URL')?.replace(/\/+$/, '') ?? null,
    smtp: smtp(read),
    slackWebhookUrl: httpUrl(read, 'SLACK_WEBHOOK_URL'),
    discordWebhookUrl: httpUrl(read, 'DISCORD_WEBHOOK_URL'),
  };
}

function httpUrl(read: EnvironmentReader, name: string): string | null {
  const text = read.text(name);
  if (text === undefined) return null;
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text;
  read.faults.push(fault(name, 'is not a URL of the web', 'write it whole, such as https://host.example.org/path'));
  return null;
}

function smtp(read: EnvironmentReader): SmtpSettings | null {
  const text = read.text('SMTP_URL');
  if (text === undefined) return null;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^smtps?:$/.test(url.protocol) || url.hostname === '') {
    read.faults.push(
      fault(
        'SMTP_URL',
        'is not the URL of a mail server',
        'write smtp://user:password@host:587?from=a@example.org&to=b@example.org',
      ),
    );
    return null;
  }
  const user = decodeURIComponent(url.username);
  const from = url.searchParams.get('from') ?? (ADDRESS.test(user) ? user : FALLBACK_ADDRESS);
  const to = (url.searchParams.get('to') ?? from).split(',').map((address) => address.trim().toLowerCase());
  for (const address of [from, ...to]) {
    if (ADDRESS.test(address)) continue;
    read.faults.push(fault('SMTP_URL', 'names an address that is none in from or to', 'write such as from=backstay@example.org'));
    return null;
  }
  url.searchParams.delete('from');
  url.searchParams.delete('to');
  return { url: url.href, from, to };
}
