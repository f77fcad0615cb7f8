import { describe, expect, it } from '@jest/globals';
import { EngineError } from '../errors.js';
import { describeConnection, parsePostgresUrl, validateConnection } from './connection.js';

const rules = { allowUnixSockets: false };

function refusal(url: string, allowUnixSockets = false): EngineError {
  try {
    parsePostgresUrl(url, { allowUnixSockets });
  } catch (error) {
    if (error instanceof EngineError) return error;
    throw error;
  }
  throw new Error(`${url} was accepted`);
}

describe('parsePostgresUrl', () => {
  it.each([
    ['postgres://u:p@h/d', { host: 'h', port: 5432, database: 'd', user: 'u', password: 'p' }],
    ['postgresql://u@h:6000/d?', { host: 'h', port: 6000, database: 'd', user: 'u' }],
    ['POSTGRES://u:p@[::1]:5433/d', { host: '::1', port: 5433, database: 'd', user: 'u', password: 'p' }],
    [
      'postgres://a%40b:p%3A%2F%23%3F%25@h/my%20db',
      { host: 'h', port: 5432, database: 'my db', user: 'a@b', password: 'p:/#?%' },
    ],
    ['postgres://u:p#q?r:s@h/d', { host: 'h', port: 5432, database: 'd', user: 'u', password: 'p#q?r:s' }],
    ['postgres://u:p@h/host=evil', { host: 'h', port: 5432, database: 'host=evil', user: 'u', password: 'p' }],
    ['postgres://u:p@h/%C3%9Cn%C3%AF%22%3B--', { host: 'h', port: 5432, database: 'Ünï";--', user: 'u', password: 'p' }],
    [
      'postgres://postgres.ref:p@aws-0-eu.pooler.example.com:5432/postgres',
      { host: 'aws-0-eu.pooler.example.com', port: 5432, database: 'postgres', user: 'postgres.ref', password: 'p' },
    ],
  ])('reads %s', (url, expected) => {
    expect(parsePostgresUrl(url, rules)).toEqual({ ...expected, tls: { mode: 'prefer' } });
  });

  it('takes sslmode and ignores what the server sets itself', () => {
    const connection = parsePostgresUrl('postgres://u:p@h/d?sslmode=verify-full&connect_timeout=1&application_name=x', rules);
    expect(connection.tls).toEqual({ mode: 'verify-full' });
  });

  it.each([
    'service',
    'options',
    'passfile',
    'sslkey',
    'sslcert',
    'sslrootcert',
    'host',
    'hostaddr',
    'port',
    'user',
    'password',
    'dbname',
    'pgbouncer',
    'target_session_attrs',
  ])('refuses the keyword %s and names it, but not its value', (keyword) => {
    const error = refusal(`postgres://u:p@h/d?${keyword}=canary-value`);
    expect(error.code).toBe('CONNECTION_INVALID');
    expect(error.message).toContain(`"${keyword}"`);
    expect(`${error.message} ${error.hint}`).not.toContain('canary');
  });

  it.each([
    ['a keyword hidden by percent-encoding', 'postgres://u:p@h/d?s%65rvice=x', /"service"/],
    ['a host list', 'postgres://u:p@h1,h2/d', /several hosts/],
    ['a host list with ports', 'postgres://u:p@h1:1,h2:2/d', /several hosts/],
    ['a host list hidden by percent-encoding', 'postgres://u:p@h1%2Ch2/d', /several hosts/],
    ['a unix socket', 'postgres://u:p@%2Ftmp/d', /unix socket/],
    ['an abstract socket', 'postgres://u:p@%40abstract/d', /unix socket/],
    ['an empty host', 'postgres:///d', /unix socket/],
    ['a host with a leading dash', 'postgres://u:p@-h/d', /neither a name nor an address/],
    ['a host with a NUL', 'postgres://u:p@h%00x/d', /neither a name/],
    ['a host with a space', 'postgres://u:p@h%20host=evil/d', /neither a name/],
    ['a user with a leading dash', 'postgres://-u:p@h/d', /user name starts with/],
    ['a database with a leading dash', 'postgres://u:p@h/-d', /database name starts with/],
    ['a database with a newline', 'postgres://u:p@h/a%0Ab', /control character/],
    ['a database with a NUL', 'postgres://u:p@h/a%00b', /control character/],
    ['a password with a NUL', 'postgres://u:p%00@h/d', /NUL/],
    ['broken percent-encoding', 'postgres://u:%zz@h/d', /percent-encoded/],
    ['no user', 'postgres://h/d', /no user name/],
    ['no database', 'postgres://u:p@h', /no database name/],
    ['port 0', 'postgres://u:p@h:0/d', /port/],
    ['port 65536', 'postgres://u:p@h:65536/d', /port/],
    ['a port that is no number', 'postgres://u:p@h:5432x/d', /port/],
    ['two TLS modes', 'postgres://u:p@h/d?sslmode=require&sslmode=disable', /twice/],
    ['an unknown TLS mode', 'postgres://u:p@h/d?sslmode=allow', /TLS mode/],
    ['another scheme', 'mysql://u:p@h/d', /postgres:\/\//],
    ['connection strings of libpq', 'host=evil dbname=x', /postgres:\/\//],
    ['names longer than any', `postgres://u:p@h/${'d'.repeat(256)}`, /longer/],
  ])('refuses %s', (_what, url, pattern) => {
    const error = refusal(url);
    expect(error.code).toBe('CONNECTION_INVALID');
    expect(error.message).toMatch(pattern);
    expect(error.hint).not.toBe('');
  });

  it.each(['postgres://u:canary/pw@h/d', 'postgres://u:canary@pw@h/d', 'postgres://u:canary%zz@h/d', 'postgres://canary:canary'])(
    'does not repeat a password that stands in the wrong place: %s',
    (url) => {
      const { message, hint } = refusal(url);
      expect(`${message} ${hint}`).not.toContain('canary');
    },
  );

  it('takes the folder of a unix socket where that is allowed', () => {
    expect(parsePostgresUrl('postgres://u@%2Fvar%2Frun/d', { allowUnixSockets: true }).host).toBe('/var/run');
    expect(refusal('postgres:///d', true).message).toMatch(/names no host/);
  });
});

describe('validateConnection', () => {
  it('refuses a private key in the place of the CA certificate', () => {
    const ca = '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----';
    expect(() => validateConnection({ host: 'h', database: 'd', user: 'u', tls: { mode: 'verify-full', ca } }, rules)).toThrow(
      /private key/,
    );
  });

  it('refuses a CA that is no certificate', () => {
    expect(() => validateConnection({ host: 'h', database: 'd', user: 'u', tls: { ca: 'hello' } }, rules)).toThrow(
      /cannot be read/,
    );
  });

  it('leaves an empty password out', () => {
    expect(validateConnection({ host: 'h', database: 'd', user: 'u', password: '' }, rules)).not.toHaveProperty('password');
  });
});

describe('describeConnection', () => {
  it('puts IPv6 addresses in brackets', () => {
    expect(describeConnection({ host: '::1', port: 5432, database: 'd' })).toBe('[::1]:5432/d');
  });
});
