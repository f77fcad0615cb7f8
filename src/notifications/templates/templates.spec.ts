import { describe, expect, it } from '@jest/globals';
import type { Message } from '../message.js';
import { discordPayload } from './discord.js';
import { emailOf } from './email.js';
import { slackPayload } from './slack.js';

const ID = 'backup_2025-12-22_14-30-00_k7m2qd';
const MESSAGE: Message = {
  eventId: 'evt_1',
  type: 'backup.failed',
  severity: 'error',
  title: 'Backup of shop failed',
  detail: 'The disk is full. Free some space.',
  facts: [
    { name: 'Backup', value: ID, verbatim: true },
    { name: 'Source', value: 'shop', verbatim: true },
    { name: 'Records', value: '1,247' },
  ],
  link: `https://backstay.example.org/api/backups/${ID}/details`,
  at: new Date('2025-12-22T14:30:15.250Z'),
};
/** What someone who may name sources or tables could try. */
const HOSTILE: Message = {
  ...MESSAGE,
  title: 'Backup of <!channel> @everyone **x** `y` & "z"\r\nBcc: a@b',
  detail: '</p><script>alert(1)</script> <@U123> [click](https://evil.example) || ~~x~~',
  facts: [
    { name: 'Source', value: '<!here> `_x_` @everyone\nInjected: yes', verbatim: true },
    { name: 'Records', value: '*1*' },
  ],
};

describe('the payload of Slack', () => {
  it('is what incoming webhooks take', () => {
    expect(slackPayload(MESSAGE)).toEqual({
      text: 'Backup of shop failed',
      mrkdwn: false,
      attachments: [
        {
          color: '#e01e5a',
          fallback: 'Backup of shop failed',
          title: 'Backup of shop failed',
          title_link: MESSAGE.link,
          text: 'The disk is full. Free some space.',
          fields: [
            { title: 'Backup', value: ID, short: true },
            { title: 'Source', value: 'shop', short: true },
            { title: 'Records', value: '1,247', short: true },
          ],
          footer: 'Backstay',
          ts: 1766413815,
        },
      ],
    });
  });

  it('mentions nobody and links nowhere, whatever the names are', () => {
    const text = JSON.stringify(slackPayload(HOSTILE));
    expect(text).not.toMatch(/<[!@#]/);
    expect(text).toContain('&lt;!channel&gt; @everyone');
    expect(slackPayload({ ...MESSAGE, detail: 'x'.repeat(5000) }).attachments[0]?.text).toHaveLength(3000);
  });
});

describe('the payload of Discord', () => {
  it('is what webhooks take', () => {
    expect(discordPayload(MESSAGE)).toEqual({
      username: 'Backstay',
      allowed_mentions: { parse: [] },
      embeds: [
        {
          title: 'Backup of shop failed',
          url: MESSAGE.link,
          description: 'The disk is full. Free some space.',
          color: 0xe01e5a,
          fields: [
            { name: 'Backup', value: `\`${ID}\``, inline: true },
            { name: 'Source', value: '`shop`', inline: true },
            { name: 'Records', value: '1,247', inline: true },
          ],
          footer: { text: 'Backstay' },
          timestamp: '2025-12-22T14:30:15.250Z',
        },
      ],
    });
  });

  it('shows marks as text, and keeps to the limits', () => {
    const [embed] = discordPayload(HOSTILE).embeds;
    expect(embed?.title).toContain('\\<!channel\\> \\@everyone \\*\\*x\\*\\* \\`y\\`');
    expect(embed?.description).toContain('\\[click\\](https://evil.example) \\|\\| \\~\\~x\\~\\~');
    expect(embed?.fields[0]?.value).toBe('\\<!here\\> \\`\\_x\\_\\` \\@everyone\nInjected: yes');
    const long = discordPayload({ ...MESSAGE, title: '*'.repeat(300), facts: [{ name: 'n', value: 'v'.repeat(2000) }] })
      .embeds[0];
    expect(long?.title.length).toBeLessThanOrEqual(256);
    expect(long?.title).toMatch(/[^\\]…$/);
    expect(long?.fields[0]?.value).toHaveLength(1024);
  });
});

describe('a mail', () => {
  it('has a subject, a text and HTML', () => {
    const { subject, text, html } = emailOf(MESSAGE);
    expect(subject).toBe('[Backstay] Backup of shop failed');
    expect(text).toBe(
      `Backup of shop failed\n\nThe disk is full. Free some space.\n\nBackup:  ${ID}\nSource:  shop\nRecords: 1,247\n\n` +
        `${MESSAGE.link}\n\n2025-12-22T14:30:15.250Z, sent by Backstay\n`,
    );
    expect(html).toContain(`>${ID}</td>`);
    expect(html).toContain(`<a href="${MESSAGE.link}">`);
  });

  it('lets no name begin a header, a line or an element', () => {
    const { subject, text, html } = emailOf(HOSTILE);
    expect(subject).toBe('[Backstay] Backup of <!channel> @everyone **x** `y` & "z" Bcc: a@b');
    expect(text).not.toMatch(/^(?:Bcc|Injected):/m);
    expect(html).not.toMatch(/<script|<!channel|<@U/);
    expect(html).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
  });
});
