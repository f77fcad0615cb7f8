import { describe, expect, it } from '@jest/globals';
import { ALL_PERMISSIONS, ROLE_PERMISSIONS } from './permissions.js';

describe('roles', () => {
  it('give the owner everything and everybody else less', () => {
    expect(ROLE_PERMISSIONS.owner).toEqual(ALL_PERMISSIONS);
    for (const role of ['viewer', 'operator', 'admin', 'auditor'] as const)
      expect(ROLE_PERMISSIONS[role].length).toBeLessThan(ALL_PERMISSIONS.length);
  });

  it('build on each other from viewer over operator to admin', () => {
    expect(ROLE_PERMISSIONS.operator).toEqual(expect.arrayContaining([...ROLE_PERMISSIONS.viewer]));
    expect(ROLE_PERMISSIONS.admin).toEqual(expect.arrayContaining([...ROLE_PERMISSIONS.operator]));
  });

  it('let viewers and auditors change nothing', () => {
    const writes = /:(create|verify|restore|delete|manage|download)$/;
    expect([...ROLE_PERMISSIONS.viewer, ...ROLE_PERMISSIONS.auditor].filter((permission) => writes.test(permission))).toEqual([]);
  });

  it('keep members, keys and the audit trail from admins', () => {
    const admin: readonly string[] = ROLE_PERMISSIONS.admin;
    for (const permission of ['member:manage', 'apikey:manage', 'key:manage', 'audit:read'])
      expect(admin).not.toContain(permission);
  });
});
