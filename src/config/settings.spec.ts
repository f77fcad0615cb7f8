import { describe, expect, it } from '@jest/globals';
import { loadSettings, SettingsError } from './settings.js';

describe('settings', () => {
  it('have a working default for everything', () => {
    const settings = loadSettings({}, false);
    expect(settings).toMatchObject({
      port: 3000,
      role: 'all',
      trashDays: 3,
      logFormat: 'json',
      rateLimits: { default: 10, strict: 3, lenient: 60 },
    });
    expect(settings.dataDir).toMatch(/\/data$/);
  });

  it('report every fault in one message and print no secret', () => {
    const env = {
      PORT: 'no',
      ROLE: 'king',
      BOOTSTRAP_API_KEY: 'canary-key',
      SECRET_KEY: 'canary-secret',
      DATABASE_URL: 'mysql://u:canary-pw@h/d',
      BACKUP_RECIPIENTS: 'AGE-SECRET-KEY-1CANARY',
      CORS_ORIGINS: 'https://a/b',
    };
    const error = (() => {
      try {
        loadSettings(env, false);
      } catch (caught) {
        return caught as SettingsError;
      }
      throw new Error('it was taken');
    })();
    expect(error).toBeInstanceOf(SettingsError);
    for (const name of Object.keys(env)) expect(error.message).toContain(name);
    expect(error.message.toLowerCase()).not.toMatch(/canary/);
  });

  it('ask for SECRET_KEY as soon as the catalog is shared', () => {
    expect(() => loadSettings({ DATABASE_URL: 'postgresql://u@h/d' }, false)).toThrow(/SECRET_KEY is needed with DATABASE_URL/);
  });

  it.each(['?service=x', '?options=-c', 'x?passfile=/etc/x'])(
    'check the source as any other, and repeat nothing of it: %s',
    (rest) => {
      const load = () => loadSettings({ SOURCE_DATABASE_URL: `postgresql://u:canary@h/d${rest}`, PORT: 'x' });
      expect(load).toThrow(/2 faults[^]*PORT[^]*SOURCE_DATABASE_URL can't be used: The connection keyword/);
      expect(load).toThrow(expect.not.stringContaining('canary') as never);
    },
  );

  it.each([
    ['?sslmode=canary', /an sslmode that is not known/],
    ['?sslmode=verify-ca', /no sslrootcert/],
    ['?sslrootcert=/canary', /a file as sslrootcert that can't be read/],
    ['?sslmode=disable&sslmode=require', /the keyword "sslmode" twice/],
    ['?pgbouncer=canary', /the keyword "pgbouncer", which is not known/],
    ['%ZZ', /not well percent-encoded/],
  ])('check the URL of the catalog before it is used, and repeat no value of it: %s', (rest, fault) => {
    const load = () => loadSettings({ DATABASE_URL: `postgresql://u:canary@h/d${rest}`, SECRET_KEY: 'A'.repeat(43) }, false);
    expect(load).toThrow(fault);
    expect(load).toThrow(expect.not.stringContaining('canary') as never);
  });

  it('check the server for drills as a source, and repeat nothing of it', () => {
    const load = () => loadSettings({ DRILL_DATABASE_URL: 'postgresql://u:canary@h/d?service=x' }, false);
    expect(load).toThrow(/DRILL_DATABASE_URL can't be used: The connection keyword/);
    expect(load).toThrow(expect.not.stringContaining('canary') as never);
  });

  it('lock what lies in the bucket only with a number of days', () => {
    const env = { S3_BUCKET: 'b', S3_ACCESS_KEY_ID: 'id', S3_SECRET_ACCESS_KEY: 'secret' };
    expect(loadSettings(env, false).s3).not.toHaveProperty('objectLock');
    const locked = { ...env, S3_OBJECT_LOCK: 'compliance', S3_OBJECT_LOCK_DAYS: '30' };
    expect(loadSettings(locked, false).s3).toMatchObject({ objectLock: 'compliance', objectLockDays: 30 });
    for (const wrong of [
      { S3_OBJECT_LOCK_DAYS: '' },
      { S3_OBJECT_LOCK: '' },
      { S3_OBJECT_LOCK: 'yes' },
      { S3_OBJECT_LOCK_DAYS: '366' },
    ])
      expect(() => loadSettings({ ...locked, ...wrong }, false)).toThrow(/S3_OBJECT_LOCK/);
  });

  it('refuse to split the roles over an embedded catalog', () => {
    expect(() => loadSettings({ ROLE: 'worker' }, false)).toThrow(/ROLE is worker/);
  });

  it('count an empty variable as none', () => {
    expect(loadSettings({ PORT: '', DATABASE_URL: ' ' }, false)).toMatchObject({ port: 3000, databaseUrl: undefined });
  });
});
