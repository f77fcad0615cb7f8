import { type SqlToken, splitStatements } from './sql-statements.js';

/** A `schema.name` in the SQL of an archive, with the places of its parts. */
export interface QualifiedName {
  schema: string;
  name: string;
  start: number;
  /** Where the schema's part ends; the dot and the name follow. */
  schemaEnd: number;
  end: number;
  /** It is written like a call, `schema.name(`: pg_dump writes a blank before a relation's bracket, but for REFERENCES. */
  isCall: boolean;
}

/** A relation's name in a string, as in `nextval('shop.orders_id_seq'::regclass)`. */
export interface NamedInLiteral {
  literal: SqlToken;
  /** Its places are those within the literal's value. */
  name: QualifiedName;
  /** A cast to regclass follows: PostgreSQL itself takes it for a relation. */
  isRelation: boolean;
}

/** Every qualified name outside of strings. Of `a.b.c` it is `a.b`. */
export function qualifiedNames(sql: string): QualifiedName[] {
  return namesAmong(tokensOf(sql));
}

/** Every string that is a qualified name from its beginning to its end. */
export function namesInLiterals(sql: string): NamedInLiteral[] {
  const tokens = tokensOf(sql);
  return tokens.flatMap((literal, index) => {
    if (literal.kind !== 'literal') return [];
    const [name] = qualifiedNames(literal.value);
    if (name?.start !== 0 || name.end !== literal.value.length) return [];
    return [{ literal, name, isRelation: isCastToRelation(tokens, index + 1) }];
  });
}

/** Every string of a text, without quotes: a function's body is one. */
export function literalsOf(sql: string): string[] {
  return tokensOf(sql).flatMap(({ kind, value }) => (kind === 'literal' ? [value] : []));
}

function namesAmong(tokens: readonly SqlToken[]): QualifiedName[] {
  const found: QualifiedName[] = [];
  for (let at = 0; at + 2 < tokens.length; at += 1) {
    const [schema, dot, name, after] = tokens.slice(at, at + 4) as [SqlToken, SqlToken, SqlToken, SqlToken | undefined];
    if (!isName(schema) || !isName(name) || !isSymbol(dot, '.')) continue;
    if (schema.end !== dot.start || dot.end !== name.start) continue;
    const before = tokens[at - 1];
    if (isSymbol(before, '.') && before?.end === schema.start) continue;
    const isReference = before?.kind === 'word' && before.value === 'references';
    const isCall = !isReference && isSymbol(after, '(') && after?.start === name.end;
    found.push({ schema: schema.value, name: name.value, start: schema.start, schemaEnd: schema.end, end: name.end, isCall });
    at += 2;
  }
  return found;
}

function isCastToRelation(tokens: readonly SqlToken[], at: number): boolean {
  if (!isSymbol(tokens[at], ':') || !isSymbol(tokens[at + 1], ':')) return false;
  const type = isSymbol(tokens[at + 3], '.') ? tokens[at + 4] : tokens[at + 2];
  return type?.kind === 'word' && type.value === 'regclass';
}

function tokensOf(sql: string): SqlToken[] {
  return splitStatements(sql).flatMap(({ tokens }) => tokens);
}

function isName(token: SqlToken): boolean {
  return token.kind === 'word' || token.kind === 'name';
}

function isSymbol(token: SqlToken | undefined, value: string): boolean {
  return token?.kind === 'symbol' && token.value === value;
}
