/**
 * Measures how soon an event reaches its receiver: `npm run bench:webhooks`, or `npm run bench:webhooks -- --events 5000 --rate 50`.
 * Events come in as reports of backups, and the time runs from the moment in the event to its arrival. Once with the embedded catalog, once
 * with one in a PostgreSQL.
 */
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { addressOf } from './bench/server.mjs';
import { buildIfNeeded } from './build.mjs';

const { values: options } = parseArgs({
  options: { events: { type: 'string', default: '1000' }, rate: { type: 'string', default: '20' } },
});
const EVENTS = Number(options.events);
const PER_SECOND = Number(options.rate);
const MOST_P99_MS = 2000;
const KEY = 'bsk_bench_0123456789abcdef0123456789abcdef';
const SECRET = 'the-secret-of-the-bench';
const dist = pathToFileURL(`${process.cwd()}/dist/`);

if (!(EVENTS >= 1) || !(PER_SECOND > 0)) throw new Error('Say --events and --rate as positive numbers.');
await buildIfNeeded();
const { ThrowawayCluster } = await import(new URL('engine/postgres/throwaway-cluster.js', dist));
const cluster = await ThrowawayCluster.start();
const folder = await mkdtemp(join(tmpdir(), 'backstay-bench-webhooks-'));
try {
  const { user, password, host, port } = cluster.connection('postgres');
  const url = `postgresql://${user}:${encodeURIComponent(password)}@${host}:${port}/postgres`;
  const worst = [
    await measure('embedded catalog', { DATA_DIR: join(folder, 'embedded') }),
    await measure('shared catalog', {
      DATA_DIR: join(folder, 'shared'),
      DATABASE_URL: url,
      SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
    }),
  ];
  const good = worst.every((p99) => p99 < MOST_P99_MS);
  process.stdout.write(good ? 'Within the limits.\n' : 'NOT within the limits.\n');
  process.exitCode = good ? 0 : 1;
} finally {
  await cluster.stop();
  await rm(folder, { recursive: true, force: true });
}

async function measure(name, env) {
  const waits = [];
  const receiver = createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      waits.push(Date.now() - Date.parse(JSON.parse(Buffer.concat(chunks)).timestamp));
      response.end();
    });
  }).listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  const child = spawn(process.execPath, ['dist/main.js'], {
    env: {
      PATH: process.env.PATH,
      PORT: '0',
      HOST: '127.0.0.1',
      LOG_LEVEL: 'silent',
      BOOTSTRAP_API_KEY: KEY,
      WEBHOOK_SECRET: SECRET,
      OUTBOUND_ALLOW: '127.0.0.1',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const server = await addressOf(child);
    const target = `http://127.0.0.1:${receiver.address().port}/`;
    await send(`${server}/api/webhooks/endpoints`, { 'x-api-key': KEY }, { url: target, events: ['backup.*'] });
    const startedAt = performance.now();
    for (let n = 0; n < EVENTS; n += 1) {
      const backupId = `backup_${new Date(Date.UTC(2025, 0, 1) + n * 1000).toISOString().slice(0, 19).replace('T', '_').replaceAll(':', '-')}`;
      await send(`${server}/api/webhooks/backup-complete`, { 'x-webhook-signature': SECRET }, { backupId, status: 'completed' });
      await delay(Math.max(0, startedAt + ((n + 1) * 1000) / PER_SECOND - performance.now()));
    }
    const seconds = (performance.now() - startedAt) / 1000;
    const deadline = Date.now() + 60_000;
    while (waits.length < EVENTS && Date.now() < deadline) await delay(50);
    if (waits.length < EVENTS) throw new Error(`${EVENTS - waits.length} of ${EVENTS} events did not arrive.`);
    waits.sort((a, b) => a - b);
    const at = (share) => waits[Math.min(waits.length - 1, Math.ceil(waits.length * share) - 1)];
    process.stdout.write(
      `${name.padEnd(17)} ${waits.length} events, ${(EVENTS / seconds).toFixed(0)} a second: median ${at(0.5)} ms, p99 ${at(0.99)} ms (below ${MOST_P99_MS} ms), longest ${at(1)} ms\n`,
    );
    return at(0.99);
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
    receiver.closeAllConnections();
    receiver.close();
  }
}

async function send(url, headers, body) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(60_000),
  });
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${await response.text()}`);
}
