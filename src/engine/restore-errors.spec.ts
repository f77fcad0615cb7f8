import { describe, expect, it } from '@jest/globals';
import { ignoredErrors } from './restore-errors.js';

const SAID = `pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 215; 1259 16385 TABLE things owner
pg_restore: error: could not execute query: ERROR:  type "geo" does not exist
LINE 2:     place geo
Command was: CREATE TABLE public.things (place geo);

pg_restore: error: could not execute query: ERROR:  relation "public.things" does not exist
Command was: ALTER TABLE public.things OWNER TO owner;

pg_restore: from TOC entry 3300; 0 16385 TABLE DATA things owner
pg_restore: error: COPY failed for table "things": ERROR:  no
`;

describe('the errors that pg_restore went on after', () => {
  it('are listed, every one, with what each was about', () => {
    const errors = ignoredErrors(`${SAID}pg_restore: warning: errors ignored on restore: 3\n`);
    expect(errors).toHaveLength(3);
    expect(errors?.[0]).toMatch(/^TABLE things owner: could not execute query: ERROR: type "geo" does not exist/);
    expect(errors?.[2]).toBe('TABLE DATA things owner: COPY failed for table "things": ERROR: no');
  });

  it('are none when it did not come to its end', () => {
    expect(ignoredErrors(SAID)).toBeUndefined();
  });

  it('say how many are missing when there were too many to keep', () => {
    expect(ignoredErrors(`${SAID}pg_restore: warning: errors ignored on restore: 10\n`)?.at(-1)).toMatch(/^7 more errors/);
  });
});
