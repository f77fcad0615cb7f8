/** A piece of SQL. Blanks and quotes' insides never are tokens of their own. */
export interface SqlToken {
  /** `word` is without quotes; `name` is in double quotes; `literal` is a string in single quotes or dollars. */
  kind: 'word' | 'name' | 'literal' | 'symbol';
  /** Words in lower case, names and strings without their quotes, symbols as they are. */
  value: string;
  start: number;
  end: number;
}

export interface SqlStatement {
  start: number;
  /** Where the next one starts: after the semicolon and the blanks that follow. */
  end: number;
  /** Without the semicolon. */
  tokens: SqlToken[];
}

const TOKEN = new RegExp(
  [
    String.raw`(?<blank>\s+)`,
    String.raw`(?<name>(?:"[^"]*")+)`,
    String.raw`(?<literal>(?:'[^']*')+|\$(?<tag>[A-Za-z_\u0080-\uffff]*)\$[^]*?\$\k<tag>\$)`,
    String.raw`(?<word>[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)`,
    // A quote without its end takes all that is left.
    String.raw`(?<symbol>["'][^]*|\d+|[^])`,
  ].join('|'),
  'gy',
);

/**
 * Splits the SQL of an archive's entry, as pg_dump writes it, into statements. Quotes are doubled in its strings, whatever
 * standard_conforming_strings says, and it has no comments.
 */
export function splitStatements(sql: string): SqlStatement[] {
  const found: SqlStatement[] = [];
  let current: SqlStatement | null = null;
  for (const token of tokenize(sql)) {
    if (token.kind === 'symbol' && token.value === ';') {
      current = null;
      continue;
    }
    if (!current) {
      current = { start: token.start, end: sql.length, tokens: [] };
      const previous = found.at(-1);
      if (previous) previous.end = token.start;
      found.push(current);
    }
    current.tokens.push(token);
  }
  return found;
}

function* tokenize(sql: string): Generator<SqlToken> {
  for (const match of sql.matchAll(TOKEN)) {
    const { blank, name, literal, word, symbol = '' } = match.groups ?? {};
    const place = { start: match.index, end: match.index + match[0].length };
    if (blank !== undefined) continue;
    if (name !== undefined) yield { kind: 'name', value: name.slice(1, -1).replaceAll('""', '"'), ...place };
    else if (literal !== undefined) yield { kind: 'literal', value: unquote(literal), ...place };
    // PostgreSQL folds ASCII; pg_dump quotes every name with other letters.
    else if (word !== undefined) yield { kind: 'word', value: word.toLowerCase(), ...place };
    else yield { kind: 'symbol', value: symbol, ...place };
  }
}

function unquote(literal: string): string {
  if (literal.startsWith("'")) return literal.slice(1, -1).replaceAll("''", "'");
  const fence = literal.indexOf('$', 1) + 1;
  return literal.slice(fence, -fence);
}
