import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { peakMemory, residentBytes } from './measure.mjs';

const KEY = 'bsk_bench_0123456789abcdef0123456789abcdef';
const ANSWERS_WITHIN_MS = 60_000;

/** One backup by the real server, over HTTP. Its memory is read from outside: idle before it, the peak while it ran. */
export async function serverRun({ dist, folder, connection }) {
  const { user, password, host, port, database } = connection;
  const child = spawn(process.execPath, [fileURLToPath(new URL('main.js', dist))], {
    env: {
      PATH: process.env.PATH,
      PORT: '0',
      HOST: '127.0.0.1',
      DATA_DIR: join(folder, 'server'),
      LOG_LEVEL: 'silent',
      BOOTSTRAP_API_KEY: KEY,
      SOURCE_DATABASE_URL: `postgresql://${user}:${encodeURIComponent(password)}@${host}:${port}/${database}?sslmode=disable`,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const url = await addressOf(child);
    await call(url, 'GET', '/api/backups/list');
    const idleBytes = await settledMemory(child.pid);
    const peak = peakMemory(child.pid);
    const created = await call(url, 'POST', '/api/backups/create?wait=240', { type: 'database' });
    const data = await ended(url, created.data);
    if (data.status !== 'completed') throw new Error(`The server's backup is ${data.status}: ${JSON.stringify(data.error)}`);
    return { seconds: data.durationMs / 1000, idleBytes, grownBytes: peak() - idleBytes };
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
}

export function addressOf(child) {
  return new Promise((resolve, reject) => {
    let printed = '';
    child.stdout.on('data', (chunk) => {
      printed += chunk;
      const url = /listens on (\S+)/.exec(printed)?.[1];
      if (url) resolve(url);
    });
    child.once('exit', () => reject(new Error(`The server did not start: ${printed}`)));
  });
}

async function call(url, method, path, body) {
  const response = await fetch(url + path, {
    method,
    headers: { 'x-api-key': KEY, 'content-type': 'application/json' },
    signal: AbortSignal.timeout(ANSWERS_WITHIN_MS * 5),
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  const answer = await response.json();
  if (!answer.success) throw new Error(`${method} ${path}: ${answer.error}`);
  return answer;
}

async function ended(url, backup) {
  let now = backup;
  while (['queued', 'running'].includes(now.status)) {
    await delay(5000);
    now = (await call(url, 'GET', `/api/backups/${backup.id}/details`)).data;
  }
  return now;
}

/** Resident memory once it has stopped moving by more than 1 %. */
async function settledMemory(pid) {
  let before = residentBytes(pid);
  for (let round = 0; round < 30; round++) {
    await delay(1000);
    const now = residentBytes(pid);
    if (Math.abs(now - before) < before * 0.01) return now;
    before = now;
  }
  return before;
}
