import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { createTransport, type Transporter } from 'nodemailer';
import { Settings } from '../../config/settings.js';
import type { Message } from '../message.js';
import { emailOf } from '../templates/email.js';
import { ChannelSender, type ChannelTarget, NotDelivered } from './channel-sender.js';

const CONNECT_MS = 10_000;
const SOCKET_MS = 30_000;

/** Mail by the server that `SMTP_URL` names. */
@Injectable()
export class EmailSender extends ChannelSender implements OnModuleDestroy {
  private transport: Transporter | undefined;

  constructor(private readonly settings: Settings) {
    super();
  }

  async send({ addresses }: ChannelTarget, message: Message): Promise<void> {
    const { smtp } = this.settings.notifications;
    if (!smtp) throw new NotDelivered('The server has no SMTP_URL to send mail by.', true);
    try {
      await this.transporter(smtp.url).sendMail({
        from: { name: 'Backstay', address: smtp.from },
        to: [...addresses],
        ...emailOf(message),
        date: message.at,
        // The same over retries, so that a mailbox can tell a message that came twice.
        messageId: `<${message.eventId}@backstay>`,
        headers: { 'Auto-Submitted': 'auto-generated', 'X-Backstay-Event': message.type },
        priority: message.severity === 'error' ? 'high' : 'normal',
        disableFileAccess: true,
        disableUrlAccess: true,
      });
    } catch (error) {
      throw notDelivered(error);
    }
  }

  onModuleDestroy(): void {
    this.transport?.close();
  }

  private transporter(url: string): Transporter {
    const { protocol, hostname, port, username, password, searchParams } = new URL(url);
    const secure = protocol === 'smtps:';
    return (this.transport ??= createTransport({
      host: hostname.replace(/^\[|\]$/g, ''),
      port: Number(port || (secure ? 465 : 587)),
      secure,
      ...(username === '' ? {} : { auth: { user: decodeURIComponent(username), pass: decodeURIComponent(password) } }),
      // With credentials, nothing goes out before TLS stands, unless the operator says that it may.
      requireTLS: !secure && username !== '' && searchParams.get('tls') !== 'optional',
      connectionTimeout: CONNECT_MS,
      greetingTimeout: CONNECT_MS,
      socketTimeout: SOCKET_MS,
    }));
  }
}

function notDelivered(error: unknown): NotDelivered {
  const { code = '', responseCode, response } = error as { code?: string; responseCode?: number; response?: string };
  const said = response === undefined ? '' : `: ${response.replace(/\s+/g, ' ').slice(0, 200)}`;
  // A refused address stays refused; a refused password is mended by the operator.
  const isFinal = code === 'EENVELOPE' && responseCode !== undefined && responseCode >= 500;
  const what =
    code === 'EAUTH' ? 'did not take the credentials of SMTP_URL' : `did not take the mail (${code || 'unknown failure'})`;
  return new NotDelivered(`The mail server ${what}${said}.`, isFinal, null, { cause: error });
}
