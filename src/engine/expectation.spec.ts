import { describe, expect, it } from '@jest/globals';
import { type Expectation, isMet } from './expectation.js';

const one = (value: string | null) => ({ rows: 1, value });

describe('an expectation', () => {
  it.each<[Expectation, string | null, boolean]>([
    [true, 't', true],
    [true, 'true', true],
    [true, 'f', false],
    [false, 'f', true],
    [3, '3', true],
    [3, '3.0', true],
    [3, '4', false],
    [3, 'three', false],
    [null, null, true],
    [null, '', false],
    ['', '', true],
    ['', null, false],
    ['done', 'done', true],
    ['done', 'Done', false],
    ['>= 1000', '1000', true],
    ['>= 1000', '999', false],
    ['> 9007199254740992', '9007199254740993', true],
    ['<= -1.5', '-1.5', true],
    ['<0', '-0.1', true],
    ['<> 0', '0', false],
    ['= 7', '7', true],
    ['>= 1000', null, false],
    ['>= 1000', 'many', false],
  ])('%p of %p is %p', (expectation, value, met) => {
    expect(isMet(expectation, one(value))).toBe(met);
  });

  it('asks for rows, or for none', () => {
    expect([0, 1, 2].map((rows) => isMet('rows', { rows, value: null }))).toEqual([false, true, true]);
    expect([0, 1].map((rows) => isMet('no rows', { rows, value: null }))).toEqual([true, false]);
  });

  it('of a value wants exactly one row', () => {
    expect([0, 2].map((rows) => isMet(3, { rows, value: '3' }))).toEqual([false, false]);
  });
});
