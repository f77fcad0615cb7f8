import type { SqlToken } from './sql-statements.js';

/** Reads a statement's tokens one after the other. */
export class TokenCursor {
  #at = 0;

  constructor(readonly tokens: readonly SqlToken[]) {}

  /** The token that is read next, or undefined at the end. */
  get next(): SqlToken | undefined {
    return this.tokens[this.#at];
  }

  /** The token that was read last. */
  get last(): SqlToken | undefined {
    return this.tokens[this.#at - 1];
  }

  /** Takes these words, all of them or none. */
  take(...words: string[]): boolean {
    const matches = words.every((word, index) => isWord(this.tokens[this.#at + index], word));
    if (matches) this.#at += words.length;
    return matches;
  }

  takeSymbol(symbol: string): boolean {
    const matches = this.next?.kind === 'symbol' && this.next.value === symbol;
    if (matches) this.#at += 1;
    return matches;
  }

  /** Takes a name, in quotes or not. */
  takeName(): SqlToken | null {
    const token = this.next;
    if (token?.kind !== 'word' && token?.kind !== 'name') return null;
    this.#at += 1;
    return token;
  }

  /** Takes one or more names with commas between. */
  takeNames(): SqlToken[] {
    const names: SqlToken[] = [];
    do {
      // Groups were written so before they became roles.
      if (isWord(this.next, 'group') && this.tokens[this.#at + 1]?.kind !== 'symbol') this.take('group');
      const name = this.takeName();
      if (!name) return names;
      names.push(name);
    } while (this.takeSymbol(','));
    return names;
  }

  /** Passes over all before one of these words that stands outside of brackets, and takes it. */
  takeUntil(...words: string[]): SqlToken | null {
    let depth = 0;
    for (let at = this.#at; at < this.tokens.length; at += 1) {
      const token = this.tokens[at] as SqlToken;
      if (token.kind === 'symbol' && token.value === '(') depth += 1;
      if (token.kind === 'symbol' && token.value === ')') depth -= 1;
      if (depth === 0 && token.kind === 'word' && words.includes(token.value)) {
        this.#at = at + 1;
        return token;
      }
    }
    return null;
  }
}

function isWord(token: SqlToken | undefined, word: string): boolean {
  return token?.kind === 'word' && token.value === word;
}
