import { namesInLiterals, qualifiedNames } from './qualified-names.js';

/** Names of relations, indexes and the like, by their schema. */
export type NamesBySchema = ReadonlyMap<string, ReadonlySet<string>>;

/**
 * Puts another schema before the names of some relations, in SQL as pg_dump writes it: there every name is qualified. Strings
 * stay as they are, and so do functions' bodies, but for those that PostgreSQL takes for a relation (`'a.b'::regclass`).
 *
 * @param isSetval whether the SQL sets a sequence's value, which names it in a string without a cast.
 * @returns the SQL and how many names were changed.
 */
export function renameRelations(
  sql: string,
  moved: NamesBySchema,
  schema: string,
  isSetval = false,
): { sql: string; count: number } {
  const isMoved = (name: { schema: string; name: string }): boolean => moved.get(name.schema)?.has(name.name) ?? false;
  const written = `"${schema.replaceAll('"', '""')}"`;
  const edits: { start: number; end: number; text: string }[] = [];
  for (const name of qualifiedNames(sql)) {
    // A function may have the name of a relation.
    if (isMoved(name) && !name.isCall) edits.push({ start: name.start, end: name.schemaEnd, text: written });
  }
  for (const { literal, name, isRelation } of namesInLiterals(sql)) {
    if (!isMoved(name) || !(isRelation || isSetval)) continue;
    const text = (written + literal.value.slice(name.schemaEnd)).replaceAll("'", "''");
    edits.push({ start: literal.start, end: literal.end, text: `'${text}'` });
  }
  let renamed = sql;
  // From the end, so that the places of the others stay right.
  for (const { start, end, text } of edits.toSorted((left, right) => right.start - left.start)) {
    renamed = renamed.slice(0, start) + text + renamed.slice(end);
  }
  return { sql: renamed, count: edits.length };
}
