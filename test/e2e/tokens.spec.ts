import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createHmac, generateKeyPairSync, hkdfSync, type KeyObject } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { EncryptJWT, SignJWT } from 'jose';
import { IssuerKeys } from '../../src/auth/tokens/issuer-keys.js';
import { Settings } from '../../src/config/settings.js';
import { useServer } from '../support/server.js';

interface Me {
  name: string;
  organization: { role: string };
}

const AUTHJS_SECRET = 'a secret of the application, long enough';
const LEGACY_SECRET = 'a legacy secret of the project, long enough';
const COOKIE = '__Secure-authjs.session-token';
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const other = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });

/** An issuer of tokens; what it publishes and whether it answers can be changed. */
let issuer: Server;
let base: string;
let published: object[];
let isDown = false;
let asked = 0;

const jwk = (key: KeyObject, kid: string, alg: string) => ({ ...key.export({ format: 'jwk' }), kid, alg, use: 'sig' });

beforeAll(async () => {
  published = [jwk(rsa.publicKey, 'rsa-1', 'RS256'), jwk(ec.publicKey, 'ec-1', 'ES256')];
  issuer = createServer((request, response) => {
    asked += 1;
    if (isDown || request.url?.startsWith('/down')) return response.writeHead(500).end();
    const body = request.url?.endsWith('/openid-configuration')
      ? { issuer: `${base}/oidc`, jwks_uri: `${base}/oidc/keys` }
      : { keys: published };
    return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => issuer.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}`;
});
afterAll(() => void issuer.close());

const server = useServer(() => ({
  OUTBOUND_ALLOW: '127.0.0.1',
  AUTH_ISSUERS: JSON.stringify([
    { issuer: `${base}/oidc`, kind: 'oidc', audience: 'backstay', roleClaim: 'https://backstay/role', autoJoinRole: 'viewer' },
    { issuer: `${base}/auth/v1`, kind: 'supabase', roleClaim: 'app_metadata.role' },
    { issuer: `${base}/legacy/v1`, kind: 'supabase', algorithms: ['HS256'], secret: LEGACY_SECRET, autoJoinRole: 'viewer' },
    { issuer: `${base}/clerk`, kind: 'clerk', authorizedParties: ['https://app.example.org'], autoJoinRole: 'operator' },
    { issuer: `${base}/down`, kind: 'clerk', authorizedParties: ['https://app.example.org'] },
    { issuer: 'next', kind: 'authjs', secret: AUTHJS_SECRET, cookieName: COOKIE, autoJoinRole: 'viewer' },
    { issuer: 'next-4', kind: 'authjs', secret: AUTHJS_SECRET, autoJoinRole: 'viewer' },
  ]),
}));

interface Wish {
  header?: Record<string, unknown>;
  claims?: Record<string, unknown>;
  key?: KeyObject | Uint8Array;
  exp?: number | null;
}

const now = () => Math.floor(Date.now() / 1000);

/** A token of the OIDC issuer, unless the wish says otherwise. */
async function token({ header = {}, claims = {}, key = rsa.privateKey, exp = now() + 300 }: Wish = {}): Promise<string> {
  const all = { iss: `${base}/oidc`, aud: 'backstay', sub: 'somebody', ...(exp === null ? {} : { exp }), ...claims };
  return new SignJWT(all).setProtectedHeader({ alg: 'RS256', kid: 'rsa-1', ...header }).sign(key);
}

const supabase = (claims: object, wish: Wish = {}) =>
  token({
    header: { alg: 'ES256', kid: 'ec-1' },
    key: ec.privateKey,
    claims: { iss: `${base}/auth/v1`, aud: 'authenticated', role: 'authenticated', ...claims },
    ...wish,
  });

/** A token that no library would make. */
function forged(header: object, claims: object, signature = ''): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part(header)}.${part(claims)}.${signature}`;
}

function me(bearer: string) {
  return server.current.request<Me>('GET', '/api/auth/me', { key: null, headers: { authorization: `Bearer ${bearer}` } });
}

describe('a token of a trusted issuer', () => {
  it('of OIDC makes its bearer a member, by the claim or by autoJoinRole', async () => {
    const plain = await me(await token({ claims: { sub: 'plain', email: 'Plain@Example.org' } }));
    expect(plain.body.data).toMatchObject({ name: 'plain@example.org', organization: { role: 'viewer' } });
    const claimed = await me(await token({ claims: { sub: 'claimed', 'https://backstay/role': 'admin' } }));
    expect(claimed.body.data.organization.role).toBe('admin');
    const lowered = await me(await token({ claims: { sub: 'claimed' } }));
    expect(lowered.body.data.organization.role).toBe('viewer');
  });

  it('of Supabase has its role in app_metadata; without one it leads nowhere, and user_metadata counts for nothing', async () => {
    const admin = await me(await supabase({ sub: 's1', app_metadata: { role: 'admin' } }));
    expect(admin.body.data.organization.role).toBe('admin');
    expect((await me(await supabase({ sub: 's2', user_metadata: { role: 'owner' } }))).status).toBe(403);
    expect((await me(await supabase({ sub: 's1', user_metadata: { role: 'owner' } }))).status).toBe(403);
  });

  it('of Supabase with the legacy secret, of Clerk, and of Auth.js v5 and v4 is taken', async () => {
    const legacy = { iss: `${base}/legacy/v1`, aud: 'authenticated', role: 'authenticated' };
    const key = Buffer.from(LEGACY_SECRET);
    expect((await me(await token({ header: { alg: 'HS256', kid: undefined }, claims: legacy, key }))).status).toBe(200);
    const clerk = (azp: string) => token({ claims: { iss: `${base}/clerk`, azp } });
    expect((await me(await clerk('https://app.example.org'))).body.data.organization.role).toBe('operator');
    expect((await me(await clerk('https://evil.example.org'))).status).toBe(401);
    for (const [salt, info, length, enc] of [
      [COOKIE, `Auth.js Generated Encryption Key (${COOKIE})`, 64, 'A256CBC-HS512'],
      ['', 'NextAuth.js Generated Encryption Key', 32, 'A256GCM'],
    ] as const) {
      const make = (secret: string, expires: number, sub?: string) =>
        new EncryptJWT({ ...(sub === undefined ? {} : { sub }), email: 'next@example.org' })
          .setProtectedHeader({ alg: 'dir', enc })
          .setExpirationTime(expires)
          .encrypt(new Uint8Array(hkdfSync('sha256', secret, salt, info, length)));
      expect((await me(await make(AUTHJS_SECRET, now() + 300, 'n1'))).body).toMatchObject({ data: { name: 'next@example.org' } });
      expect((await me(await make(AUTHJS_SECRET, now() - 300, 'n1'))).status).toBe(401);
      expect((await me(await make(AUTHJS_SECRET, now() + 300))).status).toBe(401);
      expect((await me(await make('another secret altogether, long enough', now() + 300, 'n1'))).status).toBe(401);
    }
  });

  it('may be half a minute late or early, and no more', async () => {
    expect((await me(await token({ exp: now() - 15 }))).status).toBe(200);
    expect((await me(await token({ claims: { nbf: now() + 15 } }))).status).toBe(200);
    expect((await me(await token({ claims: { nbf: now() + 120 } }))).status).toBe(401);
  });
});

describe('a token that is refused', () => {
  const publicPem = rsa.publicKey.export({ type: 'spki', format: 'pem' }).toString();
  it.each<[what: string, make: () => Promise<string> | string]>([
    ['is not signed (none)', () => forged({ alg: 'none' }, { iss: `${base}/oidc`, aud: 'backstay', sub: 'x', exp: now() + 300 })],
    [
      'is not signed (nOnE)',
      () => forged({ alg: 'nOnE', kid: 'rsa-1' }, { iss: `${base}/oidc`, aud: 'backstay', sub: 'x', exp: now() + 300 }),
    ],
    [
      'is signed by HMAC with the public key',
      async () => {
        const unsigned = forged(
          { alg: 'HS256', kid: 'rsa-1' },
          { iss: `${base}/oidc`, aud: 'backstay', sub: 'x', exp: now() + 300 },
        ).slice(0, -1);
        return `${unsigned}.${createHmac('sha256', publicPem).update(unsigned).digest('base64url')}`;
      },
    ],
    ['has a kid that is a path', () => token({ header: { kid: '../../../../dev/null' }, key: other.privateKey })],
    ['has a kid that is SQL', () => token({ header: { kid: "x' OR '1'='1" }, key: other.privateKey })],
    ['has a kid that is a list', () => token({ header: { kid: ['rsa-1'] } })],
    ['names its own keys by jku', () => token({ header: { kid: 'mine', jku: `${base}/evil` }, key: other.privateKey })],
    ['names its own certificate by x5u', () => token({ header: { kid: 'mine', x5u: `${base}/evil` }, key: other.privateKey })],
    ['brings its own key', () => token({ header: { jwk: jwk(other.publicKey, 'rsa-1', 'RS256') }, key: other.privateKey })],
    ['is signed by another key under a known kid', () => token({ key: other.privateKey })],
    [
      'asks for an extension',
      () => {
        const t = forged(
          { alg: 'RS256', kid: 'rsa-1', crit: ['x'] },
          { iss: `${base}/oidc`, aud: 'backstay', sub: 'x', exp: now() + 300 },
          'eA',
        );
        return t;
      },
    ],
    ['is of another issuer', () => token({ claims: { iss: 'https://evil.example.org' } })],
    ['is of another issuer that begins alike', () => token({ claims: { iss: `${base}/oidc/` } })],
    ['is for another audience', () => token({ claims: { aud: 'another' } })],
    ['is for no audience', () => token({ claims: { aud: undefined } })],
    ['has expired', () => token({ exp: now() - 60 })],
    ['never expires', () => token({ exp: null })],
    ['has no sub', () => token({ claims: { sub: undefined } })],
    ['has a sub with a line break', () => token({ claims: { sub: 'a\r\nb' } })],
    ['is signed with an algorithm of another family', () => token({ header: { alg: 'ES256', kid: 'ec-1' }, key: ec.privateKey })],
    ['is the public key of Supabase', () => supabase({ sub: 'x', role: 'anon' })],
    ['is the server key of Supabase', () => supabase({ sub: 'x', role: 'service_role' })],
    ['is cut', async () => (await token()).slice(0, -8)],
    [
      'has changed claims',
      async () => {
        const [h, , s] = (await token()).split('.');
        return `${h}.${Buffer.from(JSON.stringify({ iss: `${base}/oidc`, aud: 'backstay', sub: 'root', exp: now() + 300 })).toString('base64url')}.${s}`;
      },
    ],
  ])('%s', async (_, make) => {
    const answer = await me(await make());
    expect([answer.status, answer.body.code]).toEqual([401, 'UNAUTHORIZED']);
  });

  it('does not help a wrong API key', async () => {
    const headers = { authorization: `Bearer ${await token()}` };
    const answer = await server.current.request('GET', '/api/auth/me', { key: 'bsk_wrong-0123456789abcdef0123456789', headers });
    expect(answer.status).toBe(401);
  });
});

describe('the keys of an issuer', () => {
  it('are asked for seldom, however many unknown keys are named', async () => {
    await me(await token());
    const before = asked;
    for (let i = 0; i < 10; i += 1) await me(await token({ header: { kid: `unknown-${i}` }, key: other.privateKey }));
    expect(asked - before).toBeLessThanOrEqual(2);
  });

  it('count no longer once the issuer has taken them back', async () => {
    const [old, next] = [0, 1].map(() => generateKeyPairSync('rsa', { modulusLength: 2048 }));
    const signed = (key: KeyObject, kid: string) => token({ header: { kid }, key, claims: { sub: 'rotating' } });
    const before = published;
    const keys = server.current.running.app.get(IssuerKeys, { strict: false });
    const issuerOf = { ...server.current.running.app.get(Settings).authIssuers[0]! };
    /** As a token with an unknown kid would make it, had a minute gone by. */
    const lookAgain = (minutes: number) => keys.find(issuerOf, { alg: 'RS256', kid: 'unknown' }, Date.now() + minutes * 60_000);
    published = [...before, jwk(old!.publicKey, 'old', 'RS256')];
    await lookAgain(1);
    expect((await me(await signed(old!.privateKey, 'old'))).status).toBe(200);
    published = [...before, jwk(next!.publicKey, 'next', 'RS256')];
    await lookAgain(2);
    expect((await me(await signed(old!.privateKey, 'old'))).status).toBe(401);
    expect((await me(await signed(old!.privateKey, 'next'))).status).toBe(401);
    expect((await me(await signed(next!.privateKey, 'next'))).status).toBe(200);
    published = before;
  });

  it('serve on while the issuer is down; where nothing is known, the answer is 503', async () => {
    await me(await token());
    isDown = true;
    expect((await me(await token({ claims: { sub: 'while-down' } }))).status).toBe(200);
    const claims = { iss: `${base}/down`, azp: 'https://app.example.org' };
    const answer = await me(await token({ claims }));
    expect([answer.status, answer.body.code]).toEqual([503, 'UNAVAILABLE']);
    isDown = false;
  });
});
