import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { isTooOld, LEAST_NODE } from './node-version.js';

describe('the version of Node', () => {
  it.each([
    ['20.20.2', true],
    ['22.14.99', true],
    ['22.15.0', false],
    ['22.100.1', false],
    ['24.0.0', false],
  ])('%s is too old: %s', (version, tooOld) => {
    expect(isTooOld(version)).toBe(tooOld);
  });

  it('that is asked for is the one of package.json', () => {
    const { engines } = JSON.parse(readFileSync('package.json', 'utf8')) as { engines: { node: string } };
    expect(engines.node).toBe(`>=${LEAST_NODE}`);
  });
});
