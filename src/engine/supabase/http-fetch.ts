import { Agent as HttpAgent, type IncomingMessage, request as plainRequest } from 'node:http';
import { Agent as HttpsAgent, request as secureRequest } from 'node:https';
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { setTimeout as pause } from 'node:timers/promises';

export interface HttpFetchOptions {
  /** How long a connection may stand still. */
  timeoutMs: number;
  /** How often a call is tried that gets no answer, or one that says to come again. */
  maxAttempts: number;
  /** The pause before the second try; each further one is twice as long, with jitter. */
  firstPauseMs: number;
  /** Checks each address that is connected to. */
  lookup?: (hostname: string, options: object, callback: (...args: never[]) => void) => void;
}

const LONGEST_PAUSE_MS = 10_000;
const BODILESS = new Set([204, 205, 304]);

/**
 * A `fetch` for clients of a store: every address that it connects to can be checked, a connection that stands still is given up,
 * redirects are answers and never followed, and what failed is tried again. Bodies are strings or buffers.
 */
export function createHttpFetch(options: HttpFetchOptions): typeof fetch {
  const agent = { keepAlive: true, maxSockets: 50, ...(options.lookup ? { lookup: options.lookup as never } : {}) };
  const agents = { plain: new HttpAgent(agent), secure: new HttpsAgent(agent) };
  return async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input);
    for (let attempt = 1; ; attempt += 1) {
      const isLast = attempt >= options.maxAttempts;
      let wait: number | undefined;
      try {
        const answer = await send(url, init, agents, options.timeoutMs);
        const status = answer.statusCode ?? 0;
        if (isLast || (status < 500 && status !== 429)) return responseOf(answer);
        wait = Number(answer.headers['retry-after']) * 1000;
        answer.destroy();
      } catch (error) {
        if (isLast || init.signal?.aborted) throw error;
      }
      const growing = options.firstPauseMs * 2 ** (attempt - 1) * (0.5 + Math.random());
      await pause(Math.min(LONGEST_PAUSE_MS, Math.max(growing, wait || 0)), undefined, { signal: init.signal ?? undefined });
    }
  };
}

function send(
  url: URL,
  init: RequestInit,
  agents: { plain: HttpAgent; secure: HttpsAgent },
  timeoutMs: number,
): Promise<IncomingMessage> {
  const body = init.body === undefined || init.body === null ? undefined : (init.body as string | Uint8Array);
  const headers = Object.fromEntries(new Headers(init.headers));
  if (body !== undefined) headers['content-length'] = String(Buffer.byteLength(body));
  const shared = { method: init.method ?? 'GET', headers, signal: init.signal ?? undefined };
  return new Promise((resolve, reject) => {
    const request =
      url.protocol === 'https:'
        ? secureRequest(url, { ...shared, agent: agents.secure }, resolve)
        : plainRequest(url, { ...shared, agent: agents.plain }, resolve);
    request.setTimeout(timeoutMs, () =>
      request.destroy(Object.assign(new Error(`No byte came or went for ${timeoutMs / 1000} s.`), { code: 'ETIMEDOUT' })),
    );
    request.once('error', reject);
    request.end(body);
  });
}

function responseOf(answer: IncomingMessage): Response {
  const headers = new Headers();
  for (const [name, value] of Object.entries(answer.headers)) headers.set(name, String(value));
  const status = answer.statusCode ?? 0;
  if (BODILESS.has(status)) {
    answer.resume();
    return new Response(null, { status, headers });
  }
  return new Response(Readable.toWeb(answer) as ReadableStream<Uint8Array> as NonNullable<RequestInit['body']>, {
    status,
    headers,
  });
}
