import { splitStatements, type SqlToken } from './sql-statements.js';
import type { TocEntry } from './toc.js';

const MASK = "'***'";
const SECRET_OPTION = /pass|secret|token|key|credential/i;
const CONNECTION_PASSWORD = /(\bpass(?:word|wd|phrase)?\s*=\s*)(?:''(?:[^'\\]|\\.)*''|[^\s']+)/gi;
const URL_PASSWORD = /([a-z][a-z0-9+.-]*:\/\/[^\s:/@']*):[^\s/@']*@/gi;

/** The SQL that makes an object, without the passwords that user mappings, servers, subscriptions and roles hold. */
export function withoutSecrets({ desc, defn }: Pick<TocEntry, 'desc' | 'defn'>): string {
  if (desc === 'USER MAPPING') return maskLiterals(defn, (option) => option !== 'user');
  if (desc === 'SERVER' || desc === 'FOREIGN DATA WRAPPER' || desc === 'FOREIGN TABLE')
    return maskLiterals(defn, (option) => SECRET_OPTION.test(option));
  if (desc === 'SUBSCRIPTION') return maskConnection(defn);
  return defn;
}

/** A statement of pg_dumpall, without the password that it may set. */
export function roleStatementWithoutPassword(sql: string): string {
  return maskLiterals(sql, (option) => option === 'password');
}

/** Masks each literal whose option, the word or name before it, is a secret one. */
function maskLiterals(sql: string, isSecret: (option: string) => boolean): string {
  let out = '';
  let end = 0;
  for (const [option, literal] of pairs(sql)) {
    if (literal.kind !== 'literal' || !isSecret(option.value.toLowerCase())) continue;
    out += sql.slice(end, literal.start) + MASK;
    end = literal.end;
  }
  return out + sql.slice(end);
}

function* pairs(sql: string): Generator<[SqlToken, SqlToken]> {
  for (const { tokens } of splitStatements(sql)) {
    for (const [index, token] of tokens.entries()) {
      const before = tokens[index - 1];
      if (before) yield [before, token];
    }
  }
}

/** Of a subscription: `CONNECTION '…'` keeps where it leads to. */
function maskConnection(sql: string): string {
  return sql.replace(CONNECTION_PASSWORD, '$1***').replace(URL_PASSWORD, '$1:***@');
}
