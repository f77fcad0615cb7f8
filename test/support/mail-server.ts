import type { AddressInfo } from 'node:net';
import { type ParsedMail, simpleParser } from 'mailparser';
import { SMTPServer } from 'smtp-server';

/** A real SMTP server that keeps the mail it takes. */
export class MailServer {
  readonly mails: ParsedMail[] = [];
  /** Refuses a recipient with this sentence and a 550. */
  refuseRecipient: string | undefined;

  private constructor(private readonly server: SMTPServer) {}

  /** @param user and password that it wants; takes mail from everybody without */
  static async start(credentials?: { user: string; password: string }): Promise<MailServer> {
    const server: SMTPServer = new SMTPServer({
      authOptional: credentials === undefined,
      disabledCommands: ['STARTTLS'],
      allowInsecureAuth: true,
      logger: false,
      onAuth: ({ username, password }, _session, done) =>
        username === credentials?.user && password === credentials?.password
          ? done(null, { user: username })
          : done(new Error('Authentication failed')),
      onRcptTo: (_address, _session, done) =>
        done(mails.refuseRecipient === undefined ? null : Object.assign(new Error(mails.refuseRecipient), { responseCode: 550 })),
      onData: (stream, _session, done) => {
        simpleParser(stream).then(
          (mail) => {
            mails.mails.push(mail);
            done();
          },
          (error: Error) => done(error),
        );
      },
    });
    const mails = new MailServer(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
    return mails;
  }

  get port(): number {
    return (this.server.server.address() as AddressInfo).port;
  }

  stop(): Promise<void> {
    return new Promise((resolve) => this.server.close(() => resolve()));
  }
}
