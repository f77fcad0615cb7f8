import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Block, blocksOf } from '../support/documented.js';
import { usePostgres } from '../support/postgres.js';
import { OWNER_KEY, urlOf, useServer } from '../support/server.js';

const run = promisify(execFile);
const postgres = usePostgres();
const server = useServer();
const MARK = '-- block ';
/** Tells on stderr of each request what came of it; the answer itself goes where the example wants it. */
const PROLOGUE = String.raw`set -euo pipefail
curl() { command curl -sS --write-out '%{stderr}%{http_code} %{method} %{url_effective}\n' "$@"; }
`;

/** An example, what it printed, and the sample answer that the document shows below it. */
interface Example {
  block: Block;
  printed: string;
  sample: Block | undefined;
}

let folder: string;
let examples: Example[];
let requests: { status: string; method: string; path: string }[];

beforeAll(async () => {
  await postgres.current.createSampleDatabase('shop');
  folder = await mkdtemp(join(tmpdir(), 'backstay-examples-'));
  const blocks = await blocksOf('API_EXAMPLES.md');
  const shell = blocks.filter(({ language }) => language === 'sh');
  const script = PROLOGUE + shell.map(({ text, line }) => `printf '\n${MARK}%s\n' ${line}\n${text}`).join('\n');
  const { stdout, stderr } = await run('bash', ['--norc', '-c', script], {
    cwd: folder,
    maxBuffer: 64 * 1024 * 1024,
    env: {
      PATH: process.env['PATH'],
      BASE: server.current.url,
      KEY: OWNER_KEY,
      DATABASE: urlOf(postgres.current.connection('shop')),
    },
  });
  const printed = stdout.split(`\n${MARK}`).slice(1);
  examples = shell.map((block, i) => {
    const next = blocks[blocks.indexOf(block) + 1];
    return {
      block,
      printed: (printed[i] ?? '').slice(String(block.line).length + 1),
      sample: next && next.language !== 'sh' ? next : undefined,
    };
  });
  requests = stderr
    .split('\n')
    .map((line) => /^(\d{3}) ([A-Z]+) (\S+)$/.exec(line))
    .filter((match) => match !== null)
    .map(([, status = '', method = '', url = '']) => ({ status, method, path: new URL(url).pathname }));
});

afterAll(async () => {
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** Every name in a value, such as data.source.id; entries of a list count as one. */
function namesIn(value: unknown, path = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((entry) => namesIn(entry, `${path}[]`));
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, child]) => [`${path}.${name}`, ...namesIn(child, `${path}.${name}`)]);
}

describe('the examples of docs/API_EXAMPLES.md, run from top to bottom', () => {
  it('all succeed', () => {
    expect(requests.length).toBeGreaterThan(30);
    expect(requests.filter(({ status }) => status !== '200')).toEqual([]);
  });

  it('show every route of the API', async () => {
    const document = JSON.parse(await readFile(join(process.cwd(), 'openapi.json'), 'utf8')) as { paths: Record<string, object> };
    const missing = Object.entries(document.paths).flatMap(([path, verbs]) => {
      const form = new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`);
      return Object.keys(verbs)
        .filter((verb) => !requests.some((request) => request.method === verb.toUpperCase() && form.test(request.path)))
        .map((verb) => `${verb.toUpperCase()} ${path}`);
    });
    expect(missing).toEqual([]);
  });

  it('are answered in the envelope, and as the samples below them say', () => {
    const samples = examples.filter(({ sample }) => sample?.language === 'json');
    expect(samples.length).toBeGreaterThan(20);
    for (const { block, printed, sample } of samples) {
      const answer = JSON.parse(printed) as { success: boolean };
      expect({ line: block.line, success: answer.success }).toEqual({ line: block.line, success: true });
      const names = new Set(namesIn(answer));
      const untrue = namesIn(JSON.parse(sample?.text ?? '')).filter((name) => !names.has(name));
      expect({ line: block.line, untrue }).toEqual({ line: block.line, untrue: [] });
    }
  });

  it('show an answer for every example that prints one', () => {
    const without = examples.filter(({ printed, sample }) => printed.trim() !== '' && !sample).map(({ block }) => block.line);
    expect(without).toEqual([]);
  });

  it('download what they say', async () => {
    const read = (name: string) => readFile(join(folder, name));
    expect((await read('database.dump.zst.age')).subarray(0, 21).toString()).toBe('age-encryption.org/v1');
    expect((await read('database.dump')).subarray(0, 5).toString()).toBe('PGDMP');
    expect((await read('globals.sql')).toString()).toContain('CREATE ROLE');
  });

  it('leave the database as it was', async () => {
    const rows = await postgres.current.query<{ datname: string }>(
      'postgres',
      `SELECT datname FROM pg_database WHERE datname LIKE 'shop%'`,
    );
    expect(rows.map(({ datname }) => datname)).toEqual(expect.arrayContaining(['shop', 'shop_copy']));
    expect(rows.map(({ datname }) => datname)).not.toContain('shop_other');
  });
});
