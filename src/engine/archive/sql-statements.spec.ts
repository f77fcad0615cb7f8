import { describe, expect, it } from '@jest/globals';
import { splitStatements } from './sql-statements.js';

function pieces(sql: string): string[] {
  return splitStatements(sql).map(({ start, end }) => sql.slice(start, end));
}

describe('splitting SQL into statements', () => {
  it.each([
    ['names in quotes', 'GRANT ALL ON TABLE t TO "a;b";\n', 'GRANT ALL ON TABLE t TO "x""y;\n""";\n'],
    ['strings', `SELECT ';', 'it''s; ', '\\';\n`, `SELECT '';\n`],
    ['strings with escapes', `SELECT E'\\\\;''"';\n`, 'SELECT 1;\n'],
    ['dollar quotes', 'SELECT $$;"$$;\n', "SELECT $_x$ ;$$; ' $_x$;\n"],
  ])('never splits within %s', (_what, ...statements) => {
    expect(pieces(statements.join(''))).toEqual(statements);
  });

  it('gives each statement the blanks that follow it, and takes a last one without a semicolon', () => {
    expect(pieces('a;\n\n b ; c')).toEqual(['a;\n\n ', 'b ; ', 'c']);
    expect(pieces(' \n;;')).toEqual([]);
  });

  it('takes a quote without its end for one piece', () => {
    expect(pieces('a; "b; c')).toEqual(['a; ', '"b; c']);
    expect(pieces("a; 'b; c")).toEqual(['a; ', "'b; c"]);
  });

  it('folds words, and takes the quotes off names and strings', () => {
    const sql = `Grant "Ünï ""rôle""" 'it''s' $x$ $y$ $x$ s.t(`;
    const [statement] = splitStatements(sql);
    expect(statement?.tokens.map(({ kind, value }) => [kind, value])).toEqual([
      ['word', 'grant'],
      ['name', 'Ünï "rôle"'],
      ['literal', "it's"],
      ['literal', ' $y$ '],
      ['word', 's'],
      ['symbol', '.'],
      ['word', 't'],
      ['symbol', '('],
    ]);
  });

  it('reads a string of megabytes', () => {
    const sql = `SELECT '${"it''s;".repeat(500_000)}'; b`;
    expect(pieces(sql)).toHaveLength(2);
  });
});
