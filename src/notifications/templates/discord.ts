import type { Fact, Message, Severity } from '../message.js';

const COLOURS: Readonly<Record<Severity, number>> = { info: 0x2eb67d, warning: 0xecb22e, error: 0xe01e5a };
/** Discord refuses what is longer. */
const LONGEST = { title: 256, description: 4096, name: 256, value: 1024 } as const;

/** The body of a webhook of Discord: one embed, and nobody is mentioned. */
export interface DiscordPayload {
  username: string;
  allowed_mentions: { parse: [] };
  embeds: {
    title: string;
    url?: string;
    description?: string;
    color: number;
    fields: { name: string; value: string; inline: boolean }[];
    footer: { text: string };
    timestamp: string;
  }[];
}

export function discordPayload(message: Message): DiscordPayload {
  return {
    username: 'Backstay',
    allowed_mentions: { parse: [] },
    embeds: [
      {
        title: cut(escaped(message.title), LONGEST.title),
        ...(message.link === null ? {} : { url: message.link }),
        ...(message.detail === null ? {} : { description: cut(escaped(message.detail), LONGEST.description) }),
        color: COLOURS[message.severity],
        fields: message.facts.map((fact) => ({
          name: cut(escaped(fact.name), LONGEST.name),
          value: shown(fact),
          inline: fact.value.length <= 40,
        })),
        footer: { text: 'Backstay' },
        timestamp: message.at.toISOString(),
      },
    ],
  };
}

/** In code, Discord shows every letter as it is; only what holds its own mark has to be escaped instead. */
function shown({ value, verbatim }: Fact): string {
  return verbatim && !value.includes('`') ? `\`${cut(value, LONGEST.value - 2)}\`` : cut(escaped(value), LONGEST.value);
}

/** Every character that Markdown or a mention could begin with. */
function escaped(text: string): string {
  return text.replace(/[\\`*_{}[\]#|~>@<]/g, (mark) => `\\${mark}`);
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1).replace(/\\$/, '')}…`;
}
