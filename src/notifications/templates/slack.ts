import type { Message, Severity } from '../message.js';

const COLOURS: Readonly<Record<Severity, string>> = { info: '#2eb67d', warning: '#ecb22e', error: '#e01e5a' };
/** Slack cuts what is longer. */
const LONGEST_TEXT = 3000;

/** The body of an incoming webhook of Slack: a line, and an attachment with a bar in the colour of what happened. */
export interface SlackPayload {
  /** What notifications and screen readers say. */
  text: string;
  mrkdwn: false;
  attachments: {
    color: string;
    fallback: string;
    title: string;
    title_link?: string;
    text?: string;
    fields: { title: string; value: string; short: boolean }[];
    footer: string;
    /** Seconds since 1970. */
    ts: number;
  }[];
}

/** Fields of an attachment are no Markdown unless it asks for that, so ids stay as they are; the three characters below never do. */
export function slackPayload(message: Message): SlackPayload {
  const title = escaped(message.title);
  return {
    text: title,
    mrkdwn: false,
    attachments: [
      {
        color: COLOURS[message.severity],
        fallback: title,
        title,
        ...(message.link === null ? {} : { title_link: message.link }),
        ...(message.detail === null ? {} : { text: escaped(cut(message.detail, LONGEST_TEXT)) }),
        fields: message.facts.map(({ name, value }) => ({
          title: escaped(name),
          value: escaped(value),
          short: value.length <= 40,
        })),
        footer: 'Backstay',
        ts: Math.floor(message.at.getTime() / 1000),
      },
    ],
  };
}

/** Slack's own three; anything else, such as <!channel>, is then only text. */
function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}
