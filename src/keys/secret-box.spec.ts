import { describe, expect, it } from '@jest/globals';
import { SecretBox } from './secret-box.js';

describe('a secret box', () => {
  const box = new SecretBox(Buffer.alloc(32, 1));

  it('opens what it sealed, and seals the same text differently each time', () => {
    const sealed = box.seal('pässword', 'source:1');
    expect(box.open(sealed, 'source:1')).toBe('pässword');
    expect(box.seal('pässword', 'source:1')).not.toBe(sealed);
    expect(sealed).not.toContain('pässword');
  });

  it('refuses a text that was moved to another row, changed, or sealed by another key', () => {
    const sealed = box.seal('secret', 'source:1');
    expect(() => box.open(sealed, 'source:2')).toThrow();
    expect(() => box.open(`${sealed.slice(0, -2)}${sealed.endsWith('AA') ? 'BB' : 'AA'}`, 'source:1')).toThrow();
    expect(() => new SecretBox(Buffer.alloc(32, 2)).open(sealed, 'source:1')).toThrow(/sealed by the key/);
  });
});
