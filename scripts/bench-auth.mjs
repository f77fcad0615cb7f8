/**
 * What it costs to know who calls: `npm run bench:auth`, or `npm run bench:auth -- [rounds, 60 unless given] [requests per round, 200]`.
 * One route, GET /api/status/live, is asked without credentials, with an API key, with a session's token and with a signed token of an
 * issuer. It is public and looks credentials up all the same, so both sides do the same work but for that, and as little of it as any
 * route: the ratio is the worst there is. All go by turns in one run, over one kept connection each; medians of rounds are compared.
 */
import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SignJWT } from 'jose';
import { median } from './bench/measure.mjs';
import { addressOf } from './bench/server.mjs';
import { buildIfNeeded, ROOT } from './build.mjs';

const KEY = 'bsk_bench_0123456789abcdef0123456789abcdef';
const PASSWORD = 'violet harbour nineteen';
const MOST_RATIO = 1.15;
const [rounds, perRound] = [Number(process.argv[2] ?? 60), Number(process.argv[3] ?? 200)];
if (![rounds, perRound].every((count) => Number.isInteger(count) && count >= 1)) {
  process.stderr.write('Give the numbers of rounds and of requests per round as whole numbers from 1.\n');
  process.exit(1);
}
await buildIfNeeded();
const dataDir = await mkdtemp(join(tmpdir(), 'backstay-bench-auth-'));
const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const issuer = createServer((_, response) =>
  response.end(JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k', alg: 'RS256', use: 'sig' }] })),
);
issuer.listen(0, '127.0.0.1');
await once(issuer, 'listening');
const base = `http://127.0.0.1:${issuer.address().port}`;
const child = spawn(process.execPath, [join(ROOT, 'dist/main.js')], {
  env: {
    PATH: process.env.PATH,
    PORT: '0',
    HOST: '127.0.0.1',
    DATA_DIR: dataDir,
    LOG_LEVEL: 'silent',
    BOOTSTRAP_API_KEY: KEY,
    RATE_LIMIT_DEFAULT: '0',
    RATE_LIMIT_STRICT: '0',
    RATE_LIMIT_LENIENT: '0',
    OUTBOUND_ALLOW: '127.0.0.1',
    AUTH_ISSUERS: JSON.stringify([
      { issuer: base, kind: 'oidc', jwksUri: `${base}/keys`, audience: 'backstay', autoJoinRole: 'viewer' },
    ]),
  },
  stdio: ['ignore', 'pipe', 'inherit'],
});
try {
  process.exitCode = await bench(await addressOf(child));
} finally {
  child.kill('SIGTERM');
  await once(child, 'exit');
  issuer.close();
  await rm(dataDir, { recursive: true, force: true });
}

async function bench(url) {
  const callers = Object.entries(await credentials(url)).map(([name, headers]) => ({
    name,
    headers,
    agent: new Agent({ keepAlive: true, maxSockets: 1 }),
    perRequest: [],
  }));
  for (const { name, headers, agent } of callers) {
    const { status } = await ask(url, headers, agent, name === 'nobody' ? '/api/status/live' : '/api/auth/me');
    if (status !== 200) throw new Error(`With ${name} the answer is ${status}.`);
  }
  // Two rounds to warm up, then each round in another order.
  for (let round = -2; round < rounds; round += 1)
    for (let i = 0; i < callers.length; i += 1) {
      const { headers, agent, perRequest } = callers[(i + round + 2) % callers.length];
      const from = performance.now();
      for (let n = 0; n < perRound; n += 1) await ask(url, headers, agent, '/api/status/live');
      if (round >= 0) perRequest.push((performance.now() - from) / perRound);
    }
  for (const { agent } of callers) agent.destroy();
  const [nobody] = callers;
  const least = median(nobody.perRequest);
  process.stdout.write(`${rounds} rounds of ${perRound} requests each, by turns; medians\n`);
  let isWell = true;
  for (const { name, perRequest } of callers) {
    const ratio = median(perRequest) / least;
    if (ratio > MOST_RATIO) isWell = false;
    process.stdout.write(`${name.padEnd(14)} ${(median(perRequest) * 1000).toFixed(0).padStart(5)} us   x ${ratio.toFixed(3)}\n`);
  }
  process.stdout.write(isWell ? 'None costs more than 15 %.\n' : 'It costs more than 15 %.\n');
  return isWell ? 0 : 1;
}

/** Headers of each kind of caller. */
async function credentials(url) {
  const owner = { 'x-api-key': KEY, 'content-type': 'application/json' };
  const post = async (path, body) => {
    const response = await fetch(url + path, { method: 'POST', headers: owner, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
    return (await response.json()).data;
  };
  const { organization } = (await (await fetch(`${url}/api/auth/me`, { headers: owner })).json()).data;
  const made = await post('/api/auth/api-keys', { name: 'bench', permissions: ['backup:read'] });
  const member = { email: 'bench@example.org', password: PASSWORD };
  await post(`/api/organizations/${organization.id}/members`, { ...member, role: 'viewer' });
  const { token } = await post('/api/auth/login', member);
  const signed = await new SignJWT({ sub: 'somebody' })
    .setProtectedHeader({ alg: 'RS256', kid: 'k' })
    .setIssuer(base)
    .setAudience('backstay')
    .setExpirationTime('1h')
    .sign(privateKey);
  return {
    nobody: {},
    'API key': { 'x-api-key': made.key },
    session: { authorization: `Bearer ${token}` },
    'signed token': { authorization: `Bearer ${signed}` },
  };
}

function ask(url, headers, agent, path) {
  return new Promise((resolve, reject) => {
    const asked = request(url + path, { headers, agent }, (response) => {
      response.resume();
      response.once('end', () => resolve({ status: response.statusCode }));
    });
    asked.once('error', reject);
    asked.end();
  });
}
