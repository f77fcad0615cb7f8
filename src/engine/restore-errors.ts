const LONGEST = 1000;
/** PostgreSQL quotes the row that it stopped at; rows are nobody's business who may only read that a restore went wrong. */
const ROW_IN_CONTEXT = /(\bCOPY .*?, line \d+(?:, column [^:]+)?): .*$/;

/**
 * The errors that pg_restore went on after, each with the entry that it was about.
 * @returns undefined when it did not come to its end
 */
export function ignoredErrors(stderr: string): string[] | undefined {
  const total = /^pg_restore: warning: errors ignored on restore: (\d+)$/m.exec(stderr)?.[1];
  if (total === undefined) return undefined;
  const errors: string[] = [];
  let entry = '';
  for (const said of stderr.split(/^pg_restore: /m)) {
    const about = /^from TOC entry \d+; \d+ \d+ ([^\n]*)/.exec(said)?.[1];
    if (about !== undefined) entry = `${about}: `;
    const error = /^error: ([^]*)/.exec(said)?.[1]?.trim().replaceAll(/\s+/g, ' ').replace(ROW_IN_CONTEXT, '$1');
    if (error !== undefined) errors.push(`${entry}${error.length > LONGEST ? `${error.slice(0, LONGEST)}…` : error}`);
  }
  const lost = Number(total) - errors.length;
  return lost > 0 ? [...errors, `${lost} more errors came before these; the log of the database server has them.`] : errors;
}
