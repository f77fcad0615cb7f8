import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A fenced block of a document. */
export interface Block {
  language: string;
  /** What stands after the language, such as `node` in "sh node". */
  tag: string;
  text: string;
  /** The line it begins in, to find it again. */
  line: number;
}

/** The fenced blocks of a document in docs/, in their order. */
export async function blocksOf(document: string): Promise<Block[]> {
  const text = await readFile(join(process.cwd(), 'docs', document), 'utf8');
  return [...text.matchAll(/^```(\w+)([^\n]*)\n(.*?)^```$/gms)].map((match) => ({
    language: match[1] ?? '',
    tag: (match[2] ?? '').trim(),
    text: match[3] ?? '',
    line: text.slice(0, match.index).split('\n').length,
  }));
}
