import { describe, expect, it } from '@jest/globals';
import { HOSTILE_KEYS } from '../../../test/support/store-contract.js';
import { attemptPrefix, backupPrefix, objectKey, organizationPrefix, parseKey, sourcePrefix } from './layout.js';

const ids = { installation: 'inst1', organization: 'org1', source: 'src1', backup: 'backup_2025-12-22_14-30-00_k7m2qd' };

describe('the layout of a destination', () => {
  it('puts each backup under its four ids', () => {
    expect(backupPrefix(ids)).toBe('inst1/org1/src1/backup_2025-12-22_14-30-00_k7m2qd');
    expect(sourcePrefix(ids)).toBe('inst1/org1/src1');
    expect(organizationPrefix(ids)).toBe('inst1/org1');
  });

  it('reads keys back into the parts they were made of', () => {
    expect(parseKey(objectKey(backupPrefix(ids), 'manifest.json'))).toEqual({ ...ids, attempt: null, name: 'manifest.json' });
    expect(parseKey(objectKey(attemptPrefix(ids, 'a1'), 'database.dump.zst.age'))).toEqual({
      ...ids,
      attempt: 'a1',
      name: 'database.dump.zst.age',
    });
  });

  it.each([
    'inst1/catalog/2025.catalog.zst.age',
    'inst1/org1/src1/backup1',
    'i/o/s/b/sub/name',
    'i/o/s/b/.attempt-/name',
    'i/o/s/b/.attempt-1/x/name',
    '.canary-1/o/s/b/name',
    '../o/s/b/name',
  ])('does not take %s for an object of a backup', (key) => expect(parseKey(key)).toBeNull());

  it.each([...HOSTILE_KEYS, 'a/b', '.attempt-1', '.hidden'])('refuses %j as an id', (id) => {
    for (const part of Object.keys(ids)) expect(() => backupPrefix({ ...ids, [part]: id })).toThrow();
  });

  it.each([...HOSTILE_KEYS, 'a/b'])('refuses %j as a name and as an attempt', (name) => {
    expect(() => objectKey(backupPrefix(ids), name)).toThrow();
    expect(() => attemptPrefix(ids, name)).toThrow();
  });
});
