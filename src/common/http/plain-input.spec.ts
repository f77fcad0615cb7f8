import { describe, expect, it } from '@jest/globals';
import { assertPlainInput } from './plain-input.js';

describe('the input of a request', () => {
  it.each([undefined, null, {}, { a: [{ b: 'ü' }], c: 1 }, { emoji: '🙂' }])('is let through when it is plain: %j', (input) => {
    expect(() => assertPlainInput(input, 'body')).not.toThrow();
  });

  it.each([
    ['{"__proto__":{"admin":true}}', '__proto__ is not a field'],
    ['{"constructor":1}', 'constructor is not a field'],
    ['{"target":{"__proto__":1}}', 'target.__proto__ is not a field'],
    ['{"label":"a\\u0000b"}', 'label holds a NUL'],
    ['{"tags":["ok","\\ud800"]}', 'tags.1 holds half of a character'],
    ['[{}]', 'body must be a JSON object'],
  ])('is refused by name: %s', (json, message) => {
    expect(() => assertPlainInput(JSON.parse(json), 'body')).toThrow(message);
  });

  it('is refused when it is nested without end, also by hundreds of thousands of levels', () => {
    const deep = JSON.parse(`{"tags":${'['.repeat(300_000)}${']'.repeat(300_000)}}`) as unknown;
    expect(() => assertPlainInput(deep, 'body')).toThrow('tags is nested more than 32 levels deep');
  });
});
