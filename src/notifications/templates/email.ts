import type { Message, Severity } from '../message.js';

const COLOURS: Readonly<Record<Severity, string>> = { info: '#1d7a54', warning: '#8a6100', error: '#b3123f' };
const WORDS: Readonly<Record<Severity, string>> = { info: 'OK', warning: 'Warning', error: 'Failed' };

/** A mail without its addresses. */
export interface Mail {
  subject: string;
  text: string;
  html: string;
}

export function emailOf(message: Message): Mail {
  return { subject: `[Backstay] ${oneLine(message.title)}`, text: textOf(message), html: htmlOf(message) };
}

function textOf({ title, detail, facts, link, at }: Message): string {
  const width = Math.max(0, ...facts.map(({ name }) => name.length)) + 2;
  const lines = facts.map(({ name, value }) => `${`${name}:`.padEnd(width)}${oneLine(value)}`);
  const parts = [oneLine(title), detail, lines.join('\n'), link, `${at.toISOString()}, sent by Backstay`];
  return `${parts.filter((part) => part !== null && part !== '').join('\n\n')}\n`;
}

function htmlOf({ title, detail, facts, link, at, severity }: Message): string {
  const rows = facts.map(
    ({ name, value, verbatim }) =>
      `<tr><th align="left" style="padding:4px 16px 4px 0;font-weight:normal;color:#555">${escaped(name)}</th>` +
      `<td style="padding:4px 0${verbatim ? ';font-family:monospace' : ''}">${escaped(value)}</td></tr>`,
  );
  return [
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>',
    escaped(title),
    '</title></head><body style="font-family:sans-serif;color:#222;line-height:1.5">',
    `<p style="color:${COLOURS[severity]};font-weight:bold;margin:0">${WORDS[severity]}</p>`,
    `<h1 style="font-size:20px;margin:4px 0 12px">${escaped(title)}</h1>`,
    detail === null ? '' : `<p>${escaped(detail).replaceAll('\n', '<br>')}</p>`,
    `<table cellspacing="0" cellpadding="0">${rows.join('')}</table>`,
    link === null ? '' : `<p><a href="${escaped(link)}">${escaped(link)}</a></p>`,
    `<p style="color:#777;font-size:12px">${at.toISOString()}, sent by Backstay</p></body></html>`,
  ].join('');
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (mark) => ENTITIES[mark] ?? mark);
}

/** Names and titles have no line breaks of their own: one would begin another header or line. */
function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim();
}
