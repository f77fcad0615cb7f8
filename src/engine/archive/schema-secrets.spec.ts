import { describe, expect, it } from '@jest/globals';
import { roleStatementWithoutPassword, withoutSecrets } from './schema-secrets.js';

describe('the SQL of an object, as it may be shown', () => {
  it('has no password of a user mapping, whatever the option is called', () => {
    const defn = `CREATE USER MAPPING FOR keeper SERVER far OPTIONS (\n    password 'it''s secret; x',\n    sslkey '/k',\n    "user" 'reader'\n);\n`;
    expect(withoutSecrets({ desc: 'USER MAPPING', defn })).toBe(
      `CREATE USER MAPPING FOR keeper SERVER far OPTIONS (\n    password '***',\n    sslkey '***',\n    "user" 'reader'\n);\n`,
    );
  });

  it('keeps where a foreign server is, and masks what opens it', () => {
    const defn = `CREATE SERVER far FOREIGN DATA WRAPPER x OPTIONS (host 'far.example', api_token 't0p', "passWord" 'p');`;
    expect(withoutSecrets({ desc: 'SERVER', defn })).toBe(
      `CREATE SERVER far FOREIGN DATA WRAPPER x OPTIONS (host 'far.example', api_token '***', "passWord" '***');`,
    );
  });

  it.each([
    ['host=a password=canary user=b', 'host=a password=*** user=b'],
    ["host=a password=''can ary'' user=b", 'host=a password=*** user=b'],
    ['postgresql://u:canary@h/d', 'postgresql://u:***@h/d'],
    ['host=a password=canary', 'host=a password=***'],
  ])('masks the password in the connection of a subscription: %s', (connection, shown) => {
    const sql = (text: string) => `CREATE SUBSCRIPTION s CONNECTION '${text}' PUBLICATION p WITH (connect = false);`;
    expect(withoutSecrets({ desc: 'SUBSCRIPTION', defn: sql(connection) })).toBe(sql(shown));
  });

  it('leaves other objects as they are', () => {
    const defn = `CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$SELECT 'password'$$;`;
    expect(withoutSecrets({ desc: 'FUNCTION', defn })).toBe(defn);
  });

  it('has no password of a role', () => {
    expect(roleStatementWithoutPassword(`ALTER ROLE a WITH LOGIN PASSWORD 'SCRAM-SHA-256$4096:x' VALID UNTIL 'infinity'`)).toBe(
      `ALTER ROLE a WITH LOGIN PASSWORD '***' VALID UNTIL 'infinity'`,
    );
  });
});
