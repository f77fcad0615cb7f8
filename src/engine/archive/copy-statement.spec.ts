import { describe, expect, it } from '@jest/globals';
import { copyColumns } from './copy-statement.js';

describe('copyColumns', () => {
  it.each([
    ['COPY public.users (id, name) FROM stdin;\n', ['id', 'name']],
    ['COPY public."a""b;--" ("x, y", "(", "q""q", z) FROM stdin;\n', ['x, y', '(', 'q"q', 'z']],
    ['COPY "My Schema"."T.x" ("Ünï", ünï) FROM stdin;\n', ['Ünï', 'ünï']],
    ['COPY public.nothing  FROM stdin;\n', []],
  ])('reads %j', (statement, columns) => {
    expect(copyColumns(statement)).toEqual(columns);
  });

  it.each([
    '',
    'INSERT INTO users (id) VALUES',
    'COPY public.users (id',
    'COPY public.users (id, ) FROM stdin;\n',
    'COPY public."users (id) FROM stdin;\n',
    'COPY public. (id) FROM stdin;\n',
    'COPY public.users (id) TO stdout;\n',
    'COPY (SELECT 1) FROM stdin;\n',
  ])('gives null for %j', (statement) => {
    expect(copyColumns(statement)).toBeNull();
  });
});
