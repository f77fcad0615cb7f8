import { describe, expect, it } from '@jest/globals';
import { databaseArgument, pgEnvironment } from './environment.js';
import { startupOptions } from './settings.js';

const connection = { host: 'h', port: 5432, database: 'd=1', user: 'u', password: 'p', tls: { mode: 'require' as const } };

describe('pgEnvironment', () => {
  it('lets nothing of our own environment through', () => {
    process.env.CANARY_SECRET = 'canary';
    try {
      expect(JSON.stringify(pgEnvironment(connection, { applicationName: 'a' }))).not.toContain('canary');
    } finally {
      delete process.env.CANARY_SECRET;
    }
  });

  it('gives the connection in variables, the database name as it is', () => {
    expect(pgEnvironment(connection, { applicationName: 'backstay:1' })).toMatchObject({
      PGHOST: 'h',
      PGPORT: '5432',
      PGDATABASE: 'd=1',
      PGUSER: 'u',
      PGPASSWORD: 'p',
      PGSSLMODE: 'require',
      PGAPPNAME: 'backstay:1',
      PGPASSFILE: '/dev/null',
      PGSERVICEFILE: '/dev/null',
    });
  });

  it('verifies the chain where a CA was given with require', () => {
    const withCa = { ...connection, tls: { mode: 'require' as const, ca: 'PEM' } };
    expect(pgEnvironment(withCa, { applicationName: 'a', caFile: '/ca.pem' })).toMatchObject({
      PGSSLMODE: 'verify-ca',
      PGSSLROOTCERT: '/ca.pem',
    });
  });
});

describe('startupOptions', () => {
  it('escapes spaces and backslashes, and lets the extra settings win', () => {
    const options = startupOptions({ statement_timeout: '5', x: 'a b\\c' });
    expect(options).toContain('-c DateStyle=ISO,\\ MDY');
    expect(options).toContain('-c statement_timeout=5');
    expect(options).not.toContain('statement_timeout=0');
    expect(options).toContain('-c x=a\\ b\\\\c');
  });
});

describe('databaseArgument', () => {
  it('quotes what libpq would expand', () => {
    expect(databaseArgument("a'b\\c host=evil")).toBe("dbname='a\\'b\\\\c host=evil'");
  });
});
