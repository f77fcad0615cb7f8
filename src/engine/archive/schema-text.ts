import { formatPatch, OMIT_HEADERS, structuredPatch } from 'diff';
import type { SchemaChange } from './schema-difference.js';

/** Past this an object's text is shown as taken out and put in, instead of line by line. */
const MAX_EDITS = 2000;

/**
 * The changes as a unified diff, one hunk or more for each object.
 * @param maxCharacters objects that would make it longer are left out
 * @returns the text, and whether objects were left out of it
 */
export function schemaDifferenceText(
  changes: readonly SchemaChange[],
  maxCharacters: number,
): { text: string; truncated: boolean } {
  const parts: string[] = [];
  let length = 0;
  for (const change of changes) {
    const part = patchOf(change);
    length += part.length;
    if (length > maxCharacters) return { text: parts.join('\n'), truncated: true };
    parts.push(part);
  }
  return { text: parts.join('\n'), truncated: false };
}

function patchOf(change: SchemaChange): string {
  const name = `${change.kind} ${change.schema === null ? '' : `${change.schema}.`}${change.name}`.replace(/[\r\n]/g, ' ');
  const [base, head] = [change.base ?? '', change.head ?? ''];
  const [before, after] = [change.base === null ? '/dev/null' : name, change.head === null ? '/dev/null' : name];
  return `--- ${before}\n+++ ${after}\n${hunksOf(base, head)}`;
}

function hunksOf(base: string, head: string): string {
  // Only what may not be shown differs.
  if (base === head) return ' a secret in it differs\n';
  const patch = structuredPatch('', '', base, head, undefined, undefined, { context: 3, maxEditLength: MAX_EDITS });
  return patch ? formatPatch(patch, OMIT_HEADERS) : marked('-', base) + marked('+', head);
}

function marked(sign: string, text: string): string {
  return text === '' ? '' : `${text.replace(/\n$/, '').replaceAll(/^/gm, sign)}\n`;
}
